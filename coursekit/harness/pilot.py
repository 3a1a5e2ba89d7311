"""What happens around the steps of a training: the clock, the bar, the history, checkpoints, stopping."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from typing import Any, Literal

import lightning.pytorch as lightning
import torch

from coursekit import runtime
from coursekit.config import Training
from coursekit.data import Split
from coursekit.data.batches import Batch
from coursekit.errors import ArgumentError, DivergedError, StoppedError
from coursekit.harness.bar import Bar
from coursekit.harness.checkpoint import KEY
from coursekit.harness.early_stopping import Resumable, Stopper
from coursekit.harness.module import Blocks, Module
from coursekit.harness.run import Run, write_history

HISTORY = "history.csv"
# What is evaluated at once: rows on a GPU, numbers in the input on a CPU.
_GPU_ROWS = 4096
_CPU_NUMBERS = 1 << 16


class Pilot(lightning.Callback):
    """Everything that happens around the steps: the clock, the bar, the history, checkpoints, stopping."""

    def __init__(
        self,
        run: Run,
        blocks: Blocks,
        watched: dict[str, Split],
        training: Training,
        stop: runtime.StopSignal,
        bar: Bar,
        mark: str,
        if_diverged: Literal["raise", "stop"],
        stopper: Stopper | None = None,
        monitor: str = "val_loss",
    ) -> None:
        self.run, self.blocks, self.watched, self.training = run, blocks, watched, training
        self.stopper, self.monitor = stopper, monitor
        self.stop, self.bar, self.mark, self.if_diverged = stop, bar, mark, if_diverged
        self.saves_inside_epochs = len(blocks) == 1
        self.random_state: dict[str, Any] | None = None
        self.warm = False
        self.finished = False
        self.next_look = 0.0
        self.next_save = time.monotonic() + training.checkpoint_seconds

    # ------------------------------------------------------------------ once a step

    def after_step(self) -> None:
        """Look at the clock; every tenth of a second look at everything else."""
        now = time.monotonic()
        if self.stop.number is None and now < self.next_look:
            return
        position = self.module.position
        if not self.warm:
            self.run.watch.end_warmup()
            self.warm = True
        self.next_look = now + 0.1
        self.bar.advance_to(position.step)
        # At an epoch's last step the epoch is closed first: on_train_epoch_end looks again.
        if self.saves_inside_epochs and position.step < position.first + self.blocks.batches.steps:
            self._save_if_due(stopping=self.stop.number is not None)

    # ------------------------------------------------------------------ once an epoch

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self.trainer = trainer
        assert isinstance(pl_module, Module)
        self.module = pl_module
        # Lightning counts epochs for itself; after a resume it goes on from those in the history.
        done = len(self.run.history)
        vars(trainer.fit_loop.epoch_progress.current).update(ready=done, started=done, processed=done, completed=done)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        position = self.module.position
        self.blocks.epoch = trainer.current_epoch
        self.blocks.start = position.step - position.first
        if self.random_state is not None:
            runtime.set_random_state(self.random_state)
            self.random_state = None
        self.run.watch.start()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        run, position = self.run, self.module.position
        means = {name: self._mean_over_processes(value) for name, value in position.means().items()}
        run.watch.pause()
        if not math.isfinite(means.get("loss", 0.0)):
            self._diverge()
            return
        scores = {
            f"{part}_{name}": value
            for part, split in self.watched.items()
            for name, value in self.module.evaluate(_chunks(split)).items()
        }
        run.history.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": position.step,
                "lr": float(self.module.optimizer.param_groups[0]["lr"]),
                **means,
                **scores,
                "seconds": run.watch.seconds,
            }
        )
        position.begin_epoch()
        for logger in trainer.loggers:
            logger.log_metrics(run.history[-1], position.step)
        self.bar.note("  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
        stopping = trainer.strategy.reduce_boolean_decision(self.stop.number is not None, all=False)
        self.finished = self._is_finished()
        self._save_if_due(stopping=stopping and not self.finished)

    def _is_finished(self) -> bool:
        """Ask the stopper, and go back to the best weights at the end."""
        run, last = self.run, len(self.run.history) == self.training.epochs
        if self.stopper is None:
            return last
        row = run.history[-1]
        if self.monitor not in row:
            raise ArgumentError(
                "early stopping",
                f"one of the columns {', '.join(row)}",
                got=repr(self.monitor),
                fix="watch one of them",
            )
        enough = self.stopper.step(row[self.monitor], self.module.network)
        # The processes share their weights, but not the statistics of their batches: one speaks for all.
        enough = self.trainer.strategy.reduce_boolean_decision(enough, all=False)
        if enough and not last:
            run.stopped_early = self.trainer.should_stop = True
        if enough or last:
            self.stopper.restore(self.module.network)
        return enough or last

    def _mean_over_processes(self, value: float) -> float:
        if self.trainer.world_size == 1:
            return value
        return float(self.trainer.strategy.reduce(torch.tensor(value, dtype=torch.float64), reduce_op="mean"))

    # ------------------------------------------------------------------ checkpoints

    def _save_if_due(self, *, stopping: bool) -> None:
        due = time.monotonic() >= self.next_save
        if self.trainer.world_size > 1:
            due = self.trainer.strategy.broadcast(due)
        if self.run.checkpoint is not None and (due or stopping or self.finished):
            with self.run.watch.paused():
                if not self._is_finite():
                    self._diverge()
                    return
                self.trainer.save_checkpoint(self.run.checkpoint)
                if self.trainer.is_global_zero:
                    write_history(self.run.checkpoint.with_name(HISTORY), [self.run])
            self.next_save = time.monotonic() + self.training.checkpoint_seconds
        if stopping:
            raise StoppedError(self.stop.number or signal.SIGTERM)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Lightning's own loop counters cannot say "inside an epoch, after this many steps of a block".
        del checkpoint["loops"]
        checkpoint[KEY] = {
            "fingerprint": self.mark,
            "finished": self.finished,
            **self.run.state(),
            "position": self.module.position.state(),
            "stopper": self.stopper.state_dict() if isinstance(self.stopper, Resumable) else None,
            "random": runtime.random_state(),
        }

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.module.position.restore(checkpoint[KEY]["position"], self.module.device)
        self.random_state = checkpoint[KEY]["random"]
        if isinstance(self.stopper, Resumable):
            self.stopper.load_state_dict(checkpoint[KEY]["stopper"])

    # ------------------------------------------------------------------ divergence

    def _is_finite(self) -> bool:
        position = self.module.position
        return position.first_bad_step() is None and all(
            bool(part.isfinite().all()) for part in self.module.parameters()
        )

    def _diverge(self) -> None:
        step = self.module.position.first_bad_step()
        step = self.module.position.step if step is None else step
        self.run.diverged_at = step
        if self.if_diverged == "stop":
            self.trainer.should_stop = True
            return
        epoch = step // self.blocks.batches.steps + 1
        kept = self.run.checkpoint is not None and self.run.checkpoint.exists()
        raise DivergedError(
            f"{self.run.label}, seed {self.run.seed}",
            "a finite loss at every step",
            got=f"one that is not, at step {step} (epoch {epoch})",
            fix="lower the learning rate or clip the gradients"
            + (f"; the last good state is kept in {self.run.checkpoint}" if kept else ""),
        )


def _chunks(part: Split) -> Iterator[Batch]:
    """Cut a part into chunks that fit a CPU's cache; a GPU wants them large."""
    width = part.inputs[0].numel()
    rows = _GPU_ROWS if part.inputs.device.type == "cuda" else min(max(_CPU_NUMBERS // width, 32), _GPU_ROWS)
    yield from zip(part.inputs.split(rows), part.targets.split(rows), strict=True)
