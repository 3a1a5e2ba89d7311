"""A lesson's verdicts as people read them. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from coursekit.catalog import Lesson
from coursekit.grading.checks import lesson_in
from coursekit.grading.text import labelled
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
                made.append(judge_exercise(exercise, results, parts[0]["weight"]))
        found.append((lesson, LessonReport(lesson.id, Path(mine[0]["path"]), mine[0]["sha256"], tuple(made), seed)))
    return found


def table(lesson: Lesson, report: LessonReport) -> Iterator[tuple[str, str]]:
    """Yield one line for each exercise, code, id, verdict and points, with the colour of its verdict."""
    width = max((len(part.id) for part in report.exercises), default=0)
    words = max((len(part.verdict) for part in report.exercises), default=0)
    for part in report.exercises:
        points = f"{part.points:g}/{part.max_points:g}"
        code = lesson.exercise(part.id).code
        yield f"{code:<4} {part.id:<{width}}  {part.verdict:<{words}}  {points:>8}", COLOURS.get(part.verdict, "red")


def details(lesson: Lesson, report: LessonReport, printed: Mapping[str, str]) -> Iterator[str]:
    """Yield what the learner needs for each exercise that is not done, and which one to write next.

    Args:
        lesson: from the catalogue.
        report: of the lesson.
        printed: what the learner's code printed, by id of the exercise.
    """
    for part in report.exercises:
        if part.verdict in ("pass", "not attempted"):
            continue
        code = lesson.exercise(part.id).code
        yield f"\n{code} {part.id}: {part.verdict}"
        lines = part.message.splitlines()
        if part.diagnosis and part.verdict == "fail":
            lines += labelled([("mistake", f"{part.diagnosis.says} ({part.diagnosis.id})")]).splitlines()
        if part.id in printed and not part.passed:
            lines += labelled([("printed", printed[part.id].strip()[-500:])]).splitlines()
        if part.verdict in ("fail", "timeout", "crashed"):
            lines += labelled([("hint", f"coursekit hint {lesson.id} {code}")]).splitlines()
        yield from (f"  {line}" for line in lines)
    unwritten = next((part for part in report.exercises if part.verdict == "not attempted"), None)
    if unwritten:
        code = lesson.exercise(unwritten.id).code
        yield f"\nnext to write: {code} {unwritten.id}; hint: coursekit hint {lesson.id} {code}"


def heading(report: LessonReport) -> str:
    """Return the line that says what was graded: lesson, file and the first digits of its SHA-256."""
    return f"{report.lesson}: {report.path} (sha256 {report.sha256[:12]})"


def closing(report: LessonReport) -> str:
    """Return the line with the score and with the seed that repeats the grading."""
    return f"score {report.score:g} of {report.max_score:g}; seed {report.seed} (again: --grade-seed {report.seed})"
