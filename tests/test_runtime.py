"""The machine below a run: generators, devices, threads, signals, and the record of all that."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coursekit import runtime
from coursekit.errors import ArgumentError, DeviceError, StoppedError

CPU = torch.device("cpu")


def draw() -> tuple[float, float, float, float]:
    """Return one number from every generator; NumPy's normal numbers come in pairs, one of which it keeps."""
    return random.random(), float(np.random.normal()), float(np.random.random()), float(torch.rand(()))


# Generators


@given(st.integers(0, 2**32 - 1))
def test_one_seed_gives_one_stream(seed: int) -> None:
    runtime.seed_everything(seed)
    first = [draw() for _ in range(3)]
    runtime.seed_everything(seed)
    assert [draw() for _ in range(3)] == first


def test_a_seed_reaches_every_generator() -> None:
    runtime.seed_everything(3)
    got = draw()
    assert got[0] == random.Random(3).random()
    reference = np.random.RandomState(3)
    assert got[1:3] == (reference.normal(), reference.random_sample())
    assert got[3] == float(torch.rand((), generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    words = rf"seed_everything: a seed from 0 to 2\*\*32 - 1\. Got {seed}\. Fix: choose one there\."
    with pytest.raises(ArgumentError, match=words):
        runtime.seed_everything(seed)


@given(st.integers(0, 1000), st.integers(0, 5))
def test_a_state_that_is_set_again_continues_every_stream(seed: int, before: int) -> None:
    runtime.seed_everything(seed)
    for _ in range(before):
        draw()
    state = runtime.random_state()
    expected = [draw() for _ in range(3)]
    runtime.seed_everything(seed + 1)
    runtime.set_random_state(state)
    assert [draw() for _ in range(3)] == expected


def test_a_state_survives_a_checkpoint_that_holds_no_code(tmp_path: Path) -> None:
    runtime.seed_everything(1)
    np.random.normal()
    torch.save(runtime.random_state(), tmp_path / "state.pt")
    expected = draw()
    runtime.set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == expected


# Devices and precision


@pytest.mark.parametrize("name", ["cpu", "cpu:0"])
def test_the_cpu_has_no_index(name: str) -> None:
    assert runtime.choose_device(name) == CPU


@pytest.mark.parametrize(("count", "device"), [(0, "cpu"), (1, "cuda")])
def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, count: int, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    assert runtime.choose_device() == torch.device(device)


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:1:2", "a\x00b", "mps", "meta", "CPU"])
def test_an_unknown_device_is_refused(name: str) -> None:
    words = r"device: auto, cpu, cuda or cuda:<n>\. Got .* Fix: write training\.device=auto\."
    with pytest.raises(DeviceError, match=words):
        runtime.choose_device(name)


@pytest.mark.parametrize(("count", "name"), [(0, "cuda"), (0, "cuda:0"), (1, "cuda:1"), (2, "cuda:2")])
def test_a_gpu_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch, count: int, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    words = rf"device: a CUDA device that this machine has \({count} found\)\. Got '{name}'\. Fix: run on the CPU with"
    with pytest.raises(DeviceError, match=words):
        runtime.choose_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:1"])
def test_a_gpu_that_is_here_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.choose_device(name) == torch.device(name)


@pytest.mark.parametrize(
    ("name", "device", "native", "expected"),
    [
        ("auto", "cpu", True, "32"),
        ("auto", "cuda", True, "bf16"),
        ("auto", "cuda", False, "32"),
        ("bf16", "cpu", False, "bf16"),
        ("32", "cuda", True, "32"),
        ("64", "cuda", True, "64"),
    ],
)
def test_precision(
    monkeypatch: pytest.MonkeyPatch, name: runtime.Precision, device: str, native: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    assert runtime.choose_precision(name, torch.device(device)) == expected


# Threads


def test_small_work_gets_one_thread_and_large_work_every_core() -> None:
    assert runtime.choose_threads(49_999_999) == 1
    assert runtime.choose_threads(50_000_000) == os.cpu_count()


@pytest.mark.parametrize("fails", [False, True])
def test_threads_are_restored(fails: bool) -> None:
    before = torch.get_num_threads()
    try:
        with runtime.threads(before + 1):
            assert torch.get_num_threads() == before + 1
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    assert torch.get_num_threads() == before


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_remembered_until_the_state_is_whole(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    stop = runtime.StopSignal()
    with stop.listening() as same:
        assert same is stop
        stop.raise_if_set()
        os.kill(os.getpid(), number)
        assert stop.number == number
        with pytest.raises(StoppedError, match="everything up to here is saved") as caught:
            stop.raise_if_set()
    assert caught.value.signal_number == number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_stops_at_once(number: signal.Signals) -> None:
    def interrupt_twice() -> None:
        with runtime.StopSignal().listening():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_nothing_is_caught() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with runtime.StopSignal().listening() as stop:
            seen.extend([signal.getsignal(signal.SIGINT), stop.number])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before, None]


# What is recorded


def test_usage_counts_wall_and_cpu_seconds() -> None:
    with runtime.Usage() as idle:
        time.sleep(0.05)
    with runtime.Usage() as busy:
        start = time.process_time()
        while time.process_time() - start < 0.05:
            pass
    assert idle.wall >= 0.05
    assert idle.cpu < 0.04
    assert busy.wall >= busy.cpu * 0.9 >= 0.045


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_peak_memory_is_the_kernels_high_water_mark() -> None:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = int(status.partition("VmHWM:")[2].split()[0])
    assert runtime.peak_memory() == pytest.approx(kilobytes * 1024, rel=0.01)


def test_versions_name_python_and_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    found = runtime.versions()
    assert found["python"] == sys.version.split()[0]
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"coursekit", "lightning", "torchmetrics", "numpy", "scikit-learn"} <= set(found)

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(runtime, "version", absent)
    assert set(runtime.versions()) == {"python"}


def test_the_manifest_says_when_what_and_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/some/where/coursekit", "run", "optimization"])
    found = runtime.manifest(CPU)
    assert set(found) == {"started", "command", "system", "device", "threads", "versions"}
    assert found["command"] == ["coursekit", "run", "optimization"]
    assert found["device"] == f"cpu ({os.cpu_count()} cores)"
    assert found["threads"] == torch.get_num_threads()
    assert time.strptime(found["started"], "%Y-%m-%dT%H:%M:%S%z").tm_year >= 2024


@pytest.mark.gpu
def test_a_real_gpu_is_chosen_described_and_seeded() -> None:
    device = runtime.choose_device()
    assert device.type == "cuda"
    assert torch.cuda.get_device_name(device) in runtime.describe_device(device)
    runtime.seed_everything(1)
    state = runtime.random_state()
    expected = torch.rand(4, device=device)
    runtime.set_random_state(state)
    torch.testing.assert_close(torch.rand(4, device=device), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("devices", "answer"), [(0, "0"), (1, "1")])
def test_only_without_a_gpu_it_is_looked_for_in_the_quick_way(devices, answer, monkeypatch):
    """Where there is a GPU, Lightning's way stays: it keeps processes able to fork."""
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    runtime.look_for_cuda_quickly()
    assert os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] == answer
