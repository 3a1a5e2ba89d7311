"""Mini-batches: cut from tensors that already lie on the device, or fetched by DataLoader workers.

Both give the same batches in the same order: the order of epoch `e` depends on `(seed, e)` alone, so
training can be resumed anywhere, and so several processes can share one global batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from coursekit.errors import ArgumentError

Batch = tuple[Tensor, Tensor]


class Batches(Protocol):
    """What the harness trains on: a fixed number of mini-batches an epoch, replayable from any of them."""

    @property
    def steps(self) -> int:
        """Mini-batches in one epoch."""
        ...

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the mini-batches of one epoch from the `start`-th on."""
        ...


class TensorBatches:
    """Mini-batches by index from two tensors: no collation, no worker processes.

    Args:
        inputs: (n, ...) on the device where training happens.
        targets: (n, ...) on the same device.
        batch_size: rows in one *global* mini-batch; an incomplete last one is left out, since another
            shuffle brings its rows back.
        seed: fixes the order of every epoch.
        rank: which share of each global mini-batch this process takes.
        world_size: how many processes share one global mini-batch.

    Raises:
        ArgumentError: lengths differ, the batch is larger than the data, or it does not divide by the processes.
    """

    # Rows gathered at once: one gather for many mini-batches, which then are slices without a copy.
    _ROWS = 1 << 14

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check(len(inputs), len(targets), batch_size, world_size)
        self.inputs, self.targets = inputs, targets
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size

    @property
    def steps(self) -> int:
        """Mini-batches in one epoch."""
        return len(self.inputs) // self.batch_size

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the mini-batches of one epoch from the `start`-th on."""
        share = self.batch_size // self.world_size
        order = _order(len(self.inputs), self.steps, self.batch_size, self.seed, number)
        order = order.view(self.steps, self.world_size, share)[start:, self.rank].to(self.inputs.device)
        block = max(1, self._ROWS // share)
        for first in range(0, len(order), block):
            chosen = order[first : first + block].reshape(-1)
            yield from zip(self.inputs[chosen].split(share), self.targets[chosen].split(share), strict=True)


class WorkerBatches:
    """The same mini-batches through `torch.utils.data.DataLoader`: for data with work to do for each row.

    Args:
        inputs: (n, ...) in the main memory.
        targets: (n, ...) likewise.
        batch_size: rows in one global mini-batch, as in `TensorBatches`.
        device: where the mini-batches are needed.
        workers: processes that fetch ahead; 0 fetches in this process.
        seed: fixes the order of every epoch.
        rank: which share of each global mini-batch this process takes.
        world_size: how many processes share one global mini-batch.

    Raises:
        ArgumentError: as `TensorBatches`.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        *,
        device: torch.device,
        workers: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        _check(len(inputs), len(targets), batch_size, world_size)
        self.dataset = TensorDataset(inputs, targets)
        self.batch_size, self.device, self.workers = batch_size, device, workers
        self.seed, self.rank, self.world_size = seed, rank, world_size

    @property
    def steps(self) -> int:
        """Mini-batches in one epoch."""
        return len(self.dataset) // self.batch_size

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the mini-batches of one epoch from the `start`-th on."""
        share = self.batch_size // self.world_size
        order = _order(len(self.dataset), self.steps, self.batch_size, self.seed, number)
        batches = order.view(self.steps, self.world_size, share)[start:, self.rank].tolist()
        on_gpu = self.device.type == "cuda"
        # A generator of its own: otherwise the loader draws a base seed from the global one each epoch.
        loader = DataLoader(
            self.dataset,
            batch_sampler=batches,
            num_workers=self.workers,
            pin_memory=on_gpu,
            generator=torch.Generator().manual_seed(self.seed),
        )
        for inputs, targets in loader:
            yield inputs.to(self.device, non_blocking=on_gpu), targets.to(self.device, non_blocking=on_gpu)


def _order(rows: int, steps: int, batch_size: int, seed: int, epoch: int) -> Tensor:
    """Return the (steps * batch_size,) row numbers of one epoch, a function of seed and epoch alone."""
    # A Mersenne twister seeded with neighbouring numbers gives unrelated streams; the odd factor keeps
    # (seed 0, epoch 1) apart from (seed 1, epoch 0).
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(rows, generator=generator)[: steps * batch_size]


def _check(rows: int, targets: int, batch_size: int, world_size: int) -> None:
    if rows != targets:
        raise ArgumentError(
            "batches", "as many targets as inputs", got=f"{rows} inputs, {targets} targets", fix="pair them up"
        )
    if not 1 <= batch_size <= rows:
        raise ArgumentError(
            "batches", f"a batch size from 1 to the {rows} training rows", got=batch_size, fix="set batch_size there"
        )
    if batch_size % world_size:
        raise ArgumentError(
            "batches",
            f"a global batch size that divides by the {world_size} processes",
            got=batch_size,
            fix=f"use {batch_size - batch_size % world_size or world_size}",
        )
