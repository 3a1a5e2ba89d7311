"""`coursekit hint`: three hints of rising strength for each exercise."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("hint")(hint)


def hint(
    lesson: Annotated[str, typer.Argument(help="The lesson, such as optimization.")],
    exercise: Annotated[str, typer.Argument(help="The exercise, such as O1 or sgd_momentum.")],
    level: Annotated[int, typer.Option("--level", "-l", min=1, max=3, help="How strong: 1, 2 or 3.")] = 1,
) -> None:
    """Print a hint; the answer is never printed."""
    from coursekit import catalog

    entry = catalog.lesson(lesson)
    chosen = entry.exercise(exercise)
    print(f"{chosen.code} {chosen.title}, hint {level} of 3:")
    print(f"  {chosen.hints[level - 1]}")
    if level < 3:
        print(f"  More: coursekit hint {entry.id} {chosen.code} --level {level + 1}")
