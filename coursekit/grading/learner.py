"""The `learner` of a check: it takes plain values, has the learner's code work on them, and returns plain values.

    check  ──►  Learner  ──►  Bench  ──►  the learner's code
           ◄──  (a trace)  ◄──  Outcome

A `Bench` is where the code runs: `InProcess` of `inprocess.py` is one. All that crosses between a check and a
bench is plain (see `values.py`), so that a bench may be another process.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any, Literal, Protocol

from torch import Tensor

from coursekit.errors import LessonError
from coursekit.grading.expectations import LearnerEnded, LearnerRaised, LearnerTimedOut
from coursekit.grading.values import argument, show


@dataclass(frozen=True)
class Request:
    """Something that a check asks of the learner's code.

    Args:
        kind: `call` a function, take its `gradients`, or `run` a probe.
        name: of the function or probe.
        args: positional arguments.
        kwargs: keyword arguments.
        wrt: for `gradients`, the positions of the arguments to differentiate by.
        probe: for `run`, the probe.
    """

    kind: Literal["call", "gradients", "run"]
    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    wrt: tuple[int, ...] = ()
    probe: FunctionType | None = None

    def __str__(self) -> str:
        parts = [show(part) for part in self.args]
        parts += [f"{name}={show(part)}" for name, part in self.kwargs.items()]
        return f"{self.name}({', '.join(parts)})"


@dataclass(frozen=True)
class Raised:
    """An error of the learner's code, as text.

    Args:
        kinds: dotted names of its class and of the class's bases.
        message: of the error.
        place: file, line and text of the learner's line; empty when it was not raised inside their file.
        stub: whether it is the NotImplementedError of a stub.
    """

    kinds: tuple[str, ...]
    message: str
    place: str
    stub: bool

    def __str__(self) -> str:
        name = self.kinds[0].rpartition(".")[2]
        if self.kinds[0].startswith("coursekit.grading."):
            return self.message
        return f"{name}: {self.message}" if self.message else name


@dataclass(frozen=True)
class Outcome:
    """What came of a request.

    Args:
        value: what was returned, plain.
        raised: what was raised instead.
        timed_out: whether the time was over instead.
        ended: how the process that ran the code came to its end instead; empty when it did not.
        changed: arguments that the code changed in place.
        seconds: wall time.
        error: the error itself, for a debugger in this process.
    """

    value: Any = None
    raised: Raised | None = None
    timed_out: bool = False
    ended: str = ""
    changed: tuple[str, ...] = ()
    seconds: float = 0.0
    error: BaseException | None = None


@dataclass(frozen=True)
class Call:
    """One entry of a trace: what was asked, and what came of it."""

    request: Request
    outcome: Outcome


class Bench(Protocol):
    """Where the learner's code runs."""

    def execute(self) -> Outcome:
        """Execute the file, if it was not yet; return what came of it, without a value."""
        ...

    def perform(self, request: Request, *, seed: int, seconds: float) -> Outcome:
        """Have a request done, with this seed for the global generators and within this time."""
        ...

    def close(self) -> None:
        """Let go of all that it holds; it is not used again."""
        ...

    @property
    def problem(self) -> str:
        """Why nothing of the file can be run, in a sentence; empty when something can."""
        ...

    @property
    def stubs(self) -> frozenset[str]:
        """Names of the functions and classes that are still to be written."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What went wrong when the file was executed, in sentences."""
        ...

    @property
    def mentions(self) -> Mapping[str, frozenset[str]]:
        """Every name that the code uses, by the function or class in which it stands (see `Submission`)."""
        ...

    @property
    def printed(self) -> str:
        """The last of what the code printed; empty where that is shown elsewhere."""
        ...


class Learner:
    """What a check knows of the learner's code: `learner.NAME(...)`, `run` and `gradients`.

    Args:
        bench: where the code runs.
        trace: takes every call and what came of it.
        seed: for the global random numbers of the code; each call gets its own.
        seconds: that all calls together may take.
    """

    def __init__(self, bench: Bench, trace: list[Call], *, seed: int, seconds: float) -> None:
        self._bench = bench
        self._trace = trace
        self._seed = seed
        self._left = seconds
        self._seconds = seconds

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._ask(Request("call", name, args, kwargs))

        return call

    def run(self, probe: Callable[..., Any], **inputs: Any) -> Any:
        """Run a probe beside the learner's code.

        Args:
            probe: a function of the lesson's `probes.py`; its first argument holds the learner's names.
            inputs: its other arguments, plain.

        Returns:
            What the probe returned, plain.
        """
        if not isinstance(probe, FunctionType) or "." in probe.__qualname__:
            raise LessonError("learner.run", "a function of probes.py", got=repr(probe), fix="move the probe there")
        return self._ask(Request("run", probe.__name__, (), inputs, probe=probe))

    def gradients(
        self, name: str, *args: Any, wrt: tuple[int, ...] = (0,), **kwargs: Any
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Differentiate the sum of what a function returns.

        Args:
            name: of the learner's function; it returns one tensor.
            args: its positional arguments.
            wrt: positions of the arguments to differentiate by.
            kwargs: its keyword arguments.

        Returns:
            (output, gradients): a gradient is None where the output does not depend on that argument.
        """
        return self._ask(Request("gradients", name, args, kwargs, wrt=wrt))

    def _ask(self, request: Request) -> Any:
        # The check may change its tensors afterwards, and the code may change its copies: both work on their own.
        where = f"learner.{request.name}"
        args, kwargs = argument((request.args, request.kwargs), where)
        kept = replace(request, args=args, kwargs=kwargs)
        outcome = self._bench.perform(kept, seed=_seed_of_call(self._seed, len(self._trace)), seconds=self._left)
        self._left -= outcome.seconds
        self._trace.append(Call(kept, outcome))
        if outcome.timed_out:
            raise LearnerTimedOut(f"your code ran for {self._seconds:g} s without an answer; does a loop never end?")
        if outcome.ended:
            raise LearnerEnded(outcome.ended)
        if outcome.raised:
            raised = outcome.raised
            raise LearnerRaised(str(raised), kinds=raised.kinds, place=raised.place) from outcome.error
        return copy.deepcopy(outcome.value)  # the trace keeps its own


def _seed_of_call(seed: int, call: int) -> int:
    """Return the seed of a call: code that reads its own learns nothing of the inputs that are drawn from `seed`."""
    return int.from_bytes(hashlib.sha256(f"{seed} call {call}".encode()).digest()[:6], "big")
