"""`coursekit release`: make the bundle for students, and prove that no answer is in it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("release")(release)


def release(
    lessons: Annotated[list[str], typer.Argument(metavar="LESSON...", help="The lessons, such as optimization.")],
    out: Annotated[Path, typer.Option(help="The bundle's folder: new, or empty.")],
    archive: Annotated[bool, typer.Option("--zip", help="Also write OUT.zip.")] = False,
) -> None:
    """Make the students' bundle: a course of its own, with fresh stubs and without a single answer."""
    from coursekit import catalog
    from coursekit.grading.classroom.release import release as make

    entries = [catalog.lesson(name) for name in dict.fromkeys(lessons)]
    print("Laying out the bundle, and grading stubs and solutions in it ...", file=sys.stderr)
    made = make(entries, out, archive=archive)
    print(f"{len(made.files)} files in {made.folder}" + (f", and {made.archive}" if made.archive else ""))
    print("Proven: no code of an answer in any file; every stub is not attempted; every solution passes in it.")
    if made.left_out:
        print(f"Left out: {', '.join(made.left_out)}")
