"""What a training leaves behind: its history, epoch by epoch, and where its files are."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coursekit.errors import ArgumentError
from coursekit.files import write_atomically
from coursekit.harness.module import Module
from coursekit.metrics import Stopwatch

Row = dict[str, float]
"""One epoch: `epoch` (from 1), `step`, `lr`, `loss`, `val_loss`, ..., and `seconds` of training so far."""


@dataclass
class Run:
    """One finished training.

    Attributes:
        label: what was trained, for example `momentum`.
        seed: its seed.
        history: one row for each epoch.
        watch: wall seconds inside training steps, without validation and checkpoints; the first step, which
            also pays for lazy initialisation, is its warm-up.
        steps_per_epoch: optimizer steps in an epoch.
        diverged_at: the optimizer step whose loss was not finite, or None.
        stopped_early: whether early stopping ended it before its last epoch.
        checkpoint: the last checkpoint, or None when nothing was written.
        module: what was trained, with its final weights; under early stopping, with the best ones.
    """

    label: str
    seed: int
    history: list[Row] = field(default_factory=list)
    watch: Stopwatch = field(default_factory=Stopwatch, repr=False)
    steps_per_epoch: int = 0
    diverged_at: int | None = None
    stopped_early: bool = False
    checkpoint: Path | None = None
    module: Module = field(kw_only=True, repr=False)

    def curve(self, name: str) -> list[float]:
        """Return one column of the history, epoch by epoch.

        Raises:
            ArgumentError: the history has no such column.
        """
        if self.history and name not in self.history[0]:
            known = ", ".join(self.history[0])
            raise ArgumentError("Run.curve", f"one of the columns {known}", got=repr(name), fix="name one of them")
        return [row[name] for row in self.history]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of the run, as plain values."""
        return {"history": self.history, "watch": self.watch.state_dict(), "stopped_early": self.stopped_early}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.history = [dict(row) for row in state["history"]]
        self.watch.load_state_dict(state["watch"])
        self.stopped_early = state["stopped_early"]


def write_history(path: Path, runs: Sequence[Run]) -> Path:
    """Write the histories of several runs as one CSV table, one row for each epoch, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    columns = list(dict.fromkeys(name for run in runs for row in run.history for name in row))
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, ["run", "seed", *columns], lineterminator="\n")
    table.writeheader()
    for run in runs:
        table.writerows({"run": run.label, "seed": run.seed, **row} for row in run.history)
    return write_atomically(path, buffer.getvalue())
