"""What is trained: a network with its loss, its optimizer and its learning-rate schedule.

Lightning pays its machinery once per `training_step`, and on a tiny network that machinery costs several times the
step itself. So one `training_step` receives a *block* of mini-batches (in one process: the whole epoch) and takes
one optimizer step for each. Losses stay on the device and are read once an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import lightning.pytorch as lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from coursekit.data.augmentation import Augmentation
from coursekit.data.batches import Batch, Batches
from coursekit.metrics import evaluating

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""Builds an optimizer over the given parameters, for example `lambda p: torch.optim.SGD(p, lr=0.1)`."""

Schedule = Callable[[int], float]
"""Learning rate of optimizer step 0, 1, 2, ...: a plain function, so resuming needs no scheduler state."""

Clipper = Callable[[Iterable[nn.Parameter]], Tensor]
"""Scales the gradients in place and returns their norm before, for example `clip_grad_norm_` with its bound."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes logits (b, classes) and targets, and returns a scalar, for example `F.cross_entropy`."""


class Module(lightning.LightningModule):
    """A network that learns by one loss and one optimizer. Subclasses say what the loss is.

    A subclass overrides `training_loss` (and `evaluation`), or `optimize` where one loss and one step do not
    describe the method.

    Args:
        network: what is trained.
        optimizer: builds the optimizer over the network's parameters.
        schedule: learning rate of each optimizer step; None keeps the optimizer's own.
        clip: is called with the parameters after each backward pass; its result is recorded as `grad_norm`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        optimizer: OptimizerFactory,
        schedule: Schedule | None = None,
        clip: Clipper | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = network
        self.make_optimizer, self.schedule, self.clip = optimizer, schedule, clip
        self.fused = True
        self.position = Position()
        self.after_step: Callable[[], None] = nothing

    def training_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss (a scalar) of one mini-batch, and tensors to average over the epoch beside it."""
        raise NotImplementedError

    def evaluation(self, batch: Batch) -> dict[str, Tensor]:
        """Return tensors whose means are over the rows of one batch; called without gradients in eval mode."""
        raise NotImplementedError

    def optimize(self, batch: Batch) -> dict[str, Tensor]:
        """Take one optimizer step on one mini-batch; return detached tensors to average over the epoch."""
        optimizer = self.optimizer
        with self.mixed_precision():
            loss, values = self.training_loss(batch)
        optimizer.zero_grad()
        self.backward_pass(loss)
        if self.clip is not None:
            values["grad_norm"] = self.clip(self.network.parameters()).detach()
        if self.schedule is not None:
            rate = self.schedule(self.position.step)
            for group in optimizer.param_groups:
                group["lr"] = rate
        optimizer.step()
        values["loss"] = loss.detach()
        return values

    def backward_pass(self, loss: Tensor) -> None:
        """Back-propagate one loss; several processes then share their gradients."""
        # Lightning's manual_backward calls every callback around each backward pass: a fifth of a tiny step.
        if self.trainer.world_size > 1:
            self.manual_backward(loss)
        else:
            loss.backward()

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The bare optimizer, without Lightning's wrapper around each step."""
        return self.trainer.strategy.optimizers[0]

    def mixed_precision(self) -> AbstractContextManager[Any]:
        """Return the context for one forward pass: bf16 where `position.mixed` says so, else nothing."""
        # Not Lightning's own plugin: that one stays open for the whole block, and the bf16 copies of the
        # weights that autocast keeps while it is open would outlive the optimizer step that changes them.
        return torch.autocast(self.device.type, torch.bfloat16) if self.position.mixed else nullcontext()

    # ------------------------------------------------------------------ Lightning's hooks

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = self.make_optimizer(self.network.parameters())
        if self.fused:
            fuse(optimizer)
        return optimizer

    def transfer_batch_to_device(self, batch: Block, device: torch.device, dataloader_idx: int) -> Block:
        return batch  # its tensors are on the device already

    def training_step(self, block: Block, batch_idx: int) -> None:
        position = self.position
        for batch in block:
            position.collected.append(self.optimize(batch))
            position.step += 1
            self.after_step()

    @torch.no_grad()
    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Return the evaluation's means over all rows, in eval mode; the former mode comes back.

        Args:
            batches: (inputs, targets) pairs on the module's device.
        """
        rows, sums = 0, {}
        with evaluating(self):
            for batch in batches:
                size = len(batch[1])
                with self.mixed_precision():
                    values = self.evaluation(batch)
                rows += size
                sums = {name: sums.get(name, 0.0) + value.double().mean() * size for name, value in values.items()}
        return _read({name: value / rows for name, value in sums.items()})


class Position:
    """Where training stands, and what the running epoch has collected.

    Attributes:
        step: optimizer steps taken since the beginning.
        first: the step with which the running epoch began.
        collected: what each step of the running epoch returned, still on the device.
        mixed: whether forward passes run in mixed precision.
    """

    def __init__(self) -> None:
        self.step = 0
        self.first = 0
        self.collected: list[dict[str, Tensor]] = []
        self.mixed = False

    def begin_epoch(self) -> None:
        """Forget what the epoch that ended has collected."""
        self.first = self.step
        self.collected = []

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as plain values and tensors."""
        return {"step": self.step, "first": self.first, "collected": self._stacked()}

    def restore(self, state: dict[str, Any], device: torch.device) -> None:
        """Take back what `state` returned."""
        self.step, self.first = state["step"], state["first"]
        columns = {name: values.to(device).unbind() for name, values in state["collected"].items()}
        self.collected = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def means(self) -> dict[str, float]:
        """Return each value's mean over the running epoch: the only time that it leaves the device."""
        return _read({name: values.double().mean() for name, values in self._stacked().items()})

    def _stacked(self) -> dict[str, Tensor]:
        names = self.collected[0] if self.collected else ()
        return {name: torch.stack([row[name] for row in self.collected]) for name in names}

    def first_bad_step(self) -> int | None:
        """Return the first step of the running epoch with a loss that is not finite, if there is one."""
        if not self.collected or "loss" not in self.collected[0]:
            return None
        bad = ~torch.stack([row["loss"] for row in self.collected]).isfinite()
        return self.first + int(bad.nonzero()[0]) if bool(bad.any()) else None


