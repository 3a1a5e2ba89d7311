"""`load` on the data that ships inside scikit-learn: parts, normalisation, sizes, limits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.data import NAMES, Data, load, sources
from coursekit.errors import ArgumentError

EMBEDDED = ("digits", "breast_cancer")


def parts(data: Data) -> tuple[Tensor, Tensor, Tensor]:
    return data.train.inputs, data.validation.inputs, data.test.inputs


def stand_in(monkeypatch: pytest.MonkeyPatch, features: Tensor, targets: Tensor) -> None:
    """Let these rows stand for the table."""
    monkeypatch.setitem(sources._READERS, "breast_cancer", lambda: (features, targets))


@pytest.mark.parametrize(
    ("name", "sizes", "shape"), [("digits", (1077, 360, 360), (1, 8, 8)), ("breast_cancer", (341, 114, 114), (30,))]
)
def test_parts_have_their_sizes_and_types(name: str, sizes: tuple[int, ...], shape: tuple[int, ...]) -> None:
    data = load(name)
    assert data.name == data.card.name == name
    assert data.input_shape == shape
    for split, size in zip((data.train, data.validation, data.test), sizes, strict=True):
        assert (split.inputs.shape, split.inputs.dtype) == ((size, *shape), torch.float32)
        assert (split.targets.shape, split.targets.dtype) == ((size,), torch.int64)
        assert split.inputs.is_contiguous()


def test_digits_are_the_rows_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    ours = torch.cat([data.denormalise(part) for part in parts(data)]).view(-1, 64) * 16
    targets = torch.cat([data.train.targets, data.validation.targets, data.test.targets])
    pixels, theirs = load_digits(return_X_y=True)
    rows = torch.cat([ours.round(), targets[:, None]], dim=1)
    expected = torch.cat([torch.as_tensor(pixels), torch.as_tensor(theirs)[:, None]], dim=1).float()
    # Sorted, for each row must be there as often as in the source, in whichever part.
    torch.testing.assert_close(
        torch.unique(rows, dim=0, return_counts=True), torch.unique(expected, dim=0, return_counts=True)
    )
    torch.testing.assert_close(ours, ours.round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", EMBEDDED)
def test_each_part_has_the_class_shares(name: str) -> None:
    data = load(name, seed=3)
    counts = torch.stack([split.targets.bincount() for split in (data.train, data.validation, data.test)])
    share = counts.sum(0) / counts.sum()
    expected = counts.sum(1, keepdim=True) * share
    assert (counts - expected).abs().max() <= 6  # of about 108 in a class of the training part


@pytest.mark.parametrize("name", EMBEDDED)
def test_seed_moves_validation_but_never_the_test_part(name: str) -> None:
    first, second = load(name, seed=0), load(name, seed=1)
    torch.testing.assert_close(
        second.denormalise(second.test.inputs), first.denormalise(first.test.inputs), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(second.test.targets, first.test.targets)
    assert not torch.equal(first.mean, second.mean)
    assert not torch.equal(first.validation.inputs, second.validation.inputs)


@pytest.mark.parametrize("name", EMBEDDED)
def test_same_seed_gives_the_same_data(name: str) -> None:
    torch.testing.assert_close(parts(load(name, seed=5)), parts(load(name, seed=5)), rtol=0, atol=0)


@pytest.mark.parametrize("part", ["validation", "test", "train"])
def test_normalisation_is_fitted_on_the_training_part_alone(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = sources._READERS["breast_cancer"]()
    before = load("breast_cancer")
    with monkeypatch.context() as patch:
        # Rows that carry their own number tell which rows a part took.
        stand_in(patch, torch.arange(len(targets)).float()[:, None], targets)
        data = load("breast_cancer")
        rows = data.denormalise(getattr(data, part).inputs)[:, 0].round().long()
    disturbed = features.clone()
    disturbed[rows] *= 1000
    stand_in(monkeypatch, disturbed, targets)
    after = load("breast_cancer")
    unchanged = torch.equal(after.mean, before.mean) and torch.equal(after.std, before.std)
    assert unchanged == (part != "train")


@pytest.mark.parametrize("name", EMBEDDED)
def test_training_part_is_standard_in_each_channel_or_feature(name: str) -> None:
    data = load(name, limit=200)
    axes = (0, 2, 3) if name == "digits" else (0,)
    std, mean = torch.std_mean(data.train.inputs, dim=axes, correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones_like(std))


def test_normalisation_equals_the_moments_of_the_training_part() -> None:
    data = load("breast_cancer")
    original = data.denormalise(data.train.inputs)
    torch.testing.assert_close(data.mean, original.mean(0, keepdim=True))
    torch.testing.assert_close(data.std, original.std(0, correction=0, keepdim=True))


def test_constant_feature_of_a_table_stays_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = sources._READERS["breast_cancer"]()
    features[:, 3] = 0.1
    stand_in(monkeypatch, features, targets)
    for part in parts(load("breast_cancer")):
        torch.testing.assert_close(part[:, 3], torch.zeros(len(part)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [None, 1, 5, 8, 28])
def test_images_lie_between_low_and_high(size: int | None) -> None:
    data = load("digits", size=size)
    assert data.low is not None
    assert data.high is not None
    for part in parts(data):
        assert bool((part >= data.low).all())
        assert bool((part <= data.high).all())
    torch.testing.assert_close(data.denormalise(data.low), torch.zeros(1, 1, 1, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(data.denormalise(data.high), torch.ones(1, 1, 1, 1))


def test_white_stays_white_when_it_shrinks() -> None:
    # Without clamping, this becomes 1.0000004, above the range that attacks are checked against.
    assert sources._resized(torch.ones(1, 1, 32, 32), 5).max() == 1


def test_a_table_has_no_range() -> None:
    data = load("breast_cancer")
    assert data.low is data.high is None


@pytest.mark.parametrize(("size", "antialias"), [(28, False), (9, False), (5, True), (1, True)])
def test_resizing_is_that_of_interpolate(size: int, antialias: bool) -> None:
    small, data = load("digits"), load("digits", size=size)
    images = small.denormalise(small.test.inputs)
    # Antialiasing changes nothing where images grow.
    expected = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=antialias)
    assert data.input_shape == (1, size, size)
    torch.testing.assert_close(data.denormalise(data.test.inputs), expected, atol=1e-5, rtol=0)


def test_statistics_are_those_of_the_resized_images() -> None:
    assert not torch.equal(load("digits", size=16).std, load("digits").std)


@pytest.mark.parametrize("name", EMBEDDED)
def test_smaller_limit_is_a_subset(name: str) -> None:
    small, large, whole = load(name, limit=50), load(name, limit=100), load(name)
    assert (len(small.train), len(large.train)) == (50, 100)
    for data in (small, large):
        kept = data.denormalise(data.train.inputs)
        expected = whole.denormalise(whole.train.inputs[: len(kept)])
        torch.testing.assert_close(kept, expected, rtol=1e-4, atol=1e-4)
        assert (len(data.validation), len(data.test)) == (len(whole.validation), len(whole.test))


def test_limit_keeps_the_classes() -> None:
    counts = load("digits", limit=100).train.targets.bincount(minlength=10)
    assert counts.min() >= 9
    assert counts.max() <= 11


@pytest.mark.parametrize("limit", [10, 1077])
def test_limit_reaches_its_bounds(limit: int) -> None:
    assert len(load("digits", limit=limit).train) == limit


def test_to_moves_everything() -> None:
    data = load("digits").to("meta")
    for tensor in (*parts(data), data.train.targets, data.validation.targets, data.test.targets, data.low, data.high):
        assert tensor is not None
        assert tensor.device.type == "meta"


@pytest.mark.gpu
def test_data_goes_to_a_gpu_and_back() -> None:
    data = load("digits")
    there = data.to("cuda")
    torch.testing.assert_close(there.denormalise(there.test.inputs).cpu(), data.denormalise(data.test.inputs))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "load: size as a whole number from 1 to 256. Got 0. Fix: choose a size there."),
        ({"size": 257}, "load: size as a whole number from 1 to 256. Got 257."),
        ({"size": 8.0}, "load: size as a whole number from 1 to 256. Got 8.0."),
        ({"size": True}, "load: size as a whole number from 1 to 256. Got True."),
        ({"seed": -1}, "load: seed as a whole number from 0 to 4294967295. Got -1. Fix: choose a seed there."),
        ({"seed": 2**32}, "load: seed as a whole number from 0 to 4294967295. Got 4294967296."),
        ({"seed": None}, "load: seed as a whole number from 0 to 4294967295. Got None."),
        ({"limit": 9}, "load: limit as a whole number from 10 to 1077. Got 9. Fix: choose a limit there."),
        ({"limit": 1078}, "load: limit as a whole number from 10 to 1077. Got 1078."),
        ({"limit": "all"}, "load: limit as a whole number from 10 to 1077. Got 'all'."),
    ],
    ids=str,
)
def test_options_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        load("digits", **options)
    assert words in str(caught.value)


def test_a_table_has_no_size() -> None:
    with pytest.raises(
        ArgumentError, match=r"load: no size, for breast_cancer is a table\. Got 8\. Fix: leave size away"
    ):
        load("breast_cancer", size=8)


def test_largest_seed_and_size_are_taken() -> None:
    assert load("digits", seed=2**32 - 1, limit=10).input_shape == (1, 8, 8)
    assert sources._resized(torch.rand(1, 1, 8, 8), 256).shape == (1, 1, 256, 256)


def test_every_data_set_has_a_validation_share() -> None:
    assert tuple(sources._VALIDATION_ONE_IN) == NAMES
