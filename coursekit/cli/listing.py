"""`coursekit list`: the lessons and their exercises, and how far you are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from coursekit.catalog import Exercise, Lesson
from coursekit.cli.output import JsonOption, write_json_to
from coursekit.progress import Standing

_DONE = ("pass", "pass with note")


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("list")(list_lessons)


def list_lessons(
    lesson: Annotated[str | None, typer.Argument(help="Only this lesson.")] = None, json: JsonOption = None
) -> None:
    """List the lessons and exercises, and how far you are."""
    from coursekit import catalog, progress

    chosen = catalog.lessons() if lesson is None else (catalog.lesson(lesson),)
    done = progress.standings(catalog.root())
    if progress.is_damaged(catalog.root()):
        file = catalog.root() / progress.FOLDER / "progress.json"
        print(
            f"coursekit: {file} cannot be read, so your standing is not shown; the next grading sets it aside",
            file=sys.stderr,
        )
    tree = {"lessons": [_lesson(entry, done) for entry in chosen]}
    if json is not None:
        write_json_to(json, tree)
        return
    for entry in tree["lessons"]:
        _print(entry)
    print(f"\n{_next(tree['lessons'])}")


def _lesson(entry: Lesson, done: Mapping[str, Standing]) -> dict[str, Any]:
    return {
        "id": entry.id,
        "title": entry.title,
        "order": entry.order,
        "goal": entry.goal,
        "minutes": entry.minutes,
        "exercises": [_exercise(one, done.get(f"{entry.id}/{one.id}")) for one in entry.exercises],
    }


def _exercise(exercise: Exercise, standing: Standing | None) -> dict[str, Any]:
    status, best = (standing.verdict, standing.best) if standing else ("not attempted", "not attempted")
    earned = standing.points if standing and standing.points is not None else exercise.points * (status in _DONE)
    return {
        "id": exercise.id,
        "code": exercise.code,
        "title": exercise.title,
        "points": exercise.points,
        "difficulty": exercise.difficulty,
        "minutes": exercise.minutes,
        "status": status,
        "best": best,
        "earned": min(earned, exercise.points),
    }


def _print(entry: Mapping[str, Any]) -> None:
    exercises = entry["exercises"]
    passed = sum(exercise["status"] in _DONE for exercise in exercises)
    earned, points = (sum(exercise[name] for exercise in exercises) for name in ("earned", "points"))
    print(f"{entry['order']:>2}. {entry['title']} ({entry['id']}), {entry['minutes']} min", end="")
    print(f", {passed} of {len(exercises)} exercises passed, {round(earned, 2):g} of {points} points")
    print(f"    {entry['goal']}")
    width = max((len(exercise["title"]) for exercise in exercises), default=0)
    for exercise in exercises:
        stars = "*" * exercise["difficulty"]
        status = exercise["status"]
        if exercise["best"] in _DONE and status not in _DONE:
            status += " (passed before)"
        earned = f"{round(exercise['earned'], 2):>5g} of {exercise['points']:>2} points"
        title = f"{exercise['code']:<4} {exercise['title']:<{width}} {stars:<4}"
        print(f"    {title} {earned} {exercise['minutes']:>3} min  {status}")


def _next(lessons: list[dict[str, Any]]) -> str:
    """Return what to do next, in one line or two."""
    for entry in lessons:
        for exercise in entry["exercises"]:
            if exercise["status"] not in _DONE:
                where = f"{entry['id']} {exercise['code']}"
                return (
                    f"Next: {exercise['code']} {exercise['title']}, about {exercise['minutes']} min. "
                    f"Write it in lessons/{entry['id']}/exercises.py, beside `coursekit watch {entry['id']}`.\n"
                    f"A hint: coursekit hint {where}.  The lesson itself: coursekit run {entry['id']}."
                )
    return "Every exercise listed here passes. Why each is right: coursekit explain LESSON O1."
