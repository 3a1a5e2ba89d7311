"""Made-up results of the toy lesson, for the tests of what a class is told."""

from __future__ import annotations

from typing import Any

from coursekit.grading.classroom.gradebook import Record


def part(
    id: str,
    verdict: str = "pass",
    points: float = 4,
    max_points: float = 4,
    message: str = "2 checks passed.",
    diagnosis: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Return what a report says of one exercise; a diagnosis is an id and its sentence."""
    named = {"id": diagnosis[0], "says": diagnosis[1]} if diagnosis else None
    tree = {"id": id, "verdict": verdict, "points": points, "max_points": max_points, "message": message}
    return {**tree, "diagnosis": named, "seconds": 0.25}


def report(*parts: dict[str, Any], sha256: str = "0" * 64, file: str = "ann.py", seed: int = 7) -> dict[str, Any]:
    """Return the JSON of a grading."""
    return {
        "lesson": "toy",
        "submission": {"path": file, "sha256": sha256},
        "score": sum(one["points"] for one in parts),
        "max_score": sum(one["max_points"] for one in parts),
        "exercises": list(parts),
        "seed": seed,
        "isolation": "full",
        "flags": [],
    }


def graded(student: str, *parts: dict[str, Any], flags: tuple[str, ...] = (), stray: bool = False) -> Record:
    """Return the record of a student whose submission was graded."""
    made = report(*parts, file=f"{student}.py")
    return Record(student, student, f"{student}.py", made, flags=flags, stray=stray)
