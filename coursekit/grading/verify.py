"""Proof of a lesson's checks: what must pass passes, what must fail fails, and every known mistake is named.

submission                expected
the stub                  not attempted
the solution              pass
every alternative         pass
every dialect             pass with note, and the note is its own
every wrong answer        fail, and the diagnosis is its own
every null answer         fail, without a single point (`null-zeros`, `null-none`, ...; listed as `wrong`)
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from coursekit.catalog import Exercise, Lesson
from coursekit.errors import ArgumentError, LessonError
from coursekit.grading.checks import collect
from coursekit.grading.guard import Tripwires
from coursekit.grading.inprocess import InProcess
from coursekit.grading.judge import Judge
from coursekit.grading.nulls import null_answers
from coursekit.grading.runs import Candidate
from coursekit.grading.stubs import drift, exercise_names, stub_source
from coursekit.grading.submission import Submission, parse
from coursekit.grading.verdicts import ExerciseReport, Verdict

ALTERNATIVES = 2  # that each exercise needs, at least
WRONG_ANSWERS = 5

RowKind = Literal["stub", "solution", "alternative", "dialect", "wrong", "mutant"]


@dataclass(frozen=True)
class Row:
    """One submission whose verdict is known, and what it got.

    Args:
        lesson: its id.
        exercise: its id.
        submission: `stub`, `solution`, or the id of an answer.
        kind: of the submission.
        expected: the verdict that it must get.
        verdict: that it got; over several seeds, the first that was not as expected.
        diagnosis: id of the known answer that was named, if any.
        ok: whether verdict, diagnosis and points are as they must be.
    """

    lesson: str
    exercise: str
    submission: str
    kind: RowKind
    expected: Verdict
    verdict: Verdict
    diagnosis: str | None
    ok: bool


@dataclass(frozen=True)
class Verification:
    """The proof of one lesson's checks.

    Args:
        rows: one for each submission and exercise.
        findings: what is missing in the lesson, in sentences.
    """

    rows: tuple[Row, ...]
    findings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there are rows, all are as they must be, and nothing is missing."""
        return bool(self.rows) and all(row.ok for row in self.rows) and not self.findings

    def to_json(self) -> dict[str, Any]:
        """Return the JSON of `coursekit verify`."""
        failed = sum(not row.ok for row in self.rows)
        summary = {"ok": self.ok, "rows": len(self.rows), "failed": failed, "findings": list(self.findings)}
        return {"rows": [asdict(row) for row in self.rows], "summary": summary}


def verify(lesson: Lesson, seeds: Sequence[int] = (0, 1, 2)) -> Verification:
    """Put every submission whose verdict is known through a lesson's checks.

    Args:
        lesson: from the catalogue.
        seeds: of the inputs; a row must be as expected with each of them.

    Raises:
        LessonError: a file of the lesson is missing or not well formed.
    """
    if not seeds:
        raise ArgumentError("verify", "at least one seed", got="none", fix="give seeds, such as (0, 1, 2)")
    checks = collect(lesson)
    judges = [Judge(lesson, checks, seed) for seed in seeds]
    stub = _stub(lesson, judges[0].reference.submission)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        rows = [
            _row(judges, exercise, *submission)
            for exercise in lesson.exercises
            for submission in _submissions(judges[0], exercise, stub)
        ]
    return Verification(tuple(rows), tuple(_findings(judges[0])))


def _submissions(judge: Judge, exercise: Exercise, stub: Submission) -> Iterator[tuple[RowKind, Candidate, Verdict]]:
    yield "stub", Candidate("stub", stub), "not attempted"
    yield "solution", judge.reference, "pass"
    expected: dict[str, Verdict] = {"alternative": "pass", "dialect": "pass with note", "wrong": "fail"}
    for answer in judge.answers:
        if answer.replaces in exercise.names:
            yield answer.kind, judge.replacing(answer), expected[answer.kind]
    for name, replaced in null_answers(_written(judge.reference, exercise)).items():
        yield "wrong", Candidate(name, judge.reference.submission, replaced), "fail"


def _row(judges: Sequence[Judge], exercise: Exercise, kind: RowKind, candidate: Candidate, expected: Verdict) -> Row:
    """Return the row of the first seed that is not as it must be, or that of the last."""
    for judge in judges:
        report = judge.report(candidate, exercise)
        named = report.diagnosis.id if report.diagnosis else None
        ok = report.verdict == expected and _as_it_must_be(candidate, kind, report, named)
        row = Row(judge.lesson.id, exercise.id, candidate.id, kind, expected, report.verdict, named, ok)
        if not ok:
            break
    return row  # pyright: ignore[reportPossiblyUnboundVariable]  there is at least one seed


def _as_it_must_be(candidate: Candidate, kind: RowKind, report: ExerciseReport, named: str | None) -> bool:
    if candidate.id.startswith("null-") or kind == "stub":
        return report.points == 0
    if kind in ("wrong", "dialect"):
        return named == candidate.id
    return report.points == report.max_points


def _stub(lesson: Lesson, solution: Submission) -> Submission:
    return parse(stub_source(solution.text, exercise_names(lesson)), lesson.folder / "exercises.py")


def _written(solution: Candidate, exercise: Exercise) -> dict[str, Any]:
    bench = InProcess(solution.submission, {}, tripwires=Tripwires(()), seconds=exercise.seconds)
    return bench.names(exercise.names)


def _findings(judge: Judge) -> Iterator[str]:
    lesson = judge.lesson
    known = exercise_names(lesson)
    for answer in judge.answers:
        if answer.replaces not in known:
            yield f"{answer.id} replaces {answer.replaces}, which no exercise asks for"
    for exercise in lesson.exercises:
        if not judge.checks(exercise):
            yield f"{exercise.id} has no check"
        for kind, least in (("alternative", ALTERNATIVES), ("wrong", WRONG_ANSWERS)):
            count = sum(answer.kind == kind and answer.replaces in exercise.names for answer in judge.answers)
            if count < least:
                yield f"{exercise.id} has {count} {kind} answers, and needs {least}"
    stubs = lesson.folder / "exercises.py"
    if not stubs.is_file():
        yield "exercises.py is missing"
        return
    try:
        changes = drift(stubs.read_text(encoding="utf-8"), judge.reference.submission.text, list(known))
    except LessonError as error:
        changes = [str(error)]
    yield from (f"exercises.py: {change}" for change in changes)
