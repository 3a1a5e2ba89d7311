"""The fence: time, state, warnings and forbidden functions."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import sys
import threading
import time
import types
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coursekit.errors import LessonError
from coursekit.grading.guard import ForbiddenCallError, OutOfTime, Tripwires, fenced, seeded, time_limit

FREE = Tripwires(())


def test_all_state_is_restored(tmp_path):
    here, path, streams = os.getcwd(), list(sys.path), (sys.stdin, sys.stdout, sys.stderr)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)["state"]["key"].copy()
    with fenced(0, 10, FREE):
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.set_num_threads(2)
        torch.set_float32_matmul_precision("medium")
        torch.autograd.set_detect_anomaly(True)
        torch.backends.cudnn.benchmark = True
        np.random.seed(3)
        os.environ["COURSEKIT_TEST"] = "1"
        os.chdir(tmp_path)
        sys.path.insert(0, "nowhere")
        sys.setrecursionlimit(5000)
        sys.stdout = None  # type: ignore[assignment]
        warnings.warn("ignored", stacklevel=1)
        warnings.simplefilter("always")
    assert torch.get_default_dtype() is torch.float32
    assert torch.ones(1).device.type == "cpu"
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == 1
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.is_anomaly_enabled()
    assert not torch.backends.cudnn.benchmark
    assert "COURSEKIT_TEST" not in os.environ
    assert (os.getcwd(), sys.path, (sys.stdin, sys.stdout, sys.stderr)) == (here, path, streams)
    assert sys.getrecursionlimit() != 5000
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert (before[2] == np.random.get_state(legacy=False)["state"]["key"]).all()


@pytest.mark.slow  # PyTorch imports its compiler for it
def test_determinism_is_restored():
    with fenced(0, 60, FREE):
        torch.use_deterministic_algorithms(True, warn_only=True)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()


def test_state_is_restored_after_an_error_too():
    def fail() -> None:
        with fenced(0, 10, FREE):
            torch.set_default_dtype(torch.float64)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_default_dtype() is torch.float32


def test_random_numbers_follow_the_seed():
    def draw(seed: int) -> tuple[float, float, float]:
        with seeded(seed):
            return float(torch.rand(())), random.random(), float(np.random.rand())

    assert draw(1) == draw(1)
    assert not set(draw(1)) & set(draw(2))


@pytest.mark.parametrize("work", ["python", "torch"])
def test_time_is_limited(work):
    def loop() -> None:
        x = torch.ones(10)
        with time_limit(0.1):
            while True:
                x = x * 1 if work == "torch" else x

    started = time.monotonic()
    with pytest.raises(OutOfTime):
        loop()
    assert time.monotonic() - started < 2


def test_a_swallowed_alarm_counts():
    def loop() -> None:
        with time_limit(0.05), contextlib.suppress(BaseException):
            while True:
                pass

    with pytest.raises(OutOfTime):
        loop()


def test_what_is_quick_passes_and_the_timer_is_off():
    with time_limit(0.05):
        pass
    time.sleep(0.1)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0 or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL


def test_an_outer_alarm_is_set_again():
    """pytest-timeout may be counting already."""
    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    left = signal.setitimer(signal.ITIMER_REAL, 0.15)
    try:
        with time_limit(5):
            time.sleep(0.02)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.14
        time.sleep(0.2)
        assert rung == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, *left)
        signal.signal(signal.SIGALRM, handler)


def test_no_limit_in_another_thread_or_without_one():
    done = []

    def work() -> None:
        with time_limit(0.01):
            time.sleep(0.05)
        done.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with time_limit(float("inf")):
        assert signal.getitimer(signal.ITIMER_REAL)[0] != float("inf")
    assert done == [1]


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("torch.nn.functional.softmax", lambda: torch.nn.Softmax(0)(torch.ones(2))),
        ("torch.nn.utils.clip_grad_norm_", lambda: torch.nn.utils.clip_grad.clip_grad_norm_([], 1.0)),
        ("torch.nn.Linear.forward", lambda: torch.nn.Linear(1, 1)(torch.ones(1))),
        ("torch.nn.Linear", lambda: torch.nn.Linear(1, 1)),
        ("torch.Tensor.softmax", lambda: torch.ones(2).softmax(0)),
    ],
    ids=["function", "alias", "method", "class", "inherited"],
)
def test_forbidden_functions_raise_inside_and_work_outside(name, call):
    call_before = F.softmax, torch.Tensor.softmax
    with (
        pytest.raises(ForbiddenCallError, match=f"{name} does what you are asked to write"),
        Tripwires((name,)).armed(),
    ):
        call()
    call()
    assert (F.softmax, torch.Tensor.softmax) == call_before
    assert "softmax" not in vars(torch.Tensor)


def test_a_subclass_of_a_forbidden_class_raises_too():
    with pytest.raises(ForbiddenCallError), Tripwires(("torch.nn.Linear",)).armed():
        type("Mine", (torch.nn.Linear,), {})(1, 1)


@pytest.mark.parametrize("name", ["torch.nothing", "nothing.at.all", "torch"])
def test_a_forbidden_name_must_exist(name):
    with pytest.raises(LessonError, match=f"names that exist. Got {name}"):
        Tripwires((name,))


def test_a_module_that_is_first_imported_inside_keeps_the_function(monkeypatch):
    """Otherwise the alarm would outlive the fence there."""
    module = types.ModuleType("a_library")
    with Tripwires(("torch.nn.functional.softmax",)).armed():
        module.softmax = F.softmax  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "a_library", module)
    assert module.softmax is F.softmax


def test_private_functions_that_do_the_work_are_forbidden_too():
    """Those of the same module whose names end as the function's does."""
    adam = importlib.import_module("torch.optim.adam")
    kept = adam._single_tensor_adam
    with fenced(0, 10, Tripwires(("torch.optim.adam.adam",))):
        for name in ("adam", "_single_tensor_adam", "_multi_tensor_adam", "_fused_adam"):
            with pytest.raises(ForbiddenCallError, match=r"torch\.optim\.adam\.adam does what you are asked"):
                getattr(adam, name)()
    assert adam._single_tensor_adam is kept
