"""Mini-batches: one order for every loader, every process and every restart."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from coursekit.data.batches import Batch, Batches, TensorBatches, WorkerBatches
from coursekit.errors import ArgumentError

CPU = torch.device("cpu")

sizes = st.integers(1, 40).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(1, rows)))
seeds = st.integers(0, 2**32 - 1)
epochs = st.integers(0, 100_000)


def table(rows: int) -> tuple[Tensor, Tensor]:
    """Return (rows, 2) inputs and (rows,) targets in which every row tells its own number."""
    numbers = torch.arange(rows)
    return torch.stack([numbers, -numbers], dim=1).float(), numbers


def tensors(rows: int, batch_size: int, **kwargs: Any) -> TensorBatches:
    return TensorBatches(*table(rows), batch_size, **kwargs)


def workers(rows: int, batch_size: int, **kwargs: Any) -> WorkerBatches:
    return WorkerBatches(*table(rows), batch_size, device=CPU, **kwargs)


def rows_of(batches: Batches, epoch: int = 0, start: int = 0) -> list[list[int]]:
    """Return the row numbers of each mini-batch, after checking that inputs and targets belong together."""
    found = []
    for inputs, targets in batches.epoch(epoch, start):
        torch.testing.assert_close(inputs, torch.stack([targets, -targets], dim=1).float())
        found.append(targets.tolist())
    return found


both = pytest.mark.parametrize("make", [tensors, workers])


def test_the_order_is_frozen() -> None:
    # Results of all lessons hang on it; `torch.randperm` promises its stream for one seed.
    generator = torch.Generator().manual_seed(5 * 1_000_003 + 2)
    assert rows_of(tensors(7, 3, seed=5), epoch=2) == torch.randperm(7, generator=generator)[:6].view(2, 3).tolist()


@both
@pytest.mark.parametrize(("rows", "batch_size", "steps"), [(10, 3, 3), (9, 3, 3), (3, 3, 1), (1, 1, 1)])
def test_an_incomplete_mini_batch_is_left_out(make: Any, rows: int, batch_size: int, steps: int) -> None:
    batches = make(rows, batch_size)
    assert batches.steps == steps
    assert [len(batch) for batch in rows_of(batches)] == [batch_size] * steps


@given(sizes, seeds, epochs)
def test_every_row_comes_at_most_once_an_epoch(size: tuple[int, int], seed: int, epoch: int) -> None:
    seen = list(chain.from_iterable(rows_of(tensors(*size, seed=seed), epoch)))
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(range(size[0]))


@given(sizes, seeds, epochs)
def test_both_loaders_give_the_same(size: tuple[int, int], seed: int, epoch: int) -> None:
    for one, other in zip(tensors(*size, seed=seed).epoch(epoch), workers(*size, seed=seed).epoch(epoch), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 and later, once there are threads
def test_two_worker_processes_give_the_same() -> None:
    assert rows_of(workers(23, 4, seed=3, workers=2), 5) == rows_of(tensors(23, 4, seed=3), 5)


@both
def test_a_start_in_the_middle_continues_exactly(make: Any) -> None:
    batches = make(25, 4, seed=1)
    whole = rows_of(batches, 3)
    for start in range(batches.steps + 2):
        assert rows_of(batches, 3, start) == whole[start:]


@both
@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_the_shares_of_all_processes_make_the_mini_batch(make: Any, world_size: int) -> None:
    shares = [rows_of(make(20, 6, seed=2, rank=rank, world_size=world_size), 1) for rank in range(world_size)]
    assert [list(chain.from_iterable(parts)) for parts in zip(*shares, strict=True)] == rows_of(make(20, 6, seed=2), 1)
    assert {len(part) for share in shares for part in share} == {6 // world_size}


@both
def test_epochs_and_seeds_differ(make: Any) -> None:
    orders = [rows_of(make(30, 5, seed=seed), epoch) for seed in range(4) for epoch in range(4)]
    assert all(orders.count(order) == 1 for order in orders)


@both
def test_epochs_can_be_read_in_any_order_and_side_by_side(make: Any) -> None:
    batches = make(12, 3)
    expected = [rows_of(batches, 0), rows_of(batches, 1)]
    pairs = zip(batches.epoch(0), batches.epoch(1), strict=True)
    assert [[batch[1].tolist() for batch in column] for column in zip(*pairs, strict=True)] == expected


@both
def test_the_global_generator_is_not_touched(make: Any) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    rows_of(make(12, 3))
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_more_rows_than_one_gather_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows_of(tensors(50, 4, seed=9))
    for rows in (1, 4, 10, 48):
        monkeypatch.setattr(TensorBatches, "_ROWS", rows)
        assert rows_of(tensors(50, 4, seed=9)) == whole


@both
def test_a_mini_batch_keeps_shape_and_type(make: Any) -> None:
    batch: Batch = next(make(8, 4).epoch(0))
    assert [(part.shape, part.dtype, part.device) for part in batch] == [
        (torch.Size([4, 2]), torch.float32, CPU),
        (torch.Size([4]), torch.int64, CPU),
    ]


@both
@pytest.mark.parametrize("batch_size", [0, -1, 9])
def test_a_mini_batch_larger_than_the_data_is_refused(make: Any, batch_size: int) -> None:
    words = rf"batches: a batch size from 1 to the 8 training rows\. Got {batch_size}\. Fix: set batch_size there\."
    with pytest.raises(ArgumentError, match=words):
        make(8, batch_size)


@both
@pytest.mark.parametrize(("batch_size", "world_size", "use"), [(5, 2, 4), (7, 3, 6), (2, 4, 4)])
def test_a_mini_batch_that_cannot_be_shared_is_refused(make: Any, batch_size: int, world_size: int, use: int) -> None:
    words = rf"divides by the {world_size} processes\. Got {batch_size}\. Fix: use {use}\."
    with pytest.raises(ArgumentError, match=words):
        make(8, batch_size, world_size=world_size)


@pytest.mark.parametrize("rows", [7, 9])
def test_as_many_targets_as_inputs(rows: int) -> None:
    words = rf"batches: as many targets as inputs\. Got 8 inputs, {rows} targets\. Fix: pair them up\."
    with pytest.raises(ArgumentError, match=words):
        TensorBatches(table(8)[0], table(rows)[1], 2)
    with pytest.raises(ArgumentError, match=words):
        WorkerBatches(table(8)[0], table(rows)[1], 2, device=CPU)


@pytest.mark.gpu
def test_both_loaders_bring_the_rows_to_the_gpu() -> None:
    device = torch.device("cuda")
    inputs, targets = table(20)
    near = TensorBatches(inputs.to(device), targets.to(device), 4, seed=1)
    far = WorkerBatches(inputs, targets, 4, device=device, seed=1)
    for one, other in zip(near.epoch(2), far.epoch(2), strict=True):
        assert one[0].device.type == "cuda"
        torch.testing.assert_close(one, other, rtol=0, atol=0)
