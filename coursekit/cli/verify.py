"""`coursekit verify`: prove that the graders accept what is right and refuse what is wrong."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from coursekit.cli.output import JsonOption, write_json_to


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("verify")(verify)


def verify(
    lesson: Annotated[str | None, typer.Argument(help="Only this lesson.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds for solutions and alternatives.")] = 3,
    json: JsonOption = None,
) -> None:
    """Grade every stub, solution, alternative, dialect and wrong answer, and compare with what must come."""
    from coursekit import catalog
    from coursekit.grading.verify import verify as verify_lesson

    chosen = catalog.lessons() if lesson is None else (catalog.lesson(lesson),)
    proofs = [verify_lesson(entry, seeds=range(seeds)) for entry in chosen]
    rows = [row for proof in proofs for row in proof.to_json()["rows"]]
    findings = [finding for proof in proofs for finding in proof.findings]
    done = bool(proofs) and all(proof.ok for proof in proofs)
    failed = [row for row in rows if not row["ok"]]
    if json is not None:
        summary = {"ok": done, "rows": len(rows), "failed": len(failed), "findings": findings}
        write_json_to(json, {"rows": rows, "summary": summary})
    if json != "-":
        for row in failed:
            print(
                f"NOT OK  {row['lesson']}/{row['exercise']}  {row['kind']} {row['submission']}: expected "
                f"{row['expected']}, got {row['verdict']}, diagnosed as {row['diagnosis'] or 'nothing'}"
            )
        for finding in findings:
            print(f"MISSING {finding}")
        kinds = Counter(row["kind"] for row in rows)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        print(
            f"{len(rows) - len(failed)} of {len(rows)} rows as they must be ({counts}), {len(findings)} things missing."
        )
    if not done:
        raise typer.Exit(1)
