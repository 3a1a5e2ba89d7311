"""Scorecards side by side, as CSV and as Markdown. Needs no torch."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from coursekit.errors import ArgumentError
from coursekit.files import write_atomically
from coursekit.metrics.scorecard import Scorecard


def to_csv(scorecards: Sequence[Scorecard], path: str | os.PathLike[str]) -> None:
    """Write the rows of several scorecards under one header; what has no value stays empty.

    The file appears whole or not at all.

    Args:
        scorecards: at least one.
        path: the file; its folder must exist.

    Raises:
        ArgumentError: no scorecard.
        OutputError: the file cannot be written; what stood there is unharmed.
    """
    _check_some("to_csv", scorecards)
    rows = [row for scorecard in scorecards for row in scorecard.rows()]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(Path(path), text.getvalue())


def markdown_table(scorecards: Sequence[Scorecard]) -> str:
    """A Markdown table with one row per metric and one column per variant, reasons listed below it.

    Args:
        scorecards: at least one, each with a variant of its own.

    Raises:
        ArgumentError: no scorecard, or a variant twice.
    """
    _check_some("markdown_table", scorecards)
    variants = [scorecard.variant for scorecard in scorecards]
    if len(set(variants)) != len(variants):
        raise ArgumentError("markdown_table", "variants must differ", got=variants, fix="rename one")
    names = dict.fromkeys(name for scorecard in scorecards for name in scorecard.metrics)
    lines = [_row("metric", "unit", *variants), _row("---", "---", *("---:" for _ in variants))]
    notes = []
    for name in names:
        cells = [scorecard.metrics.get(name) for scorecard in scorecards]
        units = dict.fromkeys(cell.unit for cell in cells if cell is not None)
        lines.append(_row(name, " / ".join(units), *("" if cell is None else cell.text() for cell in cells)))
        reasons: dict[str, list[str]] = {}
        for variant, cell in zip(variants, cells, strict=True):
            if cell is not None and cell.reason:
                reasons.setdefault(f"{cell.text()}: {cell.reason}", []).append(variant)
        notes += [f"- {name} ({', '.join(who)}): {' '.join(reason.split())}" for reason, who in reasons.items()]
    return "\n".join(lines + ([""] if notes else []) + notes) + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def _check_some(where: str, scorecards: Sequence[Scorecard]) -> None:
    if not scorecards:
        raise ArgumentError(where, "at least one scorecard was expected", got="none", fix="run a lesson first")
