"""The fence around the learner's code in this process: time, global state, warnings, forbidden functions.

It catches honest faults and keeps one exercise from disturbing the next. It is no wall against code that
wants to cheat: that takes a process of its own.
"""

from __future__ import annotations

import ctypes
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
from types import CodeType, FrameType, FunctionType
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
        self._names = names
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

    def burn(self) -> None:
        """Make the forbidden functions raise for good: for a process that serves a learner and then ends.

        A reference that the learner's code finds elsewhere, in a closure or with the garbage collector's help,
        raises too.
        """
        for wire in self._wires:
            function = wire.original
            while isinstance(function, FunctionType):
                kept = function.__code__.co_freevars  # a function keeps its closure, and its code must have room for it
                function.__code__ = _burnt(wire.dotted).replace(co_freevars=kept)
                function = vars(function).get("__wrapped__")
        for dotted in self._names:
            _burn_operators(dotted)

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
    dotted: str
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
            # All its methods: a subclass may well do without its constructor.
            methods = [name for name, method in vars(target).items() if isinstance(method, FunctionType)]
            wires += [_wire(target, name, dotted) for name in dict.fromkeys(["__init__", *methods])]
        elif isinstance(owner, type):
            wires.append(_wire(owner, dotted.rpartition(".")[2], dotted))
        else:
            functions[id(target)] = dotted
            functions |= {id(helper): dotted for helper in _helpers(target)}
    packages = {dotted.partition(".")[0] for dotted in names}
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in packages]
    for module in modules if functions else ():
        found = [(name, functions[id(value)]) for name, value in vars(module).items() if id(value) in functions]
        wires += [_wire(module, name, dotted) for name, dotted in found]
    return tuple(wires)


def _helpers(function: Any) -> Iterator[FunctionType]:
    """Yield the private functions that do a function's work in its module, such as `_single_tensor_adam` of `adam`."""
    home = sys.modules.get(getattr(function, "__module__", None) or "")
    name = getattr(function, "__name__", "")
    for other, value in list(vars(home).items()) if home and name else ():
        if isinstance(value, FunctionType) and other.startswith("_") and other.endswith(name) and value is not function:
            yield value


def _burn_operators(dotted: str) -> None:
    """Make the operator behind a function of PyTorch's raise, under every name and by every way of calling it.

    One that is a method of tensors too stays: others need it, where they do not even name it.
    """
    name = dotted.rpartition(".")[2]
    if not dotted.startswith("torch.") or hasattr(torch.Tensor, name) or not hasattr(torch.ops.aten, name):
        return
    # Not `torch.library.Library`: whoever finds that object can undo what it has done.
    library = torch._C._dispatch_library("IMPL", "aten", "", __file__, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of replacing a kernel, which is what we want
        for overload in getattr(torch.ops.aten, name).overloads():
            library.impl(name if overload == "default" else f"{name}.{overload}", "CPU", _alarm(dotted))
    _kept_for_ever(library)


def _kept_for_ever(thing: object) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _wire(owner: Any, name: str, dotted: str) -> _Wire:
    return _Wire(owner, name, vars(owner).get(name), name not in vars(owner), dotted, _alarm(dotted))


@cache
def _alarm(dotted: str) -> Callable[..., Any]:
    def alarm(*_: Any, **__: Any) -> Any:
        raise ForbiddenCallError(_forbidden(dotted))

    return alarm


@cache
def _burnt(dotted: str) -> CodeType:
    """Return the code of a function that raises, and needs nothing of the module in which it is put."""
    error = f"__import__({__name__!r}, fromlist=['_']).{ForbiddenCallError.__name__}"
    found: dict[str, Any] = {}
    exec(f"def alarm(*_, **__):\n    raise {error}({_forbidden(dotted)!r})", found)
    return found["alarm"].__code__


def _forbidden(dotted: str) -> str:
    return f"{dotted} does what you are asked to write here"
