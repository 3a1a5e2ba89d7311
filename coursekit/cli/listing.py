"""`coursekit list`: the lessons and their exercises."""

from __future__ import annotations

from typing import Annotated

import typer

from coursekit.cli.output import JsonOption, write_json_to


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("list")(list_lessons)


def list_lessons(
    lesson: Annotated[str | None, typer.Argument(help="Only this lesson.")] = None, json: JsonOption = None
) -> None:
    """List the lessons and exercises, and how far you are."""
    from coursekit import catalog, progress

    chosen = catalog.lessons() if lesson is None else (catalog.lesson(lesson),)
    done = progress.read(catalog.root())
    tree = {
        "lessons": [
            {
                "id": entry.id,
                "title": entry.title,
                "order": entry.order,
                "goal": entry.goal,
                "minutes": entry.minutes,
                "exercises": [
                    {
                        "id": exercise.id,
                        "code": exercise.code,
                        "title": exercise.title,
                        "points": exercise.points,
                        "difficulty": exercise.difficulty,
                        "minutes": exercise.minutes,
                        "status": done.get(f"{entry.id}/{exercise.id}", "not attempted"),
                    }
                    for exercise in entry.exercises
                ],
            }
            for entry in chosen
        ]
    }
    if json is not None:
        write_json_to(json, tree)
        return
    for entry in tree["lessons"]:
        passed = sum(exercise["status"].startswith("pass") for exercise in entry["exercises"])
        print(f"{entry['order']:>2}. {entry['title']} ({entry['id']}), {entry['minutes']} min", end="")
        print(f", {passed} of {len(entry['exercises'])} exercises passed")
        print(f"    {entry['goal']}")
        width = max((len(exercise["title"]) for exercise in entry["exercises"]), default=0)
        for exercise in entry["exercises"]:
            stars = "*" * exercise["difficulty"]
            print(
                f"    {exercise['code']:<4} {exercise['title']:<{width}} {stars:<4} {exercise['points']:>3} points "
                f"{exercise['minutes']:>3} min  {exercise['status']}"
            )
    print(
        "\nRun a lesson: coursekit run LESSON.  Grade yours: coursekit grade LESSON.  A hint: coursekit hint LESSON O1."
    )
