"""Tests of explanations: closed forms, loops, scipy and scikit-image."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from coursekit.attribution import (
    cascade,
    completeness_error,
    deletion_curve,
    gradient,
    insertion_curve,
    layers_with_parameters,
    random_areas,
    randomize_layers,
    rank_correlation,
    saliency,
    stability,
    structural_similarity,
)
from coursekit.errors import ArgumentError

WRONG: Any = "both"


def test_completeness_is_the_sum_less_the_difference(mlp, table):
    shares = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = shares.sum(1) - (mlp(table)[:, 1] - mlp(torch.full_like(table, 0.5))[:, 1])
    torch.testing.assert_close(completeness_error(shares, mlp, table, 1, baseline=0.5), wanted.detach())
    several = torch.stack([torch.zeros(1, 6), torch.ones(1, 6)])
    mean = (mlp(torch.zeros(6).double()) + mlp(torch.ones(6).double()))[1] / 2
    wanted = shares.sum(1) - (mlp(table)[:, 1] - mean)
    torch.testing.assert_close(completeness_error(shares, mlp, table, 1, baseline=several), wanted.detach())


def _ten(x: Tensor) -> Tensor:
    return x @ torch.tensor([4.0, 3, 2, 1], dtype=x.dtype)


@pytest.mark.parametrize(
    ("curve", "importance", "scores"),
    [
        (deletion_curve, [4.0, 3, 2, 1], [10, 6, 3, 1, 0]),
        (deletion_curve, [1.0, 2, 3, 4], [10, 9, 7, 4, 0]),
        (insertion_curve, [4.0, 3, 2, 1], [0, 4, 7, 9, 10]),
    ],
)
def test_curves_by_hand(curve, importance, scores):
    row = torch.ones(1, 4)
    found = curve(_ten, row, attribution=torch.tensor([importance]), steps=4)
    assert found.scores.tolist() == [scores]
    assert found.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.area.tolist() == [(sum(scores) - 5) / 4]
    half = curve(_ten, row, attribution=torch.tensor([importance]), steps=2)
    assert half.scores.tolist() == [scores[::2]]


def test_curves_of_pictures_take_a_pixel_with_all_its_channels(cnn, pictures, targets):
    importance = pictures[:, 0]
    found = deletion_curve(cnn, pictures, targets, attribution=importance, baseline=0.3, steps=5)
    cnn.eval()
    for row in range(4):
        order = importance[row].flatten().argsort(descending=True)
        for step in range(6):
            changed = pictures[row].clone().flatten(1)
            changed[:, order[: step * 20]] = 0.3
            score = cnn(changed.view(1, 2, 10, 10))[0, targets[row]]
            torch.testing.assert_close(found.scores[row, step], score.detach())


def test_channels_of_an_attribution_are_summed(cnn, pictures, targets):
    maps = gradient(cnn, pictures, targets)
    first = deletion_curve(cnn, pictures, targets, attribution=maps)
    torch.testing.assert_close(first.area, deletion_curve(cnn, pictures, targets, attribution=maps.sum(1)).area)


def test_ties_are_broken_by_place_or_at_random():
    flat = torch.zeros(1, 4)
    assert deletion_curve(_ten, flat + 1, attribution=flat, steps=4).scores.tolist() == [[10, 6, 3, 1, 0]]
    g = torch.Generator().manual_seed(0)
    areas = [float(deletion_curve(_ten, flat + 1, attribution=flat, steps=4, generator=g).area) for _ in range(600)]
    # All orders alike: the mean score after k of 4 features is 10 − 2.5 k, the area 5; 0.2 is beyond 5 sigma.
    assert abs(sum(areas) / 600 - 5) < 0.2
    assert len(set(areas)) > 5


@pytest.mark.parametrize("kind", ["deletion", "insertion"])
def test_random_orders_of_a_sum_have_half_its_area(kind, g):
    """Area 5 on average; 600 orders, 0.2 is beyond 5 sigma."""
    areas = random_areas(_ten, torch.ones(3, 4), kind=kind, draws=200, steps=4, generator=g)
    assert areas.shape == (200, 3)
    assert abs(float(areas.mean()) - 5) < 0.2


def test_the_gradient_of_a_linear_score_beats_random(g):
    assert float(
        deletion_curve(_ten, torch.ones(1, 4), attribution=gradient(_ten, torch.ones(1, 4)), steps=4).area
    ) == (random_areas(_ten, torch.ones(1, 4), draws=200, steps=4, generator=g).min())


def test_rank_correlation_equals_scipys(g):
    first, second = torch.randn(4, 3, 5, generator=g), torch.randint(3, (4, 3, 5), generator=g).double()
    for absolute in (True, False):
        found = rank_correlation(first, second, absolute=absolute)
        for row in range(4):
            pair = (first[row].abs(), second[row].abs()) if absolute else (first[row], second[row])
            assert float(found[row]) == pytest.approx(spearmanr(pair[0].flatten(), pair[1].flatten())[0])


def test_rank_correlation_of_a_constant_is_undefined():
    assert rank_correlation(torch.ones(1, 3), torch.tensor([[1.0, 2, 3]])).isnan().all()
    assert rank_correlation(torch.tensor([[1.0, 2, 3]]), torch.tensor([[10.0, -20, 30]])).tolist() == [1]


def test_structural_similarity_by_hand(g):
    maps = torch.rand(3, 8, 8, generator=g)
    torch.testing.assert_close(structural_similarity(maps, maps), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(structural_similarity(maps, 5 * maps - 2), torch.ones(3, dtype=torch.float64))
    # One window: the formula itself.
    x, y = (torch.rand(1, 3, 3, generator=g, dtype=torch.float64) for _ in range(2))
    for side in (x, y):
        side.sub_(side.min()).div_(side.max())
    covariance = torch.stack([x.flatten(), y.flatten()]).cov()
    top = (2 * x.mean() * y.mean() + 1e-4) * (2 * covariance[0, 1] + 9e-4)
    bottom = (x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (covariance[0, 0] + covariance[1, 1] + 9e-4)
    torch.testing.assert_close(structural_similarity(x, y, window=3), (top / bottom)[None])


@pytest.mark.parametrize("window", [1, 4, 9])
def test_a_window_that_does_not_fit_is_refused(window):
    with pytest.raises(ArgumentError, match="window must be odd, from 3 to 8"):
        structural_similarity(torch.ones(1, 8, 8), torch.ones(1, 8, 8), window=window)


@pytest.mark.parametrize("measure", [rank_correlation, structural_similarity])
def test_maps_of_other_shapes_are_not_compared(measure):
    with pytest.raises(ArgumentError, match=r"both explanations must be \(B, ...\), of one shape"):
        measure(torch.ones(2, 8, 8), torch.ones(1, 8, 8))


def test_only_maps_have_structure():
    with pytest.raises(ArgumentError, match=r"maps must be \(B, H, W\)"):
        structural_similarity(torch.ones(2, 8), torch.ones(2, 8))


def test_stability_of_a_linear_map_is_its_factor(table, g):
    found = stability(lambda x: 3 * x, table, sigma=0.2, draws=4, generator=g)
    torch.testing.assert_close(found.ratio, torch.full((4, 5), 3.0, dtype=torch.float64))
    assert found.correlation.shape == (4, 5)
    assert (found.correlation < 1).any()


def test_an_explanation_that_never_moves_is_stable(cnn, pictures, targets, g):
    fixed = saliency(cnn, pictures, targets)
    found = stability(lambda x: fixed, pictures, sigma=0.2, generator=g)
    torch.testing.assert_close(found.correlation, torch.ones(5, 4, dtype=torch.float64))
    assert (found.ratio == 0).all()


def test_randomised_layers_are_others_and_the_model_is_not(cnn, g):
    before = copy.deepcopy(cnn.state_dict())
    state = torch.get_rng_state()
    found: Any = randomize_layers(cnn, ["head"], generator=g)
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in cnn.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(value, found.state_dict()[name]) == (not name.startswith("head"))
    bound = 1 / 72**0.5  # as PyTorch starts a linear layer of 72 inputs
    assert found.head.weight.abs().max() <= bound
    assert found.head.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)
    first, again = (randomize_layers(cnn, ["head"], generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first.get_parameter("head.weight"), again.get_parameter("head.weight"))


def test_the_cascade_goes_from_the_output_to_the_input(cnn, g):
    assert layers_with_parameters(cnn) == ["features.0", "features.3", "head"]
    changed = []
    for _, model in cascade(cnn, generator=g):
        changed.append(
            [not torch.equal(new, old) for new, old in zip(model.parameters(), cnn.parameters(), strict=True)]
        )
    assert [name for name, _ in cascade(cnn, generator=g)] == ["head", "features.3", "features.0"]
    assert changed == [[False] * 4 + [True] * 2, [False] * 2 + [True] * 4, [True] * 6]


def test_a_parameter_without_a_way_to_start_keeps_its_mean_and_spread(g):
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(100, 100, generator=torch.Generator().manual_seed(0)) * 3 + 5)
            self.one = nn.Parameter(torch.tensor(2.0))

    model = Own()
    found: Any = randomize_layers(model, [""], generator=g)
    assert found.table.mean().item() == pytest.approx(5, abs=0.2)
    assert found.table.std().item() == pytest.approx(3, abs=0.15)
    assert abs(torch.stack([found.table.flatten(), model.table.flatten()]).corrcoef()[0, 1]) < 0.05
    assert found.one.item() != 2


def test_statistics_of_batch_norm_start_anew(g):
    model: Any = nn.Sequential(nn.BatchNorm1d(3))
    model(torch.randn(50, 3, generator=g) + 4)
    assert model[0].running_mean.min() > 0.1
    assert randomize_layers(model, ["0"], generator=g).get_buffer("0.running_mean").tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x, g: completeness_error(x[:2], m, x, 0), r"attribution must have 5 rows. Got shape \(2, 6\)"),
        (lambda m, x, g: deletion_curve(m, x, 0, attribution=x[:, :5]), r"attribution must be \(5, 6\), finite"),
        (lambda m, x, g: deletion_curve(m, x, 0, attribution=x * torch.nan), r"attribution must be \(5, 6\), finite"),
        (lambda m, x, g: insertion_curve(m, x, 0, attribution=x, steps=7), "steps must be from 1 to 6. Got 7"),
        (lambda m, x, g: insertion_curve(m, x, 0, attribution=x, steps=0), "steps must be from 1 to 6. Got 0"),
        (
            lambda m, x, g: deletion_curve(m, x, 0, attribution=x, baseline=torch.zeros(2, 1, 6), steps=2),
            "one baseline. Got 2",
        ),
        (lambda m, x, g: random_areas(m, x, 0, kind=WRONG, generator=g), "kind deletion or insertion"),
        (lambda m, x, g: random_areas(m, x, 0, draws=0, steps=2, generator=g), "draws at least 1"),
        (lambda m, x, g: stability(lambda z: z, x, sigma=0.0, generator=g), "sigma must be finite and above 0"),
        (lambda m, x, g: stability(lambda z: z, x, sigma=0.1, draws=0, generator=g), "draws at least 1"),
        (lambda m, x, g: randomize_layers(m, ["9"], generator=g), "layers must be among 0, 2. Got '9'"),
        (lambda m, x, g: layers_with_parameters(nn.ReLU()), "a model with parameters. Got ReLU"),
    ],
)
def test_bad_arguments_are_named(call, words, mlp, table, g):
    with pytest.raises(ArgumentError, match=words):
        call(mlp, table, g)
