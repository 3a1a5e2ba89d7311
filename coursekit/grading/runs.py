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
from coursekit.grading.expectations import CheckFailure, LearnerEnded, LearnerTimedOut
from coursekit.grading.guard import seeded
from coursekit.grading.learner import Bench, Call, Learner, Outcome, Request
from coursekit.grading.submission import Source, Submission
from coursekit.grading.verdicts import Verdict

Benches = Callable[["Candidate", Exercise, float], Bench]  # gives a bench for a candidate's exercise and its seconds
_MOST_STOPS = 2  # checks of one exercise that may run out of time or crash before the rest are taken to do so too


@dataclass(frozen=True)
class Candidate:
    """Code that answers exercises: a file, in which some names may be replaced.

    Args:
        id: what reports call it.
        submission: the file; only its source, where it must not be parsed in this process.
        replaced: functions and classes that take the place of those of the file.
    """

    id: str
    submission: Submission | Source
    replaced: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """One check, run once on one candidate.

    Args:
        check: that was run.
        verdict: `pass`, `fail`, `not attempted`, `timeout`, `crashed`, `skipped` or `grader error`.
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
        benches: gives the bench.
        seconds: that the candidate's code may take in one check.
        unloadable: stands for the bench, where the file is known to stall or to end the process.
    """

    def __init__(
        self,
        candidate: Candidate,
        exercise: Exercise,
        seed: int,
        benches: Benches,
        *,
        seconds: float,
        unloadable: Bench | None = None,
    ) -> None:
        self.candidate = candidate
        self.unloadable = unloadable
        self.mentions: Mapping[str, frozenset[str]] = {}
        self._printed = ""
        self._seconds = seconds
        self._exercise = exercise
        self._seed = seed
        self._benches = benches
        self._bench: Bench | None = None
        self._attempts: dict[str, Attempt] = {}
        self._told_of_change = False
        self._stops = 0

    @property
    def printed(self) -> str:
        """The last of what the code printed; empty where that is shown elsewhere."""
        return (self._bench.printed if self._bench else "") or self._printed

    def attempt(self, check: Check) -> Attempt:
        """Run a check, or return what came of it before."""
        if check.name not in self._attempts:
            self._attempts[check.name] = self._attempt(check)
        return self._attempts[check.name]

    def ask(self, request: Request, seconds: float) -> Outcome:
        """Have the candidate's code do one thing more, outside of any check and always with the same seed."""
        if self._stops:
            return Outcome(ended="your code was ended before")
        return self._ready().perform(request, seed=self._seed, seconds=seconds)

    def close(self) -> None:
        """Let go of the process in which the code runs, if there is one."""
        if self._bench is not None:
            self._printed = self.printed
            self._bench.close()
            self._bench = None

    def _attempt(self, check: Check) -> Attempt:
        if check.skip:
            return Attempt(check, "skipped", (), 0.0, CheckFailure(check.skip))
        if self._stops == _MOST_STOPS:
            says = f"not run: {_MOST_STOPS} checks of this exercise took too long or crashed already"
            return Attempt(check, "timeout", (), 0.0, LearnerTimedOut(says))
        bench = self._ready()
        if bench.problem:
            return Attempt(check, "fail", (), 0.0, CheckFailure(bench.problem))
        seed = seed_of(self._seed, check)
        trace: list[Call] = []
        learner = Learner(bench, trace, seed=seed, seconds=self._seconds)
        rng = torch.Generator().manual_seed(seed)
        started = time.perf_counter()
        verdict, failure, error = self._run(check, learner, rng)
        seconds = time.perf_counter() - started
        if verdict == "fail" and self._is_stub(trace, bench):
            verdict, failure = "not attempted", CheckFailure(self._to_write(bench))
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
        if verdict in ("timeout", "crashed"):
            self._stops += 1
            if trace[-1].outcome.ended:
                self.close()  # the next check starts anew
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
        except LearnerEnded as failure:
            return "crashed", failure, None
        except CheckFailure as failure:
            return "fail", failure, failure.__cause__
        except (Exception, pytest.fail.Exception) as error:
            # Ours, or what an odd result led to: the judge tells them apart with the reference.
            return "fail", None, error
        return "pass", None, None

    def _ready(self) -> Bench:
        if self._bench is None:
            self._bench = self.unloadable or self._benches(self.candidate, self._exercise, self._seconds)
            executed = self._bench.execute()
            self.mentions = self._bench.mentions
            if executed.timed_out or executed.ended:
                self.unloadable = _Unloadable(executed, tuple(self._bench.notes), self._bench.mentions)
        return self._bench

    def _is_stub(self, trace: Sequence[Call], bench: Bench) -> bool:
        # The second half is for probes that catch what the stub raises.
        told = any(call.outcome.raised and call.outcome.raised.stub for call in trace)
        return told or self._unwritten(bench) == list(self._exercise.names)

    def _to_write(self, bench: Bench) -> str:
        names = " and ".join(self._unwritten(bench) or self._exercise.names)
        return f"{names}: still to be written; the stub raises NotImplementedError"

    def _unwritten(self, bench: Bench) -> list[str]:
        """Return the names whose text is still that of a stub."""
        return [name for name in self._exercise.names if name in bench.stubs]


@dataclass(frozen=True)
class _Unloadable:
    """The bench of a file that is known to end or to stall the process when it is executed.

    Args:
        outcome: what came of it the first time.
        notes: what was said of it.
        mentions: every name that the code uses.
    """

    outcome: Outcome
    notes: tuple[str, ...]
    mentions: Mapping[str, frozenset[str]]
    problem: str = ""
    printed: str = ""
    stubs: frozenset[str] = frozenset()

    def execute(self) -> Outcome:
        return self.outcome

    def perform(self, request: Request, *, seed: int, seconds: float) -> Outcome:
        return self.outcome

    def close(self) -> None:
        """Nothing is held."""


def _changed(trace: Sequence[Call]) -> str:
    for call in trace:
        if call.outcome.changed:
            names = " and ".join(call.outcome.changed)
            return f"your function changed the caller's tensor in place: {call.request.name} changed {names}"
    return ""


def seed_of(seed: int, check: Check) -> int:
    """Return the seed of one check: it follows from the session's and from the check's name."""
    return int.from_bytes(hashlib.sha256(f"{seed} {check.name}".encode()).digest()[:6], "big")
