"""What grading says: the result of one check, of one exercise, of one lesson, and the JSON of a lesson.

    pass            every check passed
    pass with note  every failing check agrees with a dialect: a legitimate variant
    fail            a check failed
    not attempted   the stub still raises NotImplementedError
    timeout         the learner's code took longer than the exercise allows
    crashed         the learner's code ended the process
    skipped         the check needs something that this machine does not have
    grader error    our fault: it never costs points

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from coursekit.catalog import Exercise

Verdict = Literal["pass", "pass with note", "fail", "not attempted", "timeout", "crashed", "skipped", "grader error"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

# The worst word that any check brought names the exercise. A grader error comes last: what the learner
# got wrong elsewhere is told first.
_WORST_FIRST: tuple[Verdict, ...] = (
    "crashed",
    "timeout",
    "fail",
    "not attempted",
    "grader error",
    "pass with note",
    "pass",
)
_EARNS = ("pass", "pass with note", "grader error")


@dataclass(frozen=True)
class Diagnosis:
    """A known answer whose results equal the learner's.

    Args:
        id: of the wrong answer or dialect.
        says: its one sentence.
        kind: `wrong` or `dialect`.
    """

    id: str
    says: str
    kind: Literal["wrong", "dialect"]


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Args:
        exercise: id of the exercise.
        check: name of the check.
        weight: of this check inside its exercise.
        verdict: one word of `VERDICTS`.
        message: what to tell the learner; empty when it passed.
        seconds: wall time of the check.
        diagnosis: what the whole exercise was found to be; the same for each of its failing checks.
    """

    exercise: str
    check: str
    weight: float
    verdict: Verdict
    message: str = ""
    seconds: float = 0.0
    diagnosis: Diagnosis | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> CheckResult:
        """Read what `to_json` wrote."""
        diagnosis = tree["diagnosis"]
        return cls(**{**tree, "diagnosis": Diagnosis(**diagnosis) if diagnosis else None})


@dataclass(frozen=True)
class ExerciseReport:
    """The verdict of one exercise.

    Args:
        id: of the exercise.
        verdict: one word of `VERDICTS`.
        points: earned.
        max_points: that could be earned on this machine; 0 when it was skipped.
        message: what to tell the learner.
        diagnosis: the known answer that theirs equals, if any.
        seconds: wall time of its checks.
        printed: the last of what the learner's code printed.
    """

    id: str
    verdict: Verdict
    points: float
    max_points: float
    message: str
    diagnosis: Diagnosis | None
    seconds: float
    printed: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing is left to do."""
        return self.verdict in ("pass", "pass with note")

    def to_json(self) -> dict[str, Any]:
        """Return the entry in the JSON of a lesson."""
        tree = asdict(self)
        if self.diagnosis:
            tree["diagnosis"] = {"id": self.diagnosis.id, "says": self.diagnosis.says}
        return tree


@dataclass(frozen=True)
class LessonReport:
    """The verdicts of one lesson, for one submission.

    Args:
        lesson: its id.
        path: the file that was graded.
        sha256: of its bytes.
        exercises: one report each, in the lesson's order.
        seed: from which the inputs were drawn; it repeats the grading.
        isolation: how the submission was confined: `full`, `no-namespaces`, `process-only` or `in-process`.
        flags: what a person should look at, in sentences; they cost no points.
    """

    lesson: str
    path: Path
    sha256: str
    exercises: tuple[ExerciseReport, ...]
    seed: int
    isolation: str = ""
    flags: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """Points earned."""
        return round(sum(report.points for report in self.exercises), 4)

    @property
    def max_score(self) -> float:
        """Points that could be earned."""
        return round(sum(report.max_points for report in self.exercises), 4)

    @property
    def exit_code(self) -> int:
        """0 when all passed, 3 after a fault of ours, else 1; nothing graded is no pass."""
        verdicts = [report.verdict for report in self.exercises]
        if "grader error" in verdicts:
            return 3
        graded = [report for report in self.exercises if report.verdict != "skipped"]
        return 0 if graded and all(report.passed for report in graded) else 1

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of `coursekit grade --json`."""
        return {
            "lesson": self.lesson,
            "submission": {"path": str(self.path), "sha256": self.sha256},
            "score": self.score,
            "max_score": self.max_score,
            "exercises": [report.to_json() for report in self.exercises],
            "seed": self.seed,
            "isolation": self.isolation,
            "flags": list(self.flags),
        }


def judge_exercise(exercise: Exercise, results: Sequence[CheckResult], weight: float | None = None) -> ExerciseReport:
    """Put the results of an exercise's checks together.

    Args:
        exercise: from the catalogue.
        results: of its checks, in the order in which they stand in the file.
        weight: of all its checks, where only some of them were run.
    """
    seconds = round(sum(result.seconds for result in results), 3)
    if not results:
        return _report(exercise, "grader error", 1.0, "No check was run for this exercise.", None, seconds)
    counted = [result for result in results if result.verdict != "skipped"]
    if not counted:
        return ExerciseReport(exercise.id, "skipped", 0, 0, results[0].message, None, seconds)
    first = next((result for result in counted if result.verdict == _worst(counted)), counted[0])
    skipped = sum(result.weight for result in results if result.verdict == "skipped")
    whole = (weight or sum(result.weight for result in results)) - skipped
    share = sum(result.weight for result in counted if result.verdict in _EARNS) / whole
    # A check that we broke earns its weight, but not for a learner who has written nothing.
    if {result.verdict for result in counted} - {"grader error"} == {"not attempted"}:
        return _report(exercise, "not attempted", 0.0, first.message, None, seconds)
    verdict: Verdict = "fail" if first.verdict == "not attempted" else first.verdict
    return _report(exercise, verdict, share, _message(first, counted), first.diagnosis, seconds)


def _report(
    exercise: Exercise, verdict: Verdict, share: float, message: str, diagnosis: Diagnosis | None, seconds: float
) -> ExerciseReport:
    points = round(exercise.points * share, 4)
    return ExerciseReport(exercise.id, verdict, points, exercise.points, message, diagnosis, seconds)


def _worst(results: Sequence[CheckResult]) -> Verdict:
    brought = {result.verdict for result in results}
    return next(verdict for verdict in _WORST_FIRST if verdict in brought)


def _message(first: CheckResult, results: Sequence[CheckResult]) -> str:
    count = len(results)
    if first.verdict == "pass":
        return f"{count} check{'s' if count > 1 else ''} passed."
    if first.verdict == "pass with note" and first.diagnosis:
        return first.diagnosis.says
    return first.message
