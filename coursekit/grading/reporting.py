"""A lesson's verdicts as people read them. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coursekit.catalog import Lesson
from coursekit.grading.checks import lesson_in
from coursekit.grading.text import labelled, printable
from coursekit.grading.verdicts import CheckResult, LessonReport, judge_exercise

COLOURS = {"pass": "green", "pass with note": "green", "not attempted": "yellow", "skipped": "yellow"}


def reports(records: Sequence[Mapping[str, Any]], seed: int) -> list[tuple[Lesson, LessonReport]]:
    """Put the records of single checks together, lesson by lesson; exercises of which no check ran are left out."""
    found = []
    for folder in dict.fromkeys(record["folder"] for record in records):
        lesson = lesson_in(Path(folder))
        mine = [record for record in records if record["folder"] == folder]
        made = []
        for exercise in lesson.exercises:
            parts = [record for record in mine if record["result"]["exercise"] == exercise.id]
            if parts:
                results = [CheckResult.from_json(record["result"]) for record in parts]
                judged = judge_exercise(exercise, results, parts[0]["weight"])
                made.append(replace(judged, printed=next((part["printed"] for part in parts if part["printed"]), "")))
        first = mine[0]
        report = LessonReport(
            lesson.id, Path(first["path"]), first["sha256"], tuple(made), seed, first["isolation"], ()
        )
        found.append((lesson, report))
    return found


def table(lesson: Lesson, report: LessonReport) -> Iterator[tuple[str, str]]:
    """Yield one line for each exercise, code, id, verdict and points, with the colour of its verdict."""
    width = max((len(part.id) for part in report.exercises), default=0)
    words = max((len(part.verdict) for part in report.exercises), default=0)
    for part in report.exercises:
        points = f"{part.points:g}/{part.max_points:g}"
        code = lesson.exercise(part.id).code
        yield f"{code:<4} {part.id:<{width}}  {part.verdict:<{words}}  {points:>8}", COLOURS.get(part.verdict, "red")


def details(lesson: Lesson, report: LessonReport) -> Iterator[str]:
    """Yield what the learner needs for each exercise that is not done, and which one to write next.

    Args:
        lesson: from the catalogue.
        report: of the lesson.
    """
    for part in report.exercises:
        if part.verdict in ("pass", "not attempted"):
            continue
        code = lesson.exercise(part.id).code
        yield f"\n{code} {part.id}: {part.verdict}"
        lines = part.message.splitlines()
        if part.diagnosis and part.verdict == "fail":
            lines += labelled([("mistake", f"{part.diagnosis.says} ({part.diagnosis.id})")]).splitlines()
        if part.printed.strip() and not part.passed:
            lines += labelled([("printed", part.printed.strip()[-500:])]).splitlines()
        if part.verdict in ("fail", "timeout", "crashed"):
            lines += labelled([("hint", f"coursekit hint {lesson.id} {code}")]).splitlines()
        yield from (f"  {line}" for line in lines)
    unwritten = next((part for part in report.exercises if part.verdict == "not attempted"), None)
    if unwritten:
        code = lesson.exercise(unwritten.id).code
        yield f"\nnext to write: {code} {unwritten.id}; hint: coursekit hint {lesson.id} {code}"


def heading(report: LessonReport) -> str:
    """Return the line that says what was graded: lesson, file and the first digits of its SHA-256."""
    return f"{report.lesson}: {printable(str(report.path))} (sha256 {report.sha256[:12]})"


def closing(report: LessonReport, option: str = "--grade-seed") -> str:
    """Return the line with the score, with the seed that repeats the grading, and with how code was confined.

    Args:
        report: of the lesson.
        option: of the program that repeats it.
    """
    again = f"seed {report.seed} (again: {option} {report.seed})"
    return f"score {report.score:g} of {report.max_score:g}; {again}; isolation: {report.isolation}"
