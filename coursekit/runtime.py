"""The machine below a run: seeds, devices, precision, threads, signals, and the manifest that records them."""

from __future__ import annotations

import os
import platform
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from types import FrameType
from typing import Any, Literal

import numpy as np
import torch

from coursekit.errors import ArgumentError, DeviceError, StoppedError

Precision = Literal["auto", "32", "bf16", "64"]

# Measured on two cores: below about this many multiplications in a forward pass, a second thread
# spends its time waiting (the digits MLP takes ten times the CPU seconds with two).
_WORTH_A_SECOND_THREAD = 50_000_000
_PACKAGES = (
    "coursekit",
    "torch",
    "torchvision",
    "torchaudio",
    "lightning",
    "torchmetrics",
    "numpy",
    "scikit-learn",
)


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's (CPU and CUDA) generators.

    Raises:
        ArgumentError: the seed is not in [0, 2**32).
    """
    if not 0 <= seed < 2**32:
        raise ArgumentError("seed_everything", "a seed from 0 to 2**32 - 1", got=seed, fix="choose one there")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """Return the state of every generator that `seed_everything` seeds, as plain values and tensors."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": [random.getstate()[0], list(random.getstate()[1]), random.getstate()[2]],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what `random_state` returned."""
    python, (kind, keys, position, has_gauss, gauss) = state["python"], state["numpy"]
    random.setstate((python[0], tuple(python[1]), python[2]))
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])


def choose_device(name: str = "auto") -> torch.device:
    """Return the device for a setting: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`.

    Raises:
        DeviceError: the device is unknown or not on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise _unknown_device(name) from None
    if device.type == "cpu":
        return torch.device("cpu")  # without an index: there is only one
    if device.type != "cuda":
        raise _unknown_device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise DeviceError(
            "device",
            f"a CUDA device that this machine has ({count} found)",
            got=repr(name),
            fix="run on the CPU with training.device=cpu, or see what is here with `coursekit doctor`",
        )
    return device


def look_for_cuda_quickly() -> None:
    """Let PyTorch look for a GPU in the quick way where there is none.

    Every `optimizer.step` asks `torch.cuda.is_available()`. Lightning switches that question to NVML, so that processes
    can still fork afterwards; where no driver is found, each answer then takes 40 µs of searching for its library.
    """
    if torch.cuda.device_count() == 0:
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


def _unknown_device(name: str) -> DeviceError:
    return DeviceError("device", "auto, cpu, cuda or cuda:<n>", got=repr(name), fix="write training.device=auto")


def choose_precision(name: Precision, device: torch.device) -> Literal["32", "bf16", "64"]:
    """Return the precision for a setting; `auto` is bf16 mixed precision on a GPU that has it, else float32."""
    if name != "auto":
        return name
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "32"


def choose_threads(multiplications: float) -> int:
    """Return how many CPU threads one forward pass of this much work deserves.

    Args:
        multiplications: scalar multiplications in one forward pass of one mini-batch.
    """
    return 1 if multiplications < _WORTH_A_SECOND_THREAD else max(1, (os.cpu_count() or 1))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run a block with this many PyTorch threads, then set the former number again."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class StopSignal:
    """Remembers that Ctrl-C or SIGTERM arrived, so that training can stop where its state is whole.

    The second Ctrl-C stops at once, as usual.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def raise_if_set(self) -> None:
        """Raise StoppedError when a signal has arrived."""
        if self.number is not None:
            raise StoppedError(self.number)

    @contextmanager
    def listening(self) -> Iterator[StopSignal]:
        """Catch SIGINT and SIGTERM inside the block; outside the main thread nothing is caught."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number


@dataclass
class Usage:
    """Wall and CPU seconds of a block, filled in when it ends."""

    wall: float = 0.0
    cpu: float = 0.0
    _start: tuple[float, float] = field(default=(0.0, 0.0), repr=False)

    def __enter__(self) -> Usage:
        self._start = (time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self._start[0]
        self.cpu = time.process_time() - self._start[1]


def peak_memory() -> int:
    """Return the largest resident set of this process so far, in bytes (0 on Windows, which does not say)."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def versions() -> dict[str, str]:
    """Return Python's version and those of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def describe_device(device: torch.device) -> str:
    """Return a device as people name it: `cpu (2 cores)` or the GPU's own name."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({os.cpu_count()} cores)"


def manifest(device: torch.device) -> dict[str, Any]:
    """Return what a later reader needs to repeat a run: time, command, system, device and versions."""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "system": f"{platform.system()} {platform.machine()}",
        "device": describe_device(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
