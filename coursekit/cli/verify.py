"""`coursekit verify`: prove that the graders accept what is right and refuse what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from coursekit.cli.output import JsonOption, write_json_to


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("verify")(verify)


def verify(
    lesson: Annotated[str | None, typer.Argument(help="Only this lesson.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="How many seeds for the inputs.")] = 3,
    exercise: Annotated[str | None, typer.Option(help="Only this exercise, such as O1; needs a lesson.")] = None,
    mutants: Annotated[bool, typer.Option("--mutants/--no-mutants", help="Make mutants of the solution too.")] = True,
    publish: Annotated[bool, typer.Option("--publish", help="Write the lesson's VERIFIED.md.")] = False,
    json: JsonOption = None,
) -> None:
    """Grade every stub, solution, wrong answer and mutant, and compare with what must come."""
    from coursekit import catalog
    from coursekit.errors import ArgumentError

    if exercise is not None and lesson is None:
        raise ArgumentError("verify --exercise", "a lesson too", got="none", fix="write `coursekit verify LESSON ...`")
    if publish and (exercise is not None or not mutants):
        fix = "leave out --exercise and --no-mutants"
        raise ArgumentError("verify --publish", "the whole proof", got="a part of it", fix=fix)
    chosen = catalog.lessons() if lesson is None else (catalog.lesson(lesson),)
    if exercise is not None:
        chosen[0].exercise(exercise)  # before torch is imported: a wrong name is told in a blink

    from coursekit.grading.proof.publish import publish as write_page
    from coursekit.grading.proof.rows import to_json
    from coursekit.grading.proof.verify import verify as verify_lesson

    proofs = []
    for entry in chosen:
        with_bar = _progress(entry.id)
        proofs.append(verify_lesson(entry, range(seeds), exercise=exercise, with_mutants=mutants, progress=with_bar))
    tree = to_json(proofs)
    if json is not None:
        write_json_to(json, tree)
    if json != "-":
        _print(tree)
    for entry, proof in zip(chosen, proofs, strict=True) if publish else ():
        print(f"written: {write_page(entry, proof)}", file=sys.stderr)
    if not tree["summary"]["ok"]:
        raise typer.Exit(1)


def _print(tree: dict[str, Any]) -> None:
    summary = tree["summary"]
    for row in tree["rows"]:
        if row["ok"]:
            continue
        named = "" if row["kind"] == "mutant" else f", diagnosed as {row['diagnosis'] or 'nothing'}"
        print(
            f"NOT OK  {row['lesson']}/{row['exercise']}  {row['kind']} {row['submission']}: expected "
            f"{row['expected']}, got {row['verdict']}{named}"
        )
    for finding in summary["findings"]:
        print(f"MISSING {finding}")
    mutants = summary["mutants"]
    if mutants["total"]:
        share = 100 * mutants["killed"] / mutants["total"]
        open_ones = sum(not survivor["because"] for survivor in mutants["survivors"])
        died = f"{mutants['killed']} of {mutants['total']} mutants die ({share:.1f} %)"
        print(f"{died}, {open_ones} live without a reason.")
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary["kinds"].items())
    right = summary["rows"] - summary["failed"]
    print(f"{right} of {summary['rows']} rows as they must be ({kinds}), {len(summary['findings'])} things missing.")


def _progress(lesson: str) -> Callable[[int, int, str], None]:
    """Return what is told of each row: it counts on a terminal, and is silent elsewhere."""
    stream = sys.stderr
    if not stream.isatty():
        return lambda *_: None

    def tell(done: int, total: int, exercise: str) -> None:
        line = "" if done == total else f"{lesson}/{exercise}: {done} of {total} rows"
        stream.write(f"\r{line:<72}{chr(13) if done == total else ''}")
        stream.flush()

    return tell
