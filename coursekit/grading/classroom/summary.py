"""What a class shows as a whole: verdicts, mistakes, checks that may be at fault, and what a person should look at."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from coursekit.catalog import Exercise, Lesson
from coursekit.grading.classroom import similarity
from coursekit.grading.classroom.gradebook import Record, names
from coursekit.grading.verdicts import VERDICTS

FEWEST = 5  # who tried, before anything is said about an exercise
REJECTED = 2 / 3
UNEXPLAINED = 1 / 3
STRONG = 0.9  # of the other exercises' points
FEWEST_STRONG = 3

RULE = (
    f"An exercise is listed when at least {FEWEST} tried it and two thirds of them were rejected, or when most of "
    f"those ({FEWEST_STRONG} or more) who earned {STRONG:.0%} of all other points were rejected. A check is listed "
    "when it stopped a third of those who tried, and no known mistake explains it. Files that hold nothing of the "
    "lesson do not count."
)
SIMILAR_RULE = (
    f"Two submissions are listed when they share {similarity.THRESHOLD:.0%} of the smaller one's fingerprints, and at "
    f"least {similarity.FEWEST}, or are equal byte for byte. Comments, names of variables, the order of functions and "
    "the stub's own text do not count. It is a reason to look, and no proof."
)
_TRIED_NOT = ("not attempted", "skipped", "grader error")
_DONE = ("pass", "pass with note")


def summarize(
    records: Sequence[Record],
    lesson: Lesson,
    pairs: Sequence[similarity.Pair],
    *,
    not_compared: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the JSON of summary.json.

    Args:
        records: of the whole class.
        lesson: that was graded.
        pairs: near-identical submissions.
        not_compared: keys of those that could not be compared, since they are not Python.
        left_out: what lay in the folder and was no submission.
    """
    graded = [record for record in records if record.status == "graded"]
    told = names(records)
    scores = [record.report["score"] for record in graded]
    suspicious = list(_suspicious(lesson, [record for record in graded if not record.stray]))
    similar = {"pairs": [_pair(pair, told) for pair in pairs], "not_compared": [told[key] for key in not_compared]}
    return {
        "lesson": lesson.id,
        "submissions": len(records),
        "graded": len(graded),
        "max_score": sum(exercise.points for exercise in lesson.exercises),
        "scores": _spread(scores),
        "isolation": sorted({record.report["isolation"] for record in graded}),
        "exercises": [_exercise(exercise, graded) for exercise in lesson.exercises],
        "mistakes": _mistakes(graded, told),
        "suspicious": {"rule": RULE, "found": suspicious},
        "similar": {"rule": SIMILAR_RULE, **similar},
        "not_graded": [
            {"student": record.student, "file": record.file, "status": record.status, "problem": record.problem}
            for record in records
            if record.problem
        ],
        "flags": [{"student": told[record.key], "flag": flag} for record in records for flag in record.flags],
        "left_out": list(left_out),
    }


def lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the summary as it is printed."""
    shown = [verdict for verdict in VERDICTS if any(one["verdicts"].get(verdict) for one in summary["exercises"])]
    labels = [f"{one['code']} {one['id']}" for one in summary["exercises"]]
    width = max(map(len, labels), default=0)
    yield f"{'':<{width}}  " + "  ".join(shown)
    for name, one in zip(labels, summary["exercises"], strict=True):
        counts = "  ".join(f"{one['verdicts'].get(verdict, 0):>{len(verdict)}}" for verdict in shown)
        yield f"{name:<{width}}  {counts}"
    if summary["scores"]:
        spread = summary["scores"]
        span = f"{spread['lowest']:g} to {spread['highest']:g} of {summary['max_score']:g}"
        yield f"\nscores: median {spread['median']:g}, {span}"
    yield from _titled("most common mistakes:", [_mistake_line(one) for one in summary["mistakes"][:10]])
    found = summary["suspicious"]["found"]
    yield from _titled("rejected suspiciously often (look at the check too):", [one["says"] for one in found])
    alike = [
        f"{pair['first']} and {pair['second']}: {'identical' if pair['identical'] else format(pair['share'], '.0%')}"
        for pair in summary["similar"]["pairs"]
    ]
    yield from _titled("near-identical submissions (look at them):", _few(alike))
    told = [f"{one['student']} ({one['file']}): {one['problem']}" for one in summary["not_graded"]]
    yield from _titled("NOT GRADED:", told)
    flags = [f"{one['student']}: {one['flag']}" for one in summary["flags"]]
    yield from _titled("flags:", _few(flags))
    if summary["left_out"]:
        yield f"\nleft out, since they are no submissions: {', '.join(_few(summary['left_out']))}"


def _titled(title: str, told: Sequence[str]) -> Iterator[str]:
    if told:
        yield f"\n{title}"
        yield from (f"  {line}" for line in told)


def _few(told: Sequence[str], most: int = 12) -> list[str]:
    rest = [f"and {len(told) - most} more, in summary.json"] if len(told) > most else []
    return [*told[:most], *rest]


def _mistake_line(one: Mapping[str, Any]) -> str:
    return f"{one['count']:>3}  {one['exercise']}: {one['says']} ({one['id']})"


# ------------------------------------------------------------------------------------------- parts


def _spread(scores: Sequence[float]) -> dict[str, float]:
    if not scores:
        return {}
    return {
        "mean": round(statistics.fmean(scores), 4),
        "median": round(statistics.median(scores), 4),
        "lowest": min(scores),
        "highest": max(scores),
    }


def _parts(exercise: Exercise, records: Sequence[Record]) -> list[Mapping[str, Any]]:
    return [part for record in records for part in record.exercises if part["id"] == exercise.id]


def _exercise(exercise: Exercise, graded: Sequence[Record]) -> dict[str, Any]:
    parts = _parts(exercise, graded)
    verdicts = Counter(part["verdict"] for part in parts)
    points = round(statistics.fmean(part["points"] for part in parts), 4) if parts else None
    return {"id": exercise.id, "code": exercise.code, "points": exercise.points, "mean": points, "verdicts": verdicts}


def _mistakes(graded: Sequence[Record], told: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the named mistakes, the most common first."""
    made: dict[tuple[str, str, str], list[str]] = {}
    for record in graded:
        for part in record.exercises:
            if part["diagnosis"] and part["verdict"] not in _DONE:
                mistake = (part["id"], part["diagnosis"]["id"], part["diagnosis"]["says"])
                made.setdefault(mistake, []).append(told[record.key])
    found = [
        {"exercise": exercise, "id": id, "says": says, "count": len(students), "students": students}
        for (exercise, id, says), students in made.items()
    ]
    return sorted(found, key=lambda one: (-one["count"], one["exercise"], one["id"]))


def _suspicious(lesson: Lesson, graded: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Yield exercises and checks that reject so often that they may be at fault themselves (see `RULE`)."""
    for exercise in lesson.exercises:
        tried = [part for part in _parts(exercise, graded) if part["verdict"] not in _TRIED_NOT]
        rejected = [part for part in tried if part["verdict"] not in _DONE]
        head = {"exercise": exercise.id, "tried": len(tried)}
        if len(tried) >= FEWEST and len(rejected) >= REJECTED * len(tried):
            says = f"{exercise.id}: {len(rejected)} of {len(tried)} who tried were rejected"
            yield {**head, "rejected": len(rejected), "check": "", "says": says}
        strong = [part for record in graded if (part := _if_strong(record, exercise)) is not None]
        failed = [part for part in strong if part["verdict"] not in _DONE]
        if len(strong) >= FEWEST_STRONG and len(failed) > len(strong) / 2:
            says = f"{exercise.id}: {len(failed)} of the {len(strong)} who did nearly all else right were rejected"
            yield {**head, "rejected": len(failed), "check": "", "says": says}
        unnamed = Counter(_asked(part) for part in rejected if not part["diagnosis"])
        for check, count in unnamed.most_common():
            if check and len(tried) >= FEWEST and count >= UNEXPLAINED * len(tried):
                says = f"{exercise.id}: “{check}” stopped {count} of {len(tried)}, and no known mistake explains it"
                yield {**head, "rejected": count, "check": check, "says": says}


def _if_strong(record: Record, exercise: Exercise) -> Mapping[str, Any] | None:
    """Return what a record says of an exercise that was tried, where nearly all others earned their points."""
    mine = next((part for part in record.exercises if part["id"] == exercise.id), None)
    others = [part for part in record.exercises if part["id"] != exercise.id]
    most = sum(part["max_points"] for part in others)
    strong = bool(most) and sum(part["points"] for part in others) >= STRONG * most
    return mine if mine is not None and strong and mine["verdict"] not in _TRIED_NOT else None


def _asked(part: Mapping[str, Any]) -> str:
    """Return what the first failing check asks for, which is how a message begins."""
    label, _, rest = part["message"].partition("\n")[0].partition(":")
    return rest.strip() if label == "asked" else ""


def _pair(pair: similarity.Pair, told: Mapping[str, str]) -> dict[str, Any]:
    return {
        "first": told[pair.first],
        "second": told[pair.second],
        "share": pair.share,
        "identical": pair.identical,
        "functions": list(pair.parts),
    }
