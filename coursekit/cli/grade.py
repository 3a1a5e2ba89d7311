"""`coursekit grade`: grade your exercises, and name the mistake where it is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from coursekit.cli.output import JsonOption, write_json_to

Confinement = Literal["auto", "strict"]


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("grade")(grade)


def grade(
    lesson: Annotated[str, typer.Argument(help="The lesson, such as optimization.")],
    submission: Annotated[Path | None, typer.Option(help="The file to grade; the lesson's exercises.py.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draw the same inputs again; a report names its seed.")] = None,
    isolation: Annotated[Confinement, typer.Option(help="strict refuses where a file cannot be confined.")] = "auto",
    in_process: Annotated[bool, typer.Option("--in-process", help="Run it here; only if you trust it.")] = False,
    json: JsonOption = None,
) -> None:
    """Grade a file: points, verdicts, and what to mend. Exits with 0 only when every exercise passes."""
    from coursekit import catalog, progress

    entry = catalog.lesson(lesson)
    own = entry.folder / "exercises.py"
    from coursekit.grading import reporting
    from coursekit.grading.grader import Grader
    from coursekit.grading.submission import read_source

    read_source(submission or own)  # what cannot be read at all is told at once
    with Grader(entry, isolation="in-process" if in_process else isolation, seed=seed) as grader:
        report = grader.grade(submission or own)
    if submission is None or submission.resolve() == own.resolve():
        verdicts = {one.id: one.verdict for one in report.exercises}
        points = {one.id: one.points for one in report.exercises}
        progress.record(catalog.root(), entry.id, verdicts, points=points, sha256=report.sha256)
    if json is not None:
        write_json_to(json, report.to_json())
    if json != "-":
        print(reporting.heading(report))
        for line, colour in reporting.table(entry, report):
            typer.secho(f"  {line}", fg=colour)
        for line in reporting.details(entry, report):
            print(line)
        for flag in report.flags:
            print(f"look at: {flag}")
        print(f"\n{reporting.closing(report, '--seed')}")
    raise typer.Exit(report.exit_code)
