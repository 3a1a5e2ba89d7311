"""`coursekit class`: grade a folder of submissions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coursekit.cli.output import JsonOption, write_json_to


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("class")(grade_class)


def grade_class(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Submissions: ann.py, or ann/exercises.py.")],
    lesson: Annotated[str, typer.Option(help="The lesson, such as optimization.")],
    out: Annotated[Path, typer.Option(help="The folder of the results; the same again continues.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Grade on a dask.distributed cluster: tcp://host:port.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the inputs; kept secret in OUT/run.json.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Grade all again, with a fresh seed.")] = False,
    isolation: Annotated[str, typer.Option(help="auto, or strict: only with every layer.")] = "auto",
    trusted: Annotated[
        bool, typer.Option("--trust-submissions", help="Grade even where strangers' code cannot be confined.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: JsonOption = None,
) -> None:
    """Grade a class: a gradebook, feedback for each student, and a summary. Stopped, it continues where it was.

    Exits with 0 when every submission was graded, whatever the grades; with 1 when some could not be.
    """
    from coursekit import catalog
    from coursekit.errors import ArgumentError

    if isolation not in ("auto", "strict"):
        raise ArgumentError("--isolation", "auto or strict", got=isolation, fix="name one of them")
    if workers is not None and scheduler is not None:
        fix = "leave one out: the cluster has its own workers"
        raise ArgumentError("class", "--workers or --scheduler", got="both", fix=fix)
    entry = catalog.lesson(lesson)
    from coursekit.grading.classroom import classes as classroom
    from coursekit.grading.classroom import summary

    options = classroom.Options(
        workers=workers,
        scheduler=scheduler,
        seed=seed,
        fresh=fresh,
        isolation="strict" if isolation == "strict" else "auto",
        trusted=trusted,
        quiet=quiet,
    )
    result = classroom.grade_class(folder, entry, out, options)
    if json is not None:
        write_json_to(json, result.summary)
    if json != "-":
        for line in summary.lines(result.summary):
            print(line)
        count = f"{result.summary['graded']} of {result.summary['submissions']} submissions graded"
        print(f"\n{count} in {result.summary['seconds']:.0f} s. Gradebook: {result.gradebook}")
        if result.gradebook.name != "gradebook.csv":
            print("It has another name, since gradebook.csv could not be replaced: is it open?")
        print(f"Summary: {out / 'summary.html'}")
    raise typer.Exit(result.exit_code)
