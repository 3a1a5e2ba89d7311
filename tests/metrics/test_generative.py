"""Distances, fidelity and variety, modes and copies, against closed forms, other formulas and made-up samples."""

from __future__ import annotations

import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from coursekit.errors import ArgumentError, DataError, DeviceError
from coursekit.metrics.generative import (
    feature_distance,
    find_copies,
    frechet_distance,
    gaussian_moments,
    inception_distance,
    modes_of_classes,
    modes_of_points,
    nearest_distances,
    precision_recall,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(d: int, rank: int, seed: int) -> Tensor:
    root = draw(d, rank, seed=seed)
    return root @ root.T / rank


# ------------------------------------------------------------------------------------------- Fréchet distance


def test_the_distance_of_two_gaussians_on_a_line_has_a_closed_form():
    """(μ₁ − μ₂)² + (σ₁ − σ₂)²."""
    distance = frechet_distance(
        torch.tensor([1.0]), torch.tensor([[4.0]]), torch.tensor([-2.0]), torch.tensor([[0.25]])
    )
    assert distance == pytest.approx(3**2 + 1.5**2)


def test_commuting_covariances_are_compared_axis_by_axis():
    first, second = torch.tensor([1.0, 4.0, 9.0]), torch.tensor([4.0, 4.0, 0.0])
    mean = torch.zeros(3)
    expected = float((first.sqrt() - second.sqrt()).square().sum())
    assert frechet_distance(mean, first.diag(), mean, second.diag()) == pytest.approx(expected)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_it_is_symmetric_zero_on_equals_and_grows_by_the_squared_shift(d, rank, other_rank, seed):
    mean, other_mean = draw(d, seed=seed), draw(d, seed=seed + 1)
    first, second = covariance(d, rank, seed + 2), covariance(d, other_rank, seed + 3)
    there = frechet_distance(mean, first, other_mean, second)
    scale = float(first.trace() + second.trace()) + 1
    assert there == pytest.approx(frechet_distance(other_mean, second, mean, first), abs=1e-7 * scale)
    assert frechet_distance(mean, first, mean, first) == pytest.approx(0, abs=1e-7 * scale)
    shift = float((mean - other_mean).square().sum())
    still = frechet_distance(mean, first, mean, second)
    assert there == pytest.approx(still + shift, abs=1e-7 * scale)
    assert still >= 0


def test_it_agrees_with_the_matrix_root():
    first, second, zero = covariance(6, 9, 0), covariance(6, 9, 1), torch.zeros(6)
    root = torch.as_tensor(np.real(np.asarray(sqrtm((first @ second).numpy()))))
    expected = float(first.trace() + second.trace() - 2 * root.trace())
    assert frechet_distance(zero, first, zero, second) == pytest.approx(expected, rel=1e-9)


def test_moments_are_those_of_torch_and_features_may_be_fewer_than_axes():
    features = draw(5, 9).float()
    mean, spread = gaussian_moments(features)
    torch.testing.assert_close(mean, features.double().mean(0))
    torch.testing.assert_close(spread, torch.cov(features.double().T))
    assert math.isfinite(feature_distance(features, draw(4, 9, seed=1)))
    assert gaussian_moments(draw(5, 1))[1].shape == (1, 1)


@pytest.mark.parametrize(
    "features",
    [torch.zeros(1, 3), torch.zeros(4), torch.tensor([[1.0], [math.nan]])],
    ids=["one row", "no columns", "not finite"],
)
def test_features_that_cannot_be_measured_are_refused(features):
    with pytest.raises(ArgumentError, match=r"finite features \(n, d\)"):
        gaussian_moments(features)


def test_moments_of_two_kinds_are_refused():
    with pytest.raises(ArgumentError, match="of one d"):
        frechet_distance(torch.zeros(2), torch.eye(2), torch.zeros(3), torch.eye(3))


def test_without_its_weights_the_inception_distance_says_where_they_belong(tmp_path):
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(DataError, match=r"weights of torch-fidelity's Inception v3 in .*missing\.pth"):
        inception_distance(images, images, tmp_path / "missing.pth")
    with pytest.raises(ArgumentError, match="RGB"):
        inception_distance(torch.rand(2, 1, 8, 8), images)


@pytest.mark.skipif(find_spec("torch_fidelity") is not None, reason="torch-fidelity is installed here")
def test_without_its_package_the_inception_distance_says_what_to_install(tmp_path):
    (weights := tmp_path / "weights.pth").touch()
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(DeviceError, match="pip install torch-fidelity"):
        inception_distance(images, images, weights)


# ------------------------------------------------------------------------------------------- precision and recall


def test_two_draws_of_one_distribution_are_precise_and_varied():
    """A row of a new draw lies in some ball of the other with a probability that only n and d set: near 0.9 here."""
    quality = precision_recall(draw(600, 2), draw(600, 2, seed=1))
    assert 0.85 < quality.precision <= 1
    assert 0.85 < quality.recall <= 1
    assert min(quality.precision, quality.recall) <= quality.f1 <= max(quality.precision, quality.recall)


def test_collapse_is_precise_but_not_varied_and_noise_is_the_reverse():
    real = draw(400, 2)
    collapsed = real[:1] + 0.01 * draw(400, 2, seed=1)
    quality = precision_recall(real, collapsed)
    assert quality.precision > 0.95
    assert quality.recall < 0.05
    noise = 6 * draw(400, 2, seed=2)
    quality = precision_recall(real, noise)
    assert quality.precision < 0.6
    assert quality.recall > 0.9
    assert precision_recall(real, real + 100).f1 == 0


@pytest.mark.parametrize("neighbours", [1, 3, 7])
def test_the_manifolds_are_those_of_scikit_learns_neighbours(neighbours):
    real, fake = draw(80, 5), 1.3 * draw(60, 5, seed=1)

    def inside(rows: Tensor, centres: Tensor) -> float:
        near = NearestNeighbors(n_neighbors=neighbours + 1).fit(centres.numpy())
        reach = torch.as_tensor(near.kneighbors(centres.numpy())[0][:, -1])  # the first neighbour is the row itself
        distances = (rows[:, None] - centres[None]).square().sum(2).sqrt()
        return float((distances <= reach).any(1).double().mean())

    quality = precision_recall(real, fake, neighbours=neighbours)
    assert quality.precision == pytest.approx(inside(fake, real))
    assert quality.recall == pytest.approx(inside(real, fake))


def test_many_rows_are_compared_in_parts(monkeypatch):
    real, fake = draw(50, 3), draw(40, 3, seed=1)
    whole = precision_recall(real, fake), nearest_distances(fake, real)
    monkeypatch.setattr("coursekit.metrics.generative._PAIRS", 120)  # two or three rows at once
    assert precision_recall(real, fake) == whole[0]
    torch.testing.assert_close(nearest_distances(fake, real), whole[1])


def test_too_few_rows_or_other_features_are_refused():
    with pytest.raises(ArgumentError, match="at least 4 rows"):
        precision_recall(draw(3, 2), draw(9, 2))
    with pytest.raises(ArgumentError, match="one kind of features"):
        precision_recall(draw(9, 2), draw(9, 3))
    with pytest.raises(ArgumentError, match="at least 1 neighbour"):
        precision_recall(draw(9, 2), draw(9, 2), neighbours=0)


# ------------------------------------------------------------------------------------------- copies


def test_copies_are_found_and_fresh_rows_are_not():
    training, held_out, fresh = draw(300, 1, 4), draw(300, 1, 4, seed=1), draw(300, 1, 4, seed=2)
    found = find_copies(torch.cat([training[:30], fresh]), training, held_out)
    assert found.found[:30].all()
    assert float(found.found[30:].double().mean()) < 0.05
    assert found.expected == pytest.approx(0.01, abs=0.004)
    assert find_copies(training, training, held_out).share == 1
    torch.testing.assert_close(found.distances[:30], torch.zeros(30, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_quantile_outside_is_refused():
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        find_copies(draw(3, 2), draw(3, 2), draw(3, 2), quantile=1.0)


# ------------------------------------------------------------------------------------------- modes


def test_modes_of_a_ring_are_counted():
    angles = torch.arange(8) * math.pi / 4
    centres = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    perfect = (centres[:, None] + 0.1 * draw(8, 500, 2)).flatten(0, 1)
    modes = modes_of_points(perfect, centres, 0.1)
    assert modes.covered == 8
    # 1 − exp(−9/2) = 0.9889 of a round Gaussian lies within 3 σ; five standard errors of 4000 draws are 0.0083.
    assert modes.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.0083)
    one = modes_of_points(perfect[:500], centres, 0.1)
    assert one.covered == 1
    assert one.shares.nonzero().flatten().tolist() == [0]
    between = modes_of_points(torch.zeros(10, 2), centres, 0.1)
    assert (between.covered, between.high_quality) == (0, 0.0)


def test_a_mode_needs_its_share():
    samples = torch.cat([torch.zeros(99, 2), torch.ones(1, 2)]).double()
    centres = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert modes_of_points(samples, centres, 0.1).covered == 2
    assert modes_of_points(samples, centres, 0.1, least=0.02).covered == 1


def test_classes_are_counted_where_the_classifier_is_sure():
    probabilities = torch.tensor([[0.9, 0.05, 0.05]] * 6 + [[0.1, 0.5, 0.4]] * 4)
    all_of_them = modes_of_classes(probabilities, least=0.1)
    assert (all_of_them.covered, all_of_them.high_quality) == (2, 1.0)
    sure = modes_of_classes(probabilities, least=0.1, sure=0.8)
    assert (sure.covered, sure.high_quality) == (1, 0.6)
    torch.testing.assert_close(sure.shares, torch.tensor([0.6, 0.0, 0.0], dtype=torch.float64))


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ArgumentError, match="above 0"):
        modes_of_points(draw(3, 2), draw(2, 2), 0.0)
    with pytest.raises(ArgumentError, match="from 0 to below 1"):
        modes_of_classes(torch.rand(3, 2), least=1.0)
