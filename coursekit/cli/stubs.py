"""`coursekit stubs`: make a lesson's exercises.py from its solution."""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("stubs")(stubs)


def stubs(
    lesson: Annotated[str, typer.Argument(help="The lesson, such as optimization.")],
    show: Annotated[bool, typer.Option("--print", help="Print the stubs, and write nothing.")] = False,
) -> None:
    """Make exercises.py from the solution again; a file with someone's work in it is left alone."""
    from coursekit import catalog
    from coursekit.errors import LessonError
    from coursekit.grading.authoring.scaffold import new_stubs
    from coursekit.grading.authoring.stubs import exercise_names, stub_source

    entry = catalog.lesson(lesson)
    file = entry.folder / "solution.py"
    if not file.is_file():
        raise LessonError(f"lesson {entry.id}", "a file solution.py", got="none", fix=f"add {file}")
    if show:
        print(stub_source(file.read_text(encoding="utf-8"), exercise_names(entry)), end="")
        return
    print(f"written: {new_stubs(entry)}")