class Classifier(Module):
    """Classification by cross entropy (nats), with accuracy beside it.

    Mini-batches are pairs of inputs (b, ...) and class numbers (b,); the network returns logits (b, classes).

    Args:
        loss: of logits (b, classes) and targets, for training; evaluation is always by plain cross entropy.
        augment: changes each training mini-batch, see `coursekit.data.augmentation`; its targets may be shares
            (b, classes).
        others: as for `Module`.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        optimizer: OptimizerFactory,
        schedule: Schedule | None = None,
        clip: Clipper | None = None,
        loss: Loss = F.cross_entropy,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(network, optimizer=optimizer, schedule=schedule, clip=clip)
        self.loss, self.augment = loss, augment

    def training_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one mini-batch, and its accuracy (with shares: against the largest)."""
        inputs, targets = batch if self.augment is None else self.augment(batch)
        logits = self.network(inputs)
        labels = targets if targets.dim() == 1 else targets.argmax(-1)
        return self.loss(logits, targets), {"accuracy": logits.argmax(-1) == labels}

    def evaluation(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean cross entropy and the accuracy of one batch."""
        inputs, targets = batch
        logits = self.network(inputs)
        return {"loss": F.cross_entropy(logits, targets), "accuracy": logits.argmax(-1) == targets}


def fuse(optimizer: torch.optim.Optimizer) -> None:
    """Switch PyTorch's own optimizers to their fused kernel where it exists for all their parameters.

    The same update as `fused=True` at construction, so that a lesson need not repeat it.
    """
    if type(optimizer) not in _FUSED:
        return
    for group in optimizer.param_groups:
        if group.get("fused") is None and not group.get("differentiable") and not group.get("foreach"):
            group["fused"] = all(part.is_floating_point() and part.device.type in _FUSED_ON for part in group["params"])


_FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)
_FUSED_ON = ("cpu", "cuda")


class Block:
    """A run of mini-batches that one `training_step` works through."""

    def __init__(self, batches: Iterator[Batch], count: int) -> None:
        self._batches, self._count = batches, count

    def __iter__(self) -> Iterator[Batch]:
        return islice(self._batches, self._count)


class Blocks:
    """What Lightning iterates over: the blocks of the epoch that `epoch` and `start` name.

    Args:
        batches: the mini-batches.
        block: mini-batches in a block.
    """

    def __init__(self, batches: Batches, block: int) -> None:
        self.batches, self.block = batches, block
        self.epoch, self.start = 0, 0

    def __len__(self) -> int:
        return -(-self.batches.steps // self.block)

    def __iter__(self) -> Iterator[Block]:
        start = self.start
        batches = self.batches.epoch(self.epoch, start)
        for first in range(0, self.batches.steps, self.block):
            last = min(first + self.block, self.batches.steps)
            # After a resume inside the epoch the blocks that were worked through come again, empty.
            yield Block(batches, last - max(first, min(start, last)))


def _read(scalars: dict[str, Tensor]) -> dict[str, float]:
    """Bring scalars from the device in one transfer."""
    if not scalars:
        return {}
    values = torch.stack([value.double() for value in scalars.values()]).tolist()
    return dict(zip(scalars, values, strict=True))


def nothing() -> None:
    """What happens after a step when nobody watches."""
