"""`coursekit run`: run a lesson's experiments and write a report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("run")(run)


def run(
    lesson: Annotated[str, typer.Argument(help="The lesson, such as optimization.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings, such as training.epochs=5.")] = None,
    profile: Annotated[str | None, typer.Option(help="The profile: quick, full or gpu.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The profile quick (the default).")] = False,
    full: Annotated[bool, typer.Option("--full", help="The profile full.")] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="The profile gpu.")] = False,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/LESSON-PROFILE by default.")] = None,
    mine: Annotated[bool, typer.Option("--mine", help="Run your own code beside PyTorch's.")] = False,
    submission: Annotated[Path | None, typer.Option(help="Your file, with --mine; the lesson's exercises.py.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a claim does not hold.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run a lesson: train, measure, draw, and write report.html."""
    from coursekit import catalog
    from coursekit.config import resolve
    from coursekit.errors import ArgumentError

    chosen = {name for name, wanted in (("quick", quick), ("full", full), ("gpu", gpu)) if wanted}
    chosen |= {profile} if profile is not None else set()
    if len(chosen) > 1:
        raise ArgumentError("run", "one profile", got=", ".join(sorted(chosen)), fix="name quick, full or gpu, once")
    name = chosen.pop() if chosen else "quick"
    entry = catalog.lesson(lesson)
    # Before torch is imported: a wrong setting is told in a blink.
    settings = resolve(catalog.load(entry, "config").Config, entry.config_file, name, overrides or [])
    folder = out or Path("runs") / f"{entry.id}-{name}{'-mine' if mine or submission else ''}"
    own = (submission or entry.folder / "exercises.py") if mine or submission else None

    print(f"{entry.title}, profile {name}, into {folder}. Loading PyTorch and Lightning ...", file=sys.stderr)
    from coursekit.harness import run_lesson

    result = run_lesson(entry, settings, profile=name, out=folder, submission=own, quiet=quiet)

    print()
    for note in result["notes"]:
        print(f"note: {note}")
    for claim in result["claims"]:
        word = "holds        " if claim["holds"] else "DOES NOT HOLD"
        print(f"{word}  {claim['id']}: {claim['value']:.4g} {claim['bound']}")
    broken = [claim["id"] for claim in result["claims"] if not claim["holds"]]
    seconds = result["seconds"]
    print(
        f"\n{len(result['claims']) - len(broken)} of {len(result['claims'])} claims hold. "
        f"{seconds['wall']:.0f} s ({seconds['cpu']:.0f} CPU seconds), {result['peak_memory'] / 1e6:.0f} MB at most."
    )
    print(f"Report: {folder / 'report.html'}")
    if check and broken:
        raise typer.Exit(1)
