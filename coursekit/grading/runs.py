"""One candidate going through the checks of one exercise."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from coursekit.catalog import Exercise
from coursekit.errors import LessonError
from coursekit.grading.checks import Check
from coursekit.grading.expectations import CheckFailure, LearnerTimedOut
from coursekit.grading.guard import Tripwires, seeded
from coursekit.grading.inprocess import InProcess
from coursekit.grading.learner import Bench, Call, Learner
from coursekit.grading.submission import Submission
from coursekit.grading.verdicts import Verdict

# Told of every step with its exercise and check: "load" and "loaded" around executing the file, "start" and "end"
# around a check.
Listener = Callable[[str, str, str], None]
_MOST_TIMEOUTS = 2  # checks of one exercise that may run out of time before the rest are taken to do so too


@dataclass(frozen=True)
class Candidate:
    """Code that answers exercises: a file, in which some names may be replaced.

    Args:
        id: what reports call it.
        submission: the file.
        replaced: functions and classes that take the place of those of the file.
    """

    id: str
    submission: Submission
    replaced: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """One check, run once on one candidate.

    Args:
        check: that was run.
        verdict: `pass`, `fail`, `not attempted`, `timeout`, `skipped` or `grader error`.
        trace: what was asked of the candidate, and what came of it.
        seconds: wall time.
        failure: what the check found; None when it passed.
        notes: sentences to add to the finding.
        error: an error of the check's own code, which may be ours or come from an odd result.
    """

    check: Check
    verdict: Verdict
    trace: Sequence[Call]
    seconds: float
    failure: CheckFailure | None = None
    notes: tuple[str, ...] = ()
    error: BaseException | None = None


class ExerciseRun:
    """One candidate going through the checks of one exercise, in a freshly executed module.

    Args:
        candidate: whose code runs.
        exercise: from the catalogue.
        seed: of the session; each check has its own, which follows from it.
        listener: told of each step.
        seconds: that the candidate's code may take in one check.
        stalled: whether the file is known not to come to its end when it is executed.
    """

    def __init__(
        self,
        candidate: Candidate,
        exercise: Exercise,
        seed: int,
        listener: Listener,
        *,
        seconds: float,
        stalled: bool,
    ) -> None:
        self.candidate = candidate
        self.stalled = stalled
        self._seconds = seconds
        self._exercise = exercise
        self._seed = seed
        self._listener = listener
        self._bench: Bench | None = None
        self._attempts: dict[str, Attempt] = {}
        self._told_of_change = False
        self._timeouts = 0

    def attempt(self, check: Check) -> Attempt:
        """Run a check, or return what came of it before."""
        if check.name not in self._attempts:
            self._listener("start", self._exercise.id, check.name)
            self._attempts[check.name] = self._attempt(check)
            self._listener("end", self._exercise.id, check.name)
        return self._attempts[check.name]

    def _attempt(self, check: Check) -> Attempt:
        if check.skip:
            return Attempt(check, "skipped", (), 0.0, CheckFailure(check.skip))
        if self._timeouts == _MOST_TIMEOUTS:
            says = f"not run: {_MOST_TIMEOUTS} checks of this exercise took too long already"
            return Attempt(check, "timeout", (), 0.0, LearnerTimedOut(says))
        bench = self._ready()
        seed = seed_of(self._seed, check)
        trace: list[Call] = []
        learner = Learner(bench, trace, seed=seed, seconds=self._seconds)
        rng = torch.Generator().manual_seed(seed)
        started = time.perf_counter()
        verdict, failure, error = self._run(check, learner, rng)
        seconds = time.perf_counter() - started
        self._timeouts += verdict == "timeout"
        if verdict == "fail" and self._is_stub(trace):
            verdict, failure = "not attempted", CheckFailure(self._to_write())
        changed = _changed(trace)
        notes = list(bench.notes)
        if changed and verdict == "pass" and not self._told_of_change:
            # One check pays for it, not every one: the results themselves may be right.
            self._told_of_change = True
            verdict, failure = "fail", CheckFailure(changed)
        elif changed and verdict == "fail":
            notes.append(f"besides, {changed}")
        if verdict == "pass" and not trace:
            error = LessonError(check.name, "a check that runs the learner's code", got="none", fix="call the learner")
            verdict = "grader error"
        return Attempt(check, verdict, trace, seconds, failure, tuple(notes), error)

    def _run(
        self, check: Check, learner: Learner, rng: torch.Generator
    ) -> tuple[Verdict, CheckFailure | None, BaseException | None]:
        try:
            with seeded(seed_of(self._seed, check)):
                check.run(learner, rng)
        except pytest.skip.Exception as skipped:
            return "skipped", CheckFailure(str(skipped.msg)), None
        except LearnerTimedOut as failure:
            return "timeout", failure, None
        except CheckFailure as failure:
            return "fail", failure, failure.__cause__
        except (Exception, pytest.fail.Exception) as error:
            # Ours, or what an odd result led to: the judge tells them apart with the reference.
            return "fail", None, error
        return "pass", None, None

    def _ready(self) -> Bench:
        if self._bench is None:
            self._bench = InProcess(
                self.candidate.submission,
                dict(self.candidate.replaced),
                tripwires=Tripwires(self._exercise.forbids),
                seconds=self._seconds,
                stalled=self.stalled,
            )
            self._listener("load", self._exercise.id, "")
            self.stalled = not self._bench.execute()
            self._listener("loaded", self._exercise.id, "")
        return self._bench

    def _is_stub(self, trace: Sequence[Call]) -> bool:
        # The second half is for probes that catch what the stub raises.
        told = any(call.outcome.raised and call.outcome.raised.stub for call in trace)
        return told or self._unwritten() == list(self._exercise.names)

    def _to_write(self) -> str:
        names = " and ".join(self._unwritten() or self._exercise.names)
        return f"{names}: still to be written; the stub raises NotImplementedError"

    def _unwritten(self) -> list[str]:
        """Return the names whose text is still that of a stub."""
        stubs = self.candidate.submission.stubs - set(self.candidate.replaced)
        return [name for name in self._exercise.names if name in stubs]


def _changed(trace: Sequence[Call]) -> str:
    for call in trace:
        if call.outcome.changed:
            names = " and ".join(call.outcome.changed)
            return f"your function changed the caller's tensor in place: {call.request.name} changed {names}"
    return ""


def seed_of(seed: int, check: Check) -> int:
    """Return the seed of one check: it follows from the session's and from the check's name."""
    return int.from_bytes(hashlib.sha256(f"{seed} {check.name}".encode()).digest()[:6], "big")
