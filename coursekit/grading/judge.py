"""The judge: runs checks on a candidate's code, tells our faults from theirs, and names what it finds.

The pytest plugin, the diagnosis and `verify` all go through here: a check is run in one way only.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

from coursekit import catalog
from coursekit.catalog import Exercise, Lesson
from coursekit.errors import LessonError, UserError
from coursekit.grading.answers import Answer, answers
from coursekit.grading.checks import Check
from coursekit.grading.diagnosis import Suspect, diagnose, excuse
from coursekit.grading.differences import difference
from coursekit.grading.expectations import CheckFailure, LearnerRaised
from coursekit.grading.runs import Attempt, Candidate, ExerciseRun, Listener
from coursekit.grading.submission import read
from coursekit.grading.text import labelled, printable
from coursekit.grading.verdicts import CheckResult, Diagnosis, ExerciseReport, judge_exercise
from coursekit.runtime import threads


class Judge:
    """Judges candidates on one lesson, with one seed.

    Args:
        lesson: from the catalogue.
        checks: of the lesson.
        seed: from which all inputs are drawn.
        listener: told of each step on the learner's code (not of replays of known answers).
        debugging: set no time limit, and run no other checks to name a mistake.
    """

    def __init__(
        self,
        lesson: Lesson,
        checks: Sequence[Check],
        seed: int,
        listener: Listener = lambda *_: None,
        *,
        debugging: bool = False,
    ) -> None:
        self.lesson = lesson
        self.seed = seed
        self._listener = listener
        self._debugging = debugging
        self._checks = checks
        self._runs: dict[tuple[str, str], ExerciseRun] = {}
        self._diagnoses: dict[tuple[str, str], Diagnosis | None] = {}
        file = lesson.folder / "solution.py"
        # A bundle for students holds no solution; then nothing can be named, but all can be graded.
        self.solution = Candidate("solution", read(file)) if file.is_file() else None
        _warm_up(lesson)
        marked = [part for part in ("alternatives", "wrong_answers") if (lesson.folder / f"{part}.py").is_file()]
        self.answers = answers(_load(lesson, part) for part in marked)

    @property
    def reference(self) -> Candidate:
        """The solution.

        Raises:
            LessonError: the lesson has none.
        """
        if self.solution is None:
            raise LessonError(f"lesson {self.lesson.id}", "a file solution.py", got="none", fix="add it")
        return self.solution

    def checks(self, exercise: Exercise) -> list[Check]:
        """Return the checks of one exercise."""
        return [check for check in self._checks if check.exercise.id == exercise.id]

    def attempt(self, candidate: Candidate, check: Check) -> Attempt:
        """Run one check on a candidate, or return what came of it before."""
        key = (candidate.id, check.exercise.id)
        if key not in self._runs:
            listener = self._listener if candidate.id == "learner" else _unheard
            # A file that did not come to its end once is not executed again for every exercise.
            stalled = any(run.stalled for (owner, _), run in self._runs.items() if owner == candidate.id)
            seconds = math.inf if self._debugging else check.exercise.seconds
            self._runs[key] = ExerciseRun(
                candidate, check.exercise, self.seed, listener, seconds=seconds, stalled=stalled
            )
        return self._runs[key].attempt(check)

    def result(self, candidate: Candidate, check: Check) -> CheckResult:
        """Run one check on a candidate, and say what is found; a failure is named, which takes the other checks."""
        problem = candidate.submission.problem
        if problem and not candidate.submission.statements:
            return CheckResult(check.exercise.id, check.name, check.weight, "fail", problem)
        # Exercises are tiny: a second thread only spins, and made the proof of lesson 1 several times dearer.
        with threads(1):
            try:
                attempt = self._told_apart(self.attempt(candidate, check))
            except UserError as error:  # the lesson names something that does not exist
                return _result(Attempt(check, "grader error", (), 0.0, error=error), None)
            named = attempt.verdict == "fail" and not self._debugging
            return _result(attempt, self._diagnosis(candidate, check.exercise) if named else None)

    def results(self, candidate: Candidate, exercise: Exercise) -> list[CheckResult]:
        """Run every check of an exercise on a candidate, and say what is found."""
        return [self.result(candidate, check) for check in self.checks(exercise)]

    def report(self, candidate: Candidate, exercise: Exercise) -> ExerciseReport:
        """Return the verdict of one exercise."""
        return judge_exercise(exercise, self.results(candidate, exercise))

    def replacing(self, answer: Answer) -> Candidate:
        """Return the reference with one known answer in its place.

        Raises:
            LessonError: the lesson has no solution.
        """
        return Candidate(answer.id, self.reference.submission, {answer.replaces: answer.code})

    def _told_apart(self, attempt: Attempt) -> Attempt:
        """Return an attempt with our own faults marked as such: a check that refuses the reference is broken."""
        if attempt.verdict not in ("fail", "timeout"):
            return attempt
        if self.solution is None:
            ours = attempt.error is not None and not attempt.trace
            return replace(attempt, verdict="grader error") if ours else attempt
        reference = self.attempt(self.solution, attempt.check)
        if reference.verdict == "pass":
            return replace(attempt, failure=attempt.failure or _unusable(attempt, reference))
        if attempt.trace is reference.trace:  # the reference itself is on trial
            return attempt
        error = reference.error or reference.failure
        return replace(attempt, verdict="grader error", failure=None, error=error)

    def _diagnosis(self, candidate: Candidate, exercise: Exercise) -> Diagnosis | None:
        key = (candidate.id, exercise.id)
        if key not in self._diagnoses:
            checks = self.checks(exercise)
            attempts = [self._told_apart(self.attempt(candidate, check)) for check in checks]
            traces = {one.check.name: one.trace for one in attempts if one.verdict in ("pass", "fail")}
            failing = [one.check.name for one in attempts if one.verdict == "fail"]
            suspects = []
            for answer in self.answers if self.solution else ():
                if answer.kind != "alternative" and answer.replaces in exercise.names:
                    known = self.replacing(answer)
                    suspects.append(Suspect(answer, {one.name: self.attempt(known, one).trace for one in checks}))
            self._diagnoses[key] = excuse(traces, failing, suspects) or diagnose(traces, failing, suspects)
        return self._diagnoses[key]


def _load(lesson: Lesson, part: str) -> ModuleType:
    try:
        return catalog.load(lesson, part)
    except UserError:
        raise
    except Exception as error:
        where = str(lesson.folder / f"{part}.py")
        raise LessonError(where, "a file that can be imported", got=_short(error), fix="mend it there") from error


def _warm_up(lesson: Lesson) -> None:
    # PyTorch imports its compiler, for seconds, when the first optimizer is made: not in the learner's time.
    if any("torch.optim" in file.read_text(encoding="utf-8") for file in lesson.folder.glob("*.py")):
        importlib.import_module("torch._dynamo")


def _unheard(step: str, exercise: str, check: str) -> None:
    """Hear nothing of replays."""


def _unusable(attempt: Attempt, reference: Attempt) -> CheckFailure:
    """Explain an error that the check's own code met in an odd result of the learner's."""
    for mine, theirs in zip(attempt.trace, reference.trace, strict=False):
        found = difference(mine.outcome.value, theirs.outcome.value, mine.request.name, tolerance=None)
        if found:
            return CheckFailure(f"{found.where}: {found.says}", got=found.got, expected=found.expected)
    return CheckFailure(f"what came back could not be used: {type(attempt.error).__name__}")


def _result(attempt: Attempt, diagnosis: Diagnosis | None) -> CheckResult:
    verdict, message = attempt.verdict, ""
    if verdict == "fail" and diagnosis and diagnosis.kind == "dialect":
        verdict = "pass with note"
    if verdict in ("not attempted", "skipped"):
        message = f"{attempt.failure}."
    elif verdict == "grader error":
        ours = f"The check {attempt.check.name} is broken, which is our fault and costs no points"
        message = f"{ours}: {_short(attempt.error)}"
    elif verdict != "pass":
        message = explain(attempt)
    named = diagnosis if verdict in ("fail", "pass with note") else None
    check = attempt.check
    return CheckResult(check.exercise.id, check.name, check.weight, verdict, message, round(attempt.seconds, 3), named)


def explain(attempt: Attempt) -> str:
    """Say what a failed check asked, what the code was given, what was expected and what came; one line each."""
    failure = attempt.failure
    lines = [("asked", attempt.check.asks)]
    if failure is None:  # without a reference to compare with
        return labelled([*lines, ("got", f"what came back could not be used: {_short(attempt.error)}")])
    given = ", ".join(f"{name} = {value}" for name, value in failure.inputs.items())
    if not given and attempt.trace:
        given = str(attempt.trace[-1].request)
    lines.append(("with", given))
    lines.append(("expected", failure.expected))
    lines.append(("got", failure.got))
    lines.append(("because", failure.says))
    if isinstance(failure, LearnerRaised):
        lines.append(("your line", failure.place))
    lines += [("note", note) for note in attempt.notes]
    return labelled(lines)


def _short(error: BaseException | None) -> str:
    text = str(error).strip()
    return printable(f"{type(error).__name__}: {text.splitlines()[0] if text else ''}", 300)
