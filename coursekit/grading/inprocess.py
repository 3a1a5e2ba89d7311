"""A bench in this process: the learner's code runs behind the fence of `guard.py`, beside the check."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from coursekit.grading.differences import identical
from coursekit.grading.guard import OutOfTime, Tripwires, fenced
from coursekit.grading.learner import Outcome, Raised, Request
from coursekit.grading.submission import MODULE_NAME, Submission
from coursekit.grading.text import printable
from coursekit.grading.values import argument, plain

# Kept, since an exercise may forbid it while the learner's code runs.
_grad = torch.autograd.grad


class MissingNameError(Exception):
    """The learner's file defines no such function or class."""


class InProcess:
    """Runs a submission in this process.

    Args:
        submission: the file; it is executed once, at the first request.
        replaced: names that get another function or class afterwards.
        tripwires: what the code must not call.
        seconds: that executing the file may take.
    """

    printed = ""  # on the terminal, or in pytest's hands

    def __init__(
        self,
        submission: Submission,
        replaced: dict[str, Any],
        *,
        tripwires: Tripwires,
        seconds: float,
    ) -> None:
        self.notes: list[str] = [submission.problem] if submission.problem else []
        self.problem = "" if submission.statements else submission.problem
        self.stubs = submission.stubs - set(replaced)
        self.mentions = submission.mentions
        self._submission = submission
        self._replaced = replaced
        self._tripwires = tripwires
        self._seconds = seconds
        self._module = submission.module()
        self._executed: Outcome | None = None

    def execute(self) -> Outcome:
        """Execute the file, if it was not yet; return what came of it, without a value."""
        if self._executed is None:
            self._executed = Outcome()
            try:
                with self._inside(0, self._seconds):
                    for statement in self._submission.statements:
                        self._execute_one(statement.code, statement.line)
            except OutOfTime:
                self._executed = Outcome(timed_out=True)
                self.notes.append(stalled(self._submission.path.name, self._seconds))
            vars(self._module).update(self._replaced)
        return self._executed

    def close(self) -> None:
        """Let go of nothing: it is all in this process."""

    def names(self, wanted: Sequence[str]) -> dict[str, Any]:
        """Return functions and classes of the executed file, for code of ours that is known to be harmless."""
        self.execute()
        return {name: vars(self._module)[name] for name in wanted}

    def perform(self, request: Request, *, seed: int, seconds: float) -> Outcome:
        """Have a request done in this process."""
        executed = self.execute()
        if executed.timed_out:
            return executed
        given = argument((request.args, request.kwargs), request.name)
        value = raised = error = None
        started = time.perf_counter()
        try:
            with self._inside(seed, seconds):
                try:
                    value = _act(request, _Names(self._submission, vars(self._module)), *given)
                except (KeyboardInterrupt, OutOfTime):
                    raise
                except BaseException as caught:  # SystemExit, and pytest.skip, among them
                    error, raised = caught, self._describe(caught)
        except OutOfTime:
            return Outcome(timed_out=True, seconds=time.perf_counter() - started)
        seconds = time.perf_counter() - started
        return Outcome(plain(value), raised, changed=_changed(request, given), seconds=seconds, error=error)

    @contextmanager
    def _inside(self, seed: int, seconds: float) -> Iterator[None]:
        with fenced(seed, seconds, self._tripwires):
            # Dataclasses and pickle look a class's module up by name.
            before = sys.modules.get(MODULE_NAME)
            sys.modules[MODULE_NAME] = self._module
            try:
                yield
            finally:
                del sys.modules[MODULE_NAME]
                if before is not None:
                    sys.modules[MODULE_NAME] = before

    def _execute_one(self, code: CodeType, line: int) -> None:
        try:
            exec(code, vars(self._module))
        except (KeyboardInterrupt, OutOfTime):
            raise
        except BaseException as error:
            raised = self._describe(error)
            place = raised.place or f"{self._submission.path.name}, line {line}"
            self.notes.append(f"{place} failed when the file was loaded: {raised}.")

    def _describe(self, error: BaseException) -> Raised:
        kinds = tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__)
        try:
            message = printable(str(error))
        except (KeyboardInterrupt, OutOfTime):
            raise
        except BaseException:
            message = "(an error whose message cannot be read)"
        if isinstance(error, SystemExit):
            message = "your code asked Python to exit"
        line, innermost = 0, False
        trace = error.__traceback__
        while trace is not None:
            innermost = trace.tb_frame.f_code.co_filename == str(self._submission.path)
            line = trace.tb_lineno if innermost else line
            trace = trace.tb_next
        text = self._submission.line(line)
        place = f"{self._submission.path.name}, line {line}: `{printable(text)}`" if line else ""
        return Raised(kinds, message, place, stub=innermost and type(error) is NotImplementedError)


def stalled(file: str, seconds: float) -> str:
    """Say that a file did not come to its end."""
    return f"{file} does not come to its end within {seconds:g} s when it is loaded."


class _Names:
    """The learner's names, for probes: a name that is not there is a finding of its own."""

    def __init__(self, submission: Submission, names: dict[str, Any]) -> None:
        self._submission = submission
        self._names = names

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise MissingNameError(f"{self._submission.path.name} defines no `{name}`")
        return self._names[name]


def _act(request: Request, names: _Names, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if request.probe is not None:
        return request.probe(names, **kwargs)
    function = getattr(names, request.name)
    if request.kind == "call":
        return function(*args, **kwargs)
    chosen = [args[place].requires_grad_() for place in request.wrt]
    output = function(*args, **kwargs)
    if not isinstance(output, Tensor):
        raise TypeError(f"{request.name} should return one tensor, and returned {type(output).__name__}")
    if not output.requires_grad:
        raise RuntimeError("no gradient can flow through what you return: somewhere it was detached")
    return output, _grad(output, chosen, torch.ones_like(output), allow_unused=True)


def _changed(request: Request, given: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[str, ...]:
    """Return the arguments that a function changed, unless its name ends in `_`, as in-place functions' do."""
    if request.kind != "call" or request.name.endswith("_"):
        return ()
    args, kwargs = given
    pairs = [(f"argument {place + 1}", part, args[place]) for place, part in enumerate(request.args)]
    pairs += [(f"`{name}`", part, kwargs[name]) for name, part in request.kwargs.items()]
    return tuple(name for name, before, after in pairs if not identical(before, plain(after)))
