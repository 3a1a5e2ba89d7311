"""`fit`: train a module on data with Lightning, stop and resume it anywhere, get a `Run` back."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from coursekit import runtime
from coursekit.config import Training, fingerprint
from coursekit.data import Data, Split
from coursekit.data.batches import Batch, Batches, TensorBatches, WorkerBatches
from coursekit.errors import DeviceError, DivergedError, StoppedError
from coursekit.files import make_folder
from coursekit.harness.bar import Bar
from coursekit.harness.checkpoint import KEY, AtomicCheckpointIO, read_checkpoint
from coursekit.harness.module import Blocks, Module, nothing
from coursekit.harness.run import Run, write_history
from coursekit.metrics import Stopwatch

CHECKPOINT = "last.ckpt"
HISTORY = "history.csv"
# What is evaluated at once: rows on a GPU, numbers in the input on a CPU.
_GPU_ROWS = 4096
_CPU_NUMBERS = 1 << 16


def fit(
    module: Module,
    data: Data,
    training: Training,
    *,
    seed: int = 0,
    label: str = "training",
    out: Path | None = None,
    identity: str = "",
    if_diverged: Literal["raise", "stop"] = "raise",
    quiet: bool = False,
) -> Run:
    """Train a module and return what happened.

    With `out`, the training leaves a checkpoint and its history there. Called again with the same arguments it
    continues from that checkpoint, and the history is bit for bit the one of an uninterrupted run (on the CPU).
    A training that was finished is read back, not repeated.

    Args:
        module: the network with its loss and optimizer, freshly built under `runtime.seed_everything(seed)`.
        data: training and validation parts.
        training: epochs, batch size, device and the rest.
        seed: fixes the order of the mini-batches.
        label: names the training on the progress bar and in tables.
        out: the training's own folder; None writes nothing.
        identity: anything else that makes this training what it is, such as the hash of a learner's file.
        if_diverged: what a loss that is not finite leads to: an error, or an early end with `diverged_at` set.
        quiet: no progress bar.

    Raises:
        DivergedError: the loss is not finite (with `if_diverged="raise"`); the last good checkpoint is kept.
        CheckpointError: the checkpoint in `out` is damaged or belongs to another training.
        StoppedError: Ctrl-C or SIGTERM; a checkpoint was written first.
        DeviceError, OutputError, ArgumentError: the settings do not fit this machine, disk or data.
    """
    device = runtime.choose_device(training.device)
    precision = runtime.choose_precision(training.precision, device)
    module.position.mixed = precision == "bf16"
    train, validation = data.train.to(device), data.validation.to(device)
    module.to(device)
    if precision == "64":
        module.double()
        train, validation = _double(train), _double(validation)
    if _lays_out_by_pixel(training.channels_last, module, train.inputs):
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    share = {"seed": seed, "rank": rank, "world_size": world}
    batches: Batches
    if training.loader == "workers":
        batches = WorkerBatches(
            train.inputs.cpu(),
            train.targets.cpu(),
            training.batch_size,
            device=device,
            workers=training.workers,
            **share,
        )
    else:
        batches = TensorBatches(train.inputs, train.targets, training.batch_size, **share)

    mark = fingerprint(
        {
            # How often checkpoints are written does not change what is trained.
            "training": training.model_dump(exclude={"checkpoint_seconds", "tensorboard", "threads", "workers"}),
            "seed": seed,
            "identity": identity,
            "data": [data.name, list(train.inputs.shape), _checksum([train.inputs, train.targets])],
            "module": [str(module), _checksum(list(module.state_dict().values()))],
        }
    )
    run = Run(label, seed, steps_per_epoch=batches.steps, module=module)
    if device.type == "cuda":
        run.watch = Stopwatch(synchronise=partial(torch.cuda.synchronize, device))
    resume = None
    if out is not None:
        make_folder(out)
        run.checkpoint = out / CHECKPOINT
        if run.checkpoint.exists():
            resume = read_checkpoint(run.checkpoint, mark)
            run.restore(resume[KEY])
    if resume is not None and len(run.history) >= training.epochs:
        module.load_state_dict(resume["state_dict"])
        return run

    total = training.epochs * batches.steps
    count = training.threads or runtime.choose_threads(_multiplications(module, next(batches.epoch(0))))
    blocks = Blocks(batches, block=1 if world > 1 else batches.steps)
    stop = runtime.StopSignal()
    with (
        Bar(label, total, done=resume[KEY]["position"]["step"] if resume else 0, quiet=quiet or rank > 0) as bar,
        runtime.threads(count),
        stop.listening(),
        _quiet_lightning(),
    ):
        pilot = _Pilot(run, blocks, validation, training, stop, bar, mark)
        pilot.if_diverged = if_diverged
        module.fused = training.fused
        if training.compile:
            module.network.compile()
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=_devices(device, world),
            num_nodes=max(1, world // int(os.environ.get("LOCAL_WORLD_SIZE", world))),
            strategy="ddp" if world > 1 else "auto",
            max_epochs=training.epochs,
            callbacks=[pilot],
            plugins=[AtomicCheckpointIO()],
            logger=_tensorboard(out) if training.tensorboard and out is not None else False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            limit_val_batches=0,
            log_every_n_steps=1,  # of blocks: we log once an epoch
            default_root_dir=out,
        )
        module.after_step = pilot.after_step
        try:
            trainer.fit(module, blocks, ckpt_path=run.checkpoint if resume else None, weights_only=True)
        except SIGTERMException:  # Lightning listens too; `stop` heard the same signal
            pass
        finally:
            module.after_step = nothing
        stop.raise_if_set()
        bar.finish(_last_words(run))
    return run


class _Pilot(lightning.Callback):
    """Everything that happens around the steps: the clock, the bar, the history, checkpoints, stopping."""

    if_diverged: Literal["raise", "stop"] = "raise"

    def __init__(
        self,
        run: Run,
        blocks: Blocks,
        validation: Split,
        training: Training,
        stop: runtime.StopSignal,
        bar: Bar,
        mark: str,
    ) -> None:
        self.run, self.blocks, self.validation, self.training = run, blocks, validation, training
        self.stop, self.bar, self.mark = stop, bar, mark
        self.saves_inside_epochs = len(blocks) == 1
        self.random_state: dict[str, Any] | None = None
        self.warm = False
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
        scores = self.module.evaluate(_chunks(self.validation))
        run.history.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": position.step,
                "lr": float(self.module.optimizer.param_groups[0]["lr"]),
                **means,
                **{f"val_{name}": value for name, value in scores.items()},
                "seconds": run.watch.seconds,
            }
        )
        position.begin_epoch()
        for logger in trainer.loggers:
            logger.log_metrics(run.history[-1], position.step)
        self.bar.note("  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
        stopping = trainer.strategy.reduce_boolean_decision(self.stop.number is not None, all=False)
        finished = len(run.history) == self.training.epochs
        self._save_if_due(stopping=stopping and not finished, finished=finished)

    def _mean_over_processes(self, value: float) -> float:
        if self.trainer.world_size == 1:
            return value
        return float(self.trainer.strategy.reduce(torch.tensor(value, dtype=torch.float64), reduce_op="mean"))

    # ------------------------------------------------------------------ checkpoints

    def _save_if_due(self, *, stopping: bool, finished: bool = False) -> None:
        due = time.monotonic() >= self.next_save
        if self.trainer.world_size > 1:
            due = self.trainer.strategy.broadcast(due)
        if self.run.checkpoint is not None and (due or stopping or finished):
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
            **self.run.state(),
            "position": self.module.position.state(),
            "random": runtime.random_state(),
        }

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.module.position.restore(checkpoint[KEY]["position"], self.module.device)
        self.random_state = checkpoint[KEY]["random"]

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


def _lays_out_by_pixel(wanted: bool | None, module: Module, inputs: Tensor) -> bool:
    """Decide about channels-last: measured on a small CNN, the step takes three quarters of the time."""
    if wanted is None:
        wanted = any(isinstance(part, torch.nn.Conv2d) for part in module.modules())
    return wanted and inputs.dim() == 4


def _chunks(part: Split) -> Iterator[Batch]:
    """Cut a part into chunks that fit a CPU's cache; a GPU wants them large."""
    width = part.inputs[0].numel()
    rows = _GPU_ROWS if part.inputs.device.type == "cuda" else min(max(_CPU_NUMBERS // width, 32), _GPU_ROWS)
    yield from zip(part.inputs.split(rows), part.targets.split(rows), strict=True)


def _last_words(run: Run) -> str:
    if run.diverged_at is not None:
        return f"diverged at step {run.diverged_at}"
    row = run.history[-1]
    shown = "  ".join(f"{name} {row[name]:.4f}" for name in ("loss", "val_loss", "val_accuracy") if name in row)
    seconds = run.watch.seconds
    rate = f", {row['step'] / seconds:,.0f} steps/s" if seconds > 0 else ""
    return f"{shown}  {seconds:.1f} s{rate}"


def _multiplications(module: Module, batch: Batch) -> float:
    """Count the multiplications of one forward pass, leaving random numbers and statistics as they were."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.random.fork_rng(), counter:
        module.evaluate([batch])
    return counter.get_total_flops() / 2


def _checksum(tensors: list[Tensor]) -> str:
    """Return a hash of shapes and values; of very large tensors, evenly spaced values."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().reshape(-1)
        some = flat[:: max(1, flat.numel() >> 22)].contiguous().cpu()
        digest.update(some.view(torch.uint8).numpy().tobytes() if some.numel() else b"")
    return digest.hexdigest()


def _double(part: Split) -> Split:
    return replace(part, inputs=part.inputs.double())


def _devices(device: torch.device, world: int) -> int | list[int]:
    if world > 1:
        return int(os.environ.get("LOCAL_WORLD_SIZE", world))
    return [device.index or 0] if device.type == "cuda" else 1


def _tensorboard(out: Path) -> TensorBoardLogger:
    try:
        return TensorBoardLogger(out, name="", version="tensorboard")
    except ModuleNotFoundError:
        raise DeviceError(
            "training.tensorboard",
            "the package tensorboard",
            got="none installed",
            fix="install it with `pip install tensorboard`, or leave tensorboard=false",
        ) from None


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's adverts and hints inside the block; its warnings stay."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
        # There are no worker processes to add: the data lies on the device.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        try:
            yield
        finally:
            logger.setLevel(level)
