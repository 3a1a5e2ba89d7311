"""The fair order of rows, and normalisation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from coursekit.data import Split
from coursekit.data.splits import normalisation, stratified_order

labels = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(torch.tensor)
seeds = st.integers(0, 2**32 - 1)


def test_order_of_one_class_each_alternates() -> None:
    targets = torch.tensor([0, 0, 0, 1, 1, 1])
    pairs = targets[stratified_order(targets, 0)].view(3, 2)
    torch.testing.assert_close(pairs.sum(1), torch.ones(3, dtype=torch.int64))


def test_order_is_frozen() -> None:
    # Results of all lessons hang on this order; NumPy promises the stream behind it.
    targets = torch.tensor([0, 1, 1, 0, 1, 1, 0, 1])
    assert stratified_order(targets, 7).tolist() == [2, 0, 5, 6, 1, 4, 3, 7]


@given(labels, seeds)
def test_order_holds_each_row_once(targets: Tensor, seed: int) -> None:
    torch.testing.assert_close(stratified_order(targets, seed).sort().values, torch.arange(len(targets)))


@given(labels, seeds, st.floats(0, 1))
def test_any_cut_keeps_the_class_shares(targets: Tensor, seed: int, where: float) -> None:
    cut = int(where * len(targets))
    chosen = targets[stratified_order(targets, seed)[:cut]]
    classes = targets.unique()
    for label in classes:
        share = (targets == label).double().mean()
        # Half a row of its own rounding, and its share of the rounding of all classes.
        bound = 0.5 + share * len(classes) / 2
        assert ((chosen == label).sum() - cut * share).abs() <= bound + 1e-9


@given(labels, seeds)
def test_order_depends_on_targets_and_seed_alone(targets: Tensor, seed: int) -> None:
    expected = stratified_order(targets, seed)
    torch.manual_seed(1)
    torch.testing.assert_close(stratified_order(targets, seed), expected)


def test_order_differs_by_seed() -> None:
    targets = torch.arange(40) % 4
    assert not torch.equal(stratified_order(targets, 0), stratified_order(targets, 1))


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
@pytest.mark.parametrize("count", [57, 360])
def test_class_counts_are_those_of_scikit_learn(name: str, count: int) -> None:
    import sklearn.datasets
    from sklearn.model_selection import train_test_split

    numbers = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)[1]
    theirs, _ = train_test_split(numbers, train_size=count, stratify=numbers, random_state=0)
    targets = torch.as_tensor(numbers)
    ours = targets[stratified_order(targets, 0)[:count]]
    difference = ours.bincount() - torch.as_tensor(theirs).bincount()
    assert len(ours) == len(theirs)
    assert difference.abs().max() <= 1


def test_normalisation_of_known_values() -> None:
    inputs = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    mean, std = normalisation(inputs)
    torch.testing.assert_close(mean, torch.tensor([[2.0, 5.0]]))
    torch.testing.assert_close(std, torch.tensor([[1.0, 1.0]]))  # the second feature never varies


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30, 3e7])
def test_constant_feature_becomes_zero(value: float) -> None:
    inputs = torch.full((1000, 1), value)
    mean, std = normalisation(inputs)
    torch.testing.assert_close(std, torch.ones(1, 1))
    torch.testing.assert_close((inputs - mean) / std, torch.zeros(1000, 1), atol=1e-6 * value, rtol=0)


def test_normalisation_is_that_of_scikit_learn() -> None:
    from sklearn.preprocessing import StandardScaler

    inputs = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 10, 1e-3, 1e3, 1])
    inputs[:, 4] = 7
    scaler = StandardScaler().fit(inputs.double().numpy())
    mean, std = normalisation(inputs)
    torch.testing.assert_close(mean[0].double(), torch.as_tensor(scaler.mean_), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(std[0].double(), torch.as_tensor(scaler.scale_), rtol=1e-5, atol=0)


def test_normalisation_of_images_is_per_channel() -> None:
    images = torch.rand(20, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    mean, std = normalisation(images)
    flat = images.transpose(0, 1).reshape(3, -1)
    torch.testing.assert_close(mean, flat.mean(1).view(1, 3, 1, 1))
    torch.testing.assert_close(std, flat.std(1, correction=0).view(1, 3, 1, 1))


def test_split_counts_moves_and_prints_shapes() -> None:
    split = Split(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64))
    assert len(split) == 4
    assert repr(split) == "Split(inputs=(4, 2), targets=(4,))"
    moved = split.to("meta")
    assert moved.inputs.device.type == moved.targets.device.type == "meta"
