"""`coursekit grade`: grade your exercises, and name the mistake where it is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coursekit.cli.output import JsonOption, write_json_to


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("grade")(grade)


def grade(
    lesson: Annotated[str, typer.Argument(help="The lesson, such as optimization.")],
    submission: Annotated[Path | None, typer.Option(help="The file to grade; the lesson's exercises.py.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draw the same inputs again; a report names its seed.")] = None,
    json: JsonOption = None,
) -> None:
    """Grade a file: points, verdicts, and what to mend. Exits with 0 only when every exercise passes."""
    from coursekit import catalog, progress

    entry = catalog.lesson(lesson)
    own = entry.folder / "exercises.py"
    from coursekit.grading import reporting
    from coursekit.grading.grade import grade as grade_lesson

    report = grade_lesson(entry, submission or own, seed=seed)
    if submission is None or submission.resolve() == own.resolve():
        progress.record(catalog.root(), entry.id, {one.id: one.verdict for one in report.exercises})
    if json is not None:
        write_json_to(json, report.to_json())
    if json != "-":
        print(reporting.heading(report))
        for line, colour in reporting.table(entry, report):
            typer.secho(f"  {line}", fg=colour)
        for line in reporting.details(entry, report, {}):
            print(line)
        print(f"\nscore {report.score:g} of {report.max_score:g}; the same inputs again: --seed {report.seed}")
    raise typer.Exit(report.exit_code)
