"""Wrong labels: as many as asked for, always wrong, evenly spread over the other classes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coursekit.data.noise import corrupt_labels
from coursekit.errors import ArgumentError


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.lists(st.integers(0, 4), max_size=50), st.floats(0, 1), st.integers(0, 2**32))
def test_exactly_the_named_rows_are_wrong(labels: list[int], rate: float, seed: int) -> None:
    targets = torch.tensor(labels, dtype=torch.int64)
    before = targets.clone()
    noisy, wrong = corrupt_labels(targets, rate, classes=5, generator=generator(seed))
    assert int(wrong.sum()) == round(rate * len(labels))
    assert torch.equal(noisy != targets, wrong)
    assert torch.equal(targets, before), "the right labels stay"
    assert noisy.dtype == torch.int64
    assert len(labels) == 0 or 0 <= int(noisy.min()) <= int(noisy.max()) < 5


def test_each_other_class_is_equally_likely() -> None:
    # 30,000 draws over three classes: 10,000 each, sigma 82; a false alarm at 5 sigma in 600,000 fresh seeds a class.
    noisy, _ = corrupt_labels(torch.full((30_000,), 2), 1.0, classes=4, generator=generator(0))
    counts = torch.bincount(noisy, minlength=4)
    assert counts[2] == 0
    assert all(abs(int(count) - 10_000) < 5 * 82 for count in counts[[0, 1, 3]])


def test_the_seed_decides() -> None:
    targets = torch.arange(100) % 10
    first, again, other = (corrupt_labels(targets, 0.4, classes=10, generator=generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("rate", [-0.01, 1.01, float("nan")])
def test_a_rate_out_of_range_is_refused(rate: float) -> None:
    with pytest.raises(ArgumentError, match="a rate from 0 to 1"):
        corrupt_labels(torch.zeros(4, dtype=torch.int64), rate, classes=2, generator=generator(0))


def test_one_class_has_no_wrong_label() -> None:
    with pytest.raises(ArgumentError, match="two classes or more"):
        corrupt_labels(torch.zeros(4, dtype=torch.int64), 0.5, classes=1, generator=generator(0))
