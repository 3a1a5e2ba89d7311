"""The fence around the learner's code in this process: time, global state, warnings, forbidden functions.

It catches honest faults and keeps one exercise from disturbing the next. It is no wall against code that
wants to cheat: that takes a process of its own.
"""

from __future__ import annotations

import math
import os
import pkgutil
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import FrameType
from typing import Any

import torch

from coursekit.errors import LessonError


class OutOfTime(BaseException):
    """The time is over. No Exception, so that `except Exception` in the learner's loop does not swallow it."""


class ForbiddenCallError(Exception):
    """The learner called what the exercise asks them to write."""


@contextmanager
def fenced(seed: int, seconds: float, tripwires: Tripwires) -> Iterator[None]:
    """Run a block of the learner's code.

    Its random numbers follow from `seed`, its warnings are ignored, forbidden functions raise, and when it is
    over, whatever global state it changed is as before.

    Args:
        seed: for the global generators of Python, NumPy and PyTorch.
        seconds: wall time that the block may take.
        tripwires: what it must not call.

    Raises:
        OutOfTime: it took longer.
    """
    with seeded(seed), restored_state(), warnings.catch_warnings(), tripwires.armed(), time_limit(seconds):
        warnings.simplefilter("ignore")
        yield


# --------------------------------------------------------------------------------------- state


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and PyTorch for a block, and restore them afterwards."""
    tensors, python, numpy = torch.get_rng_state(), random.getstate(), _numpy_state()
    _seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(tensors)
        random.setstate(python)
        if numpy is not None:
            sys.modules["numpy"].random.set_state(numpy)


@contextmanager
def restored_state() -> Iterator[None]:
    """Set all the global state of `_STATE` after a block to what it was before."""
    before = [(read(), read, write) for read, write in _STATE]
    try:
        yield
    finally:
        for value, read, write in before:
            if read() != value:
                write(value)


def _seed(seed: int) -> None:
    # `torch.manual_seed` would queue a seed, with its call stack, for every GPU that is not yet in use.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


def _numpy_state() -> Any:
    return sys.modules["numpy"].random.get_state() if "numpy" in sys.modules else None


def _set_default_device(device: torch.device) -> None:
    # "No default" reads as the CPU, and is faster than a default of the CPU.
    torch.set_default_device(None if device == torch.device("cpu") else device)


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _set_path(path: list[str]) -> None:
    sys.path[:] = path


def _set_streams(streams: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = streams


def _folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:  # the learner's code removed it
        return ""


_STATE: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _set_default_device),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda state: torch.use_deterministic_algorithms(state[0], warn_only=state[1]),
    ),
    (
        lambda: (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        lambda state: torch.backends.cudnn.set_flags(state[0], state[1], None, state[2]),
    ),
    (lambda: dict(os.environ), _set_environment),
    (lambda: list(sys.path), _set_path),
    (lambda: (sys.stdin, sys.stdout, sys.stderr), _set_streams),
    (_folder, os.chdir),
    (sys.getrecursionlimit, sys.setrecursionlimit),
]


# ---------------------------------------------------------------------------------------- time


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the block when it takes longer; outside the main thread and on Windows, never.

    Infinite seconds set no limit.

    The alarm repeats, for a loop that swallows it once. A handler and a timer that were there before, such as
    those of pytest-timeout, are set again afterwards.
    """
    here = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not here or math.isinf(seconds):
        yield
        return
    rung = False
    running = True

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal rung
        if running:
            rung = True
            raise OutOfTime

    handler = signal.signal(signal.SIGALRM, ring)
    left, interval = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), 0.2)
    started = time.monotonic()
    try:
        try:
            yield
        finally:
            running = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if handler is None else handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - started), 0.001), interval)
    if rung:  # the block swallowed it and went on
        raise OutOfTime


# ----------------------------------------------------------------------------------- forbidden


class Tripwires:
    """Functions that raise while the learner's code runs.

    A function is replaced under every name by which the modules of its package know it, a method in its class,
    a class by its `__init__`.

    Args:
        names: dotted names, such as `torch.optim.SGD.step`.

    Raises:
        LessonError: one does not exist.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._wires = _wires(names)

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Run a block in which the forbidden functions raise ForbiddenCallError."""
        if not self._wires:
            yield
            return
        known = len(sys.modules)
        try:
            for wire in self._wires:
                setattr(wire.owner, wire.name, wire.alarm)
            yield
        finally:
            for wire in self._wires:
                wire.cut()
            self._mend(list(sys.modules)[known:])

    def _mend(self, imported: list[str]) -> None:
        """Give modules that were first imported inside the fence the functions that they asked for."""
        originals = {id(wire.alarm): wire.original for wire in self._wires}
        for module in [sys.modules[name] for name in imported if sys.modules.get(name) is not None]:
            for name, value in list(vars(module).items()):
                if id(value) in originals:
                    setattr(module, name, originals[id(value)])


@dataclass(frozen=True)
class _Wire:
    """One attribute of a module or class that is replaced by an alarm."""

    owner: Any
    name: str
    original: Any
    inherited: bool
    alarm: Callable[..., Any]

    def cut(self) -> None:
        if self.inherited:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.original)


@cache
def _wires(names: tuple[str, ...]) -> tuple[_Wire, ...]:
    wires, functions = [], {}
    for dotted in names:
        try:
            target = pkgutil.resolve_name(dotted)
            owner = pkgutil.resolve_name(dotted.rpartition(".")[0])
        except (ImportError, AttributeError, ValueError):
            fix = "write a dotted name of PyTorch's"
            raise LessonError("forbids", "names that exist", got=dotted, fix=fix) from None
        if isinstance(target, type):
            wires.append(_wire(target, "__init__", _alarm(dotted)))
        elif isinstance(owner, type):
            wires.append(_wire(owner, dotted.rpartition(".")[2], _alarm(dotted)))
        else:
            functions[id(target)] = _alarm(dotted)
    packages = {dotted.partition(".")[0] for dotted in names}
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in packages]
    for module in modules if functions else ():
        found = [(name, functions[id(value)]) for name, value in vars(module).items() if id(value) in functions]
        wires += [_wire(module, name, alarm) for name, alarm in found]
    return tuple(wires)


def _wire(owner: Any, name: str, alarm: Callable[..., Any]) -> _Wire:
    return _Wire(owner, name, vars(owner).get(name), name not in vars(owner), alarm)


def _alarm(dotted: str) -> Callable[..., Any]:
    def alarm(*_: Any, **__: Any) -> Any:
        raise ForbiddenCallError(f"{dotted} does what you are asked to write here")

    return alarm
