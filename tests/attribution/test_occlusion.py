"""Taking parts of the input away: by hand, laws, captum."""

from __future__ import annotations

import captum.attr
import pytest
import torch

from coursekit.attribution import (
    feature_ablation,
    feature_permutation,
    grid_segments,
    occlusion,
    paint,
    shapley_exact,
)
from coursekit.errors import ArgumentError


def _sum(x: torch.Tensor) -> torch.Tensor:
    return x.sum((1, 2, 3))


def test_a_sum_falls_by_what_the_window_hides(pictures):
    found = occlusion(_sum, pictures, window=5)
    hidden = pictures.sum(1).unfold(1, 5, 5).unfold(2, 5, 5).sum((3, 4))
    torch.testing.assert_close(found, paint(hidden.flatten(1), grid_segments(10, 10, 5)))


@pytest.mark.parametrize(
    ("window", "stride"), [((4, 4), (2, 2)), ((3, 5), (2, 3)), ((10, 10), (1, 1)), ((1, 1), (1, 1))]
)
@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_occlusion_equals_captums(window, stride, baseline, cnn, pictures, targets):
    theirs = captum.attr.Occlusion(cnn.eval())
    wanted = theirs.attribute(
        pictures, sliding_window_shapes=(2, *window), strides=(2, *stride), target=targets, baselines=baseline
    )
    found = occlusion(cnn, pictures, targets, window=window, stride=stride, baseline=baseline)
    torch.testing.assert_close(found, wanted[:, 0].double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(found, wanted[:, 1].double(), rtol=0, atol=1e-5)


def test_windows_over_the_baseline_itself_need_no_pass(cnn, pictures, targets):
    wanted = captum.attr.Occlusion(cnn.eval())
    pictures[0] = 0
    pictures[1, :, 3:] = 0
    rows = 0

    def counted(x: torch.Tensor) -> torch.Tensor:
        nonlocal rows
        rows += len(x)
        return cnn.head(cnn.features(x).flatten(1))

    found = occlusion(counted, pictures, targets, window=2)
    torch.testing.assert_close(
        found,
        wanted.attribute(pictures, sliding_window_shapes=(2, 2, 2), strides=(2, 2, 2), target=targets)[:, 0].double(),
        rtol=0,
        atol=1e-5,
    )
    assert rows == 4 + 0 + 10 + 25 + 25  # the pictures, then the windows that differ in each


def test_feature_ablation_of_columns_equals_captums(mlp, table):
    wanted = captum.attr.FeatureAblation(mlp).attribute(table, baselines=0.2, target=1)
    torch.testing.assert_close(feature_ablation(mlp, table, 1, baseline=0.2), wanted.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("own", [False, True])
def test_feature_ablation_of_segments_equals_captums(own, cnn, pictures, targets):
    shared = grid_segments(10, 10, 4)
    segments = torch.stack([shared, shared.mT, 8 - shared, shared]) if own else shared
    theirs = captum.attr.FeatureAblation(cnn.eval())
    found = paint(feature_ablation(cnn, pictures, targets, segments=segments, baseline=0.2), segments)
    for row in range(4):
        mask = (segments[row] if own else shared)[None, None]
        wanted = theirs.attribute(
            pictures[row : row + 1], baselines=0.2, target=int(targets[row]), feature_mask=mask.expand(1, 2, -1, -1)
        )
        torch.testing.assert_close(found[row], wanted[0, 0].double(), rtol=0, atol=1e-5)


def test_ablation_in_an_additive_game_is_shapleys_value(table):
    def additive(x: torch.Tensor) -> torch.Tensor:
        return (x**3).sum(1)

    torch.testing.assert_close(feature_ablation(additive, table), shapley_exact(additive, table))


def test_permuting_a_column_is_what_it_says(mlp, table):
    found = feature_permutation(mlp, table, 2, draws=3, generator=torch.Generator().manual_seed(4))
    again = torch.Generator().manual_seed(4)
    whole, total = mlp(table)[:, 2], torch.zeros(5, 6, dtype=torch.float64)
    for _ in range(3):
        for column in range(6):
            shuffled = table.clone()
            shuffled[:, column] = table[torch.randperm(5, generator=again), column]
            total[:, column] += (whole - mlp(shuffled)[:, 2]).detach() / 3
    torch.testing.assert_close(found, total)


def test_feature_permutation_agrees_with_captums(mlp, table, g):
    """Means of 400 shuffles, 5 standard errors of the difference: 30 entries, a false alarm once in 60 000 seeds."""
    theirs = captum.attr.FeaturePermutation(mlp)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wanted = torch.stack([theirs.attribute(table, target=1).detach() for _ in range(400)])
    found = torch.stack([feature_permutation(mlp, table, 1, generator=g) for _ in range(400)])
    error = ((found.var(0) + wanted.var(0)) / 400).sqrt()
    assert ((found.mean(0) - wanted.mean(0)).abs() <= 5 * error).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window": 0}, "1 ≤ stride ≤ window ≤ 10"),
        ({"window": 11}, "1 ≤ stride ≤ window ≤ 10, the picture's side. Got stride 11, window 11"),
        ({"window": 4, "stride": 5}, "Got stride 5, window 4"),
        ({"window": (4, 4), "stride": (4, 0)}, "Got stride 0, window 4"),
    ],
)
def test_windows_that_do_not_fit_are_refused(settings, words, cnn, pictures):
    with pytest.raises(ArgumentError, match=words):
        occlusion(cnn, pictures, 0, **settings)


def test_wrong_inputs_are_refused(mlp, table, cnn, pictures, g):
    with pytest.raises(ArgumentError, match=r"inputs must be pictures \(B, C, H, W\)"):
        occlusion(mlp, table, 0, window=2)
    with pytest.raises(ArgumentError, match=r"at least two rows and one draw. Got 1 rows, 1 draws"):
        feature_permutation(mlp, table[:1], 0, generator=g)
    with pytest.raises(ArgumentError, match="segments must be given for inputs that are not a table"):
        feature_ablation(cnn, pictures, 0)


@pytest.mark.parametrize(
    ("segments", "words"),
    [
        (torch.zeros(10, 9, dtype=torch.long), r"segments must be whole numbers of shape \(10, 10\) or \(4, 10, 10\)"),
        (torch.zeros(3, 10, 10, dtype=torch.long), "segments must be whole numbers of shape"),
        (torch.zeros(10, 10), "segments must be whole numbers"),
        (torch.arange(100).view(10, 10) // 50 * 2, "without gaps. Got 2 different ones from 0 to 2"),
        (torch.arange(100).view(10, 10) - 1, "count from 0 without gaps"),
    ],
)
def test_segments_that_do_not_fit_are_refused(segments, words, cnn, pictures):
    with pytest.raises(ArgumentError, match=words):
        feature_ablation(cnn, pictures, 0, segments=segments)
