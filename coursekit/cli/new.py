"""`coursekit new`: lay out an exercise that works, for the author to overwrite."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("new")(new)


def new(
    exercise: Annotated[str, typer.Argument(metavar="LESSON/EXERCISE", help="Such as sequences/scaled_attention.")],
) -> None:
    """Lay out a new exercise, in a new lesson or at the end of an old one."""
    from pathlib import Path

    from coursekit.errors import ArgumentError
    from coursekit.grading.authoring.scaffold import new_exercise

    lesson, slash, name = exercise.partition("/")
    if not slash or "/" in name:
        fix = "write both, as in `coursekit new sequences/scaled_attention`"
        raise ArgumentError("new", "a lesson and an exercise, LESSON/EXERCISE", got=repr(exercise), fix=fix)
    for file in new_exercise(lesson, name):
        print(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
    print(f"\nIt works already: `coursekit verify {lesson} --exercise {name}` says what is still missing.")
