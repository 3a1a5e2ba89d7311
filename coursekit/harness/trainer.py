"""`fit`: train a module on data with Lightning, stop and resume it anywhere, get a `Run` back."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import lightning.pytorch as lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from coursekit import runtime
from coursekit.config import Training, fingerprint
from coursekit.data import Data, Split
from coursekit.data.batches import Batch, Batches, TensorBatches, WorkerBatches
from coursekit.errors import DeviceError
from coursekit.files import make_folder
from coursekit.harness.bar import Bar
from coursekit.harness.checkpoint import KEY, AtomicCheckpointIO, read_checkpoint
from coursekit.harness.early_stopping import EarlyStopping, Resumable, Stopper
from coursekit.harness.module import Blocks, Module, nothing
from coursekit.harness.pilot import Pilot
from coursekit.harness.run import Run
from coursekit.metrics import Stopwatch

CHECKPOINT = "last.ckpt"


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
    stopper: Stopper | None = None,
    monitor: str = "val_loss",
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
        stopper: decides after each epoch whether to stop, and brings the best weights back at the end; None takes
            `EarlyStopping` with `training.patience` where that is above 0. A training whose stopper keeps no
            `state_dict` begins anew when it is continued.
        monitor: the column of the history that the stopper watches.
        quiet: no progress bar.

    Raises:
        DivergedError: the loss is not finite (with `if_diverged="raise"`); the last good checkpoint is kept.
        CheckpointError: the checkpoint in `out` is damaged or belongs to another training.
        StoppedError: Ctrl-C or SIGTERM; a checkpoint was written first.
        DeviceError, OutputError, ArgumentError: the settings do not fit this machine, disk or data.
    """
    processes = _Processes.from_environment()
    runtime.look_for_cuda_quickly()
    device = runtime.choose_device(training.device)
    if processes.count > 1 and device.type == "cuda":
        device = torch.device("cuda", processes.local_rank)
    train, watched = _place(module, data, training, device)
    batches = _batches(train, training, device, seed, processes)
    run = Run(label, seed, steps_per_epoch=batches.steps, module=module)
    if device.type == "cuda":
        run.watch = Stopwatch(synchronise=partial(torch.cuda.synchronize, device))
    if stopper is None and training.patience:
        stopper = EarlyStopping(training.patience)
    mark = _mark(module, data.name, train, training, seed, identity)
    resume = None
    if out is not None:
        run.checkpoint = make_folder(out) / CHECKPOINT
        if run.checkpoint.exists():
            resume = read_checkpoint(run.checkpoint, mark)
    if resume is not None:
        if resume[KEY]["finished"]:
            run.restore(resume[KEY])
            module.load_state_dict(resume["state_dict"])
            return run
        if stopper is None or isinstance(stopper, Resumable):
            run.restore(resume[KEY])
        else:
            resume = None

    threads = training.threads or runtime.choose_threads(_multiplications(module, next(batches.epoch(0))))
    blocks = Blocks(batches, block=1 if processes.count > 1 else batches.steps)
    done = resume[KEY]["position"]["step"] if resume else 0
    quiet = quiet or processes.rank > 0
    stop = runtime.StopSignal()
    with (
        Bar(label, training.epochs * batches.steps, done=done, quiet=quiet) as bar,
        runtime.threads(threads),
        stop.listening(),
        _quiet_lightning(),
    ):
        pilot = Pilot(run, blocks, watched, training, stop, bar, mark, if_diverged, stopper, monitor)
        trainer = _trainer(training, device, processes, pilot, out)
        module.fused, module.after_step = training.fused, pilot.after_step
        if training.compile:
            module.network.compile()
        try:
            trainer.fit(module, blocks, ckpt_path=run.checkpoint if resume else None, weights_only=True)
        except SIGTERMException:  # Lightning listens too; `stop` heard the same signal
            pass
        finally:
            module.after_step = nothing
        stop.raise_if_set()
        bar.finish(_last_words(run))
    return run


@dataclass(frozen=True)
class _Processes:
    """Which of how many processes this is, as `torchrun` and Slurm's launchers say in the environment."""

    rank: int = 0
    local_rank: int = 0
    count: int = 1
    count_here: int = 1

    @classmethod
    def from_environment(cls) -> _Processes:
        count = int(os.environ.get("WORLD_SIZE", "1"))
        here = int(os.environ.get("LOCAL_WORLD_SIZE", count))
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0")), count, here)


def _place(module: Module, data: Data, training: Training, device: torch.device) -> tuple[Split, dict[str, Split]]:
    """Bring the module, the training part and those to watch to the device, in the precision and layout asked for."""
    precision = runtime.choose_precision(training.precision, device)
    module.position.mixed = precision == "bf16"
    train, watched = data.train.to(device), {"val": data.validation.to(device)}
    if training.test_curve:
        watched["test"] = data.test.to(device)
    module.to(device)
    if precision == "64":
        module.double()
        train = _doubled(train)
        watched = {name: _doubled(part) for name, part in watched.items()}
    if _lays_out_by_pixel(training.channels_last, module, train.inputs):
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return train, watched


def _doubled(part: Split) -> Split:
    """Return the part with its numbers in float64; symbols of a text stay whole numbers."""
    return replace(part, inputs=part.inputs.double()) if part.inputs.is_floating_point() else part


def _lays_out_by_pixel(wanted: bool | None, module: Module, inputs: Tensor) -> bool:
    """Decide about channels-last: measured on a small CNN, the step takes three quarters of the time."""
    if wanted is None:
        wanted = any(isinstance(part, torch.nn.Conv2d) for part in module.modules())
    return wanted and inputs.dim() == 4


def _batches(train: Split, training: Training, device: torch.device, seed: int, processes: _Processes) -> Batches:
    share = {"seed": seed, "rank": processes.rank, "world_size": processes.count}
    if training.loader == "tensors":
        return TensorBatches(train.inputs, train.targets, training.batch_size, **share)
    inputs, targets = train.inputs.cpu(), train.targets.cpu()
    return WorkerBatches(inputs, targets, training.batch_size, device=device, workers=training.workers, **share)


def _mark(module: Module, name: str, train: Split, training: Training, seed: int, identity: str) -> str:
    """Return the fingerprint of a training: whatever changes its history changes it."""
    return fingerprint(
        {
            "training": training.model_dump(exclude={"checkpoint_seconds", "tensorboard", "threads", "workers"}),
            "seed": seed,
            "identity": identity,
            "data": [name, _checksum([train.inputs, train.targets])],
            "module": [str(module), _checksum(list(module.state_dict().values()))],
        }
    )


def _trainer(
    training: Training, device: torch.device, processes: _Processes, pilot: Pilot, out: Path | None
) -> lightning.Trainer:
    if processes.count > 1:
        devices: int | list[int] = processes.count_here
    else:
        devices = [device.index or 0] if device.type == "cuda" else 1
    return lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=devices,
        num_nodes=max(1, processes.count // processes.count_here),
        strategy="ddp" if processes.count > 1 else "auto",
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
