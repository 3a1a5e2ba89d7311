"""The ring of Gaussians: where its modes lie, how wide they are, and what a seed decides."""

from __future__ import annotations

import pytest
import torch

from coursekit.data.mixtures import ring
from coursekit.errors import ArgumentError


def test_the_modes_lie_evenly_on_the_circle() -> None:
    centres = ring(modes=4, radius=3.0).centres
    torch.testing.assert_close(centres, 3 * torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]))


def test_points_scatter_about_the_mode_that_is_their_class() -> None:
    # 40,000 points: each number's mean has sigma 0.1 / 200, and their standard deviation 0.1 / sqrt(160,000).
    # At 5 sigma a false alarm comes in 1.7 million fresh seeds for each.
    mixture = ring(train=40_000, modes=8, std=0.1)
    points, numbers = mixture.data.train.inputs, mixture.data.train.targets
    offsets = points - mixture.centres[numbers]
    assert float(offsets.mean(0).abs().max()) < 5 * 0.1 / 200
    assert abs(float(offsets.std()) - 0.1) < 5 * 0.1 / 400
    # Each mode is drawn with probability 1/8: sigma of its count is sqrt(40,000 · 1/8 · 7/8) = 66.
    assert all(abs(int(count) - 5000) < 5 * 66.2 for count in torch.bincount(numbers, minlength=8))


def test_parts_have_the_sizes_asked_for_and_their_types() -> None:
    data = ring(train=30, validation=20, test=10).data
    assert [len(part) for part in (data.train, data.validation, data.test)] == [30, 20, 10]
    assert data.train.inputs.dtype == torch.float32
    assert data.train.targets.dtype == torch.int64
    assert data.input_shape == (2,)
    assert data.low is None, "points are no pixels"
    assert len(data.classes) == 8
    torch.testing.assert_close(data.denormalise(data.train.inputs), data.train.inputs)


def test_the_seed_decides_all_but_the_test_part() -> None:
    first, again, other = (ring(train=50, validation=50, test=50, seed=seed).data for seed in (1, 1, 2))
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert not torch.equal(first.train.inputs, other.train.inputs)
    assert not torch.equal(first.validation.inputs, other.validation.inputs)
    assert torch.equal(first.test.inputs, other.test.inputs)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train": 0}, "at least one row in each part"),
        ({"modes": 0}, "one mode"),
        ({"radius": 0.0}, "a radius and a std above 0"),
        ({"std": float("inf")}, "a radius and a std above 0"),
        ({"seed": -1}, "a seed from 0 to 4294967295"),
        ({"seed": 2**32}, "a seed from 0 to 4294967295"),
    ],
    ids=str,
)
def test_bad_settings_are_told(settings: dict, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        ring(**settings)


def test_one_mode_and_the_last_seed_are_allowed() -> None:
    assert len(ring(train=1, validation=1, test=1, modes=1, seed=2**32 - 1).centres) == 1
