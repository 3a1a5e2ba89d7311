"""Shapley values: tables by hand, the axioms, captum, and the error of what is estimated."""

from __future__ import annotations

import itertools
import math

import captum.attr
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from coursekit.attribution import (
    MaskingGame,
    completeness_error,
    exact_values,
    grid_segments,
    kernel_coalitions,
    kernel_shap,
    kernel_values,
    permutation_shap,
    permutation_values,
    shapley_exact,
)
from coursekit.errors import ArgumentError

STRIPES = torch.arange(100).view(10, 10) * 12 // 100  # 12 players


class Table:
    """A game given by the values of its coalitions (B, 2^d), in the order of their bits."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.players, self.asked = values, int(math.log2(values.shape[1])), 0

    def __call__(self, coalitions: Tensor) -> Tensor:
        self.asked += len(coalitions)
        return self.values[:, (coalitions.long() << torch.arange(self.players)).sum(1)]


def _random_game(players: int, rows: int = 3, seed: int = 0) -> Table:
    return Table(torch.randn(rows, 2**players, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def _over_all_orders(game: Table) -> Tensor:
    """The definition: the mean gain over all orders in which the players may come."""
    total = torch.zeros(len(game.values), game.players, dtype=torch.float64)
    for order in itertools.permutations(range(game.players)):
        here = 0
        for player in order:
            total[:, player] += game.values[:, here | 1 << player] - game.values[:, here]
            here |= 1 << player
    return total / math.factorial(game.players)


def test_two_players_by_hand():
    """v(1) = 10, v(2) = 20, v(12) = 50: each gets its own and half of the 20 that they make together."""
    assert exact_values(Table(torch.tensor([[0.0, 10, 20, 50]]))).tolist() == [[20, 30]]


def test_what_nobody_brings_is_nobodys():
    assert exact_values(Table(torch.tensor([[5.0, 15, 25, 55]]))).tolist() == [[20, 30]]


@pytest.mark.parametrize("players", [1, 2, 3, 5, 6])
def test_exact_values_are_the_mean_over_all_orders(players):
    game = _random_game(players)
    torch.testing.assert_close(exact_values(game), _over_all_orders(game), rtol=0, atol=1e-13)
    assert game.asked == 2**players


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_the_axioms(players, seed):
    game, other = _random_game(players, seed=seed), _random_game(players, seed=seed + 1)
    values = exact_values(game)
    torch.testing.assert_close(values.sum(1), game.values[:, -1] - game.values[:, 0])  # efficiency
    both = exact_values(Table(game.values + 2 * other.values))
    torch.testing.assert_close(both, values + 2 * exact_values(other))  # linearity
    numbers = torch.arange(2**players)
    dummy = exact_values(Table(game.values[:, numbers & ~1]))  # player 0 never matters
    torch.testing.assert_close(dummy[:, 0], torch.zeros(3, dtype=torch.float64))
    swapped = numbers & ~3 | (numbers & 1) << 1 | (numbers & 2) >> 1
    symmetric = exact_values(Table(game.values + game.values[:, swapped]))  # players 0 and 1 are alike
    torch.testing.assert_close(symmetric[:, 0], symmetric[:, 1])


@pytest.mark.parametrize("players", [1, 2, 3, 4, 5, 10])
def test_kernel_regression_on_all_coalitions_is_exact(players, g):
    game = _random_game(players)
    found = kernel_values(game, samples=max(2, 2**players - 2), generator=g)
    torch.testing.assert_close(found, exact_values(game), rtol=0, atol=1e-8)


def test_kernel_shap_of_a_network_with_all_coalitions_is_exact(cnn, pictures, targets, g):
    segments = grid_segments(10, 10, 4)
    exact = shapley_exact(cnn, pictures, targets, segments=segments, baseline=0.1)
    found = kernel_shap(cnn, pictures, targets, segments=segments, baseline=0.1, samples=2**9 - 2, generator=g)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-8)
    assert completeness_error(exact, cnn, pictures, targets, baseline=0.1).abs().max() < 1e-12


@pytest.mark.parametrize("players", [2, 3, 7, 8, 20, 49])
@pytest.mark.parametrize("samples", [200, 201, 1000])
def test_coalitions_come_in_pairs_and_once(players, samples, g):
    coalitions, weights = kernel_coalitions(players, samples=samples, generator=g)
    assert coalitions.shape == (len(weights), players)
    assert len(coalitions) == min(samples // 2 * 2, 2**players - 2)
    assert len(coalitions.unique(dim=0)) == len(coalitions)
    half = len(coalitions) // 2
    assert torch.equal(coalitions[:half], ~coalitions[half:])
    assert 0 < coalitions.sum(1).min() <= coalitions.sum(1).max() < players
    # All of the kernel's mass is there, whatever was drawn: Σ over the sizes of (d − 1) / (s (d − s)).
    wanted = sum((players - 1) / (size * (players - size)) for size in range(1, players))
    assert float(weights.sum()) == pytest.approx(wanted)


def test_outer_sizes_are_listed_whole(g):
    sizes = kernel_coalitions(12, samples=1000, generator=g)[0].sum(1).bincount(minlength=13)
    assert sizes[[1, 2, 10, 11]].tolist() == [12, 66, 66, 12]
    assert torch.equal(sizes, sizes.flip(0))
    assert sizes[6] < math.comb(12, 6)


def test_each_coalition_of_a_size_is_drawn_as_often(g):
    """400 draws of some of the 28 pairs of 8 players: each count within 5 sigma (a false alarm in 60 000 seeds)."""
    counts = torch.zeros(8, 8)
    for _ in range(400):
        coalitions, _ = kernel_coalitions(8, samples=60, generator=g)
        for pair in coalitions[coalitions.sum(1) == 2]:
            first, second = pair.nonzero()[:, 0].tolist()
            counts[first, second] += 1
    drawn = counts[counts > 0]
    assert len(drawn) == 28
    share = float(drawn.sum()) / 400 / 28
    assert share < 0.8
    assert ((drawn - 400 * share).abs() <= 5 * (400 * share * (1 - share)) ** 0.5).all()


@pytest.mark.parametrize("samples", [48, 100, 300])
def test_sampled_kernel_values_are_near_the_exact_ones_on_average(samples, cnn, pictures, targets, g):
    """Means of 300 runs within 5 standard errors and 1 % of the largest value (the regression's bias falls with the
    samples); sums exact in every run. A false alarm once in 30 000 seeds."""
    game = MaskingGame(cnn, pictures, targets, segments=STRIPES)
    every = (torch.arange(2**12)[:, None] >> torch.arange(12) & 1).bool()
    known = Table(game(every))
    exact = exact_values(known)
    runs = torch.stack([kernel_values(known, samples=samples, generator=g) for _ in range(300)])
    torch.testing.assert_close(runs.sum(2), exact.sum(1).expand(300, 4))
    assert ((runs.mean(0) - exact).abs() <= 5 * runs.std(0) / 300**0.5 + 0.01 * exact.abs().max()).all()
    assert runs.std(0).min() > 0


def test_kernel_shap_has_no_more_error_than_captums(cnn, pictures, g):
    """Mean square error to the exact values over 6 runs of 100 samples: ours is less than half of captum's."""
    exact = shapley_exact(cnn, pictures[:1], 0, segments=STRIPES)
    theirs = captum.attr.KernelShap(cnn.eval())
    errors = {"ours": 0.0, "captum": 0.0}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(6):
            found = kernel_shap(cnn, pictures[:1], 0, segments=STRIPES, samples=100, generator=g)
            wanted = theirs.attribute(
                pictures[:1],
                target=0,
                feature_mask=STRIPES[None, None],
                n_samples=100,
                perturbations_per_eval=100,
                return_input_shape=False,
            )
            errors["ours"] += float((found - exact).square().mean())
            errors["captum"] += float((wanted - exact).square().mean())
    assert errors["ours"] < errors["captum"] / 2


@pytest.mark.parametrize("antithetic", [True, False])
def test_orders_by_hand(antithetic):
    """Three players and 6 orders drawn often: each run's values are efficient, and their mean is exact in 5 sigma."""
    game = _random_game(3)
    g = torch.Generator().manual_seed(0)
    runs = torch.stack(
        [permutation_values(game, permutations=5, antithetic=antithetic, generator=g) for _ in range(500)]
    )
    exact = exact_values(game)
    torch.testing.assert_close(runs.sum(2), exact.sum(1).expand(500, 3))
    assert ((runs.mean(0) - exact).abs() <= 5 * runs.std(0) / 500**0.5).all()


def test_an_order_and_its_reverse_are_exact_for_pairs():
    """Where players only work in pairs, the two orders of an antithetic pair make up for each other."""
    members = (torch.arange(2**6)[:, None] >> torch.arange(6) & 1).double()
    together = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    game = Table(torch.einsum("ni,ij,nj->n", members, together, members)[None])
    found = permutation_values(game, permutations=2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found, exact_values(game))


def test_a_coalition_is_valued_once():
    game = _random_game(4)
    permutation_values(game, permutations=200, generator=torch.Generator().manual_seed(0))
    assert game.asked <= 16


def test_permutation_shap_agrees_with_captums_sampling(mlp, table, g):
    """Means of 100 runs of 6 orders, 5 standard errors of the difference: a false alarm once in 60 000 seeds."""
    theirs = captum.attr.ShapleyValueSampling(mlp)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wanted = torch.stack([theirs.attribute(table, target=1, n_samples=6).detach() for _ in range(100)])
    runs = torch.stack([permutation_shap(mlp, table, 1, permutations=6, generator=g) for _ in range(100)])
    error = ((runs.var(0) + wanted.var(0)) / 100).sqrt()
    assert ((runs.mean(0) - wanted.mean(0)).abs() <= 5 * error).all()


def test_exact_values_equal_captums(mlp, table):
    wanted = captum.attr.ShapleyValues(mlp).attribute(table, target=2, baselines=0.3)
    torch.testing.assert_close(shapley_exact(mlp, table, 2, baseline=0.3), wanted.detach().double(), rtol=0, atol=1e-5)


def test_several_baselines_are_averaged(mlp, table):
    several = table[:3, None] + 0.5
    wanted = sum(shapley_exact(mlp, table, 1, baseline=row) for row in several) / 3
    torch.testing.assert_close(shapley_exact(mlp, table, 1, baseline=several), wanted)


def test_segments_of_their_own(cnn, pictures, targets):
    shared = grid_segments(10, 10, 5)
    own = torch.stack([shared, 3 - shared, shared.mT, shared])
    found = shapley_exact(cnn, pictures, targets, segments=own)
    for row in range(4):
        wanted = shapley_exact(cnn, pictures[row : row + 1], targets[row : row + 1], segments=own[row])
        torch.testing.assert_close(found[row : row + 1], wanted)


@pytest.mark.parametrize("own", [False, True])
def test_coalitions_that_look_the_same_are_scored_once(own, cnn, pictures, targets):
    """Blank segments are players who change nothing: 2 of 4 in one picture, all in another."""
    shared = grid_segments(10, 10, 5)
    segments = torch.stack([shared, 3 - shared, shared.mT, shared]) if own else shared
    pictures[0, :, :5] = 0.3
    pictures[1] = 0.3
    rows = 0

    def counted(x: Tensor) -> Tensor:
        nonlocal rows
        rows += len(x)
        return cnn.head(cnn.features(x).flatten(1))

    game = MaskingGame(counted, pictures, targets, segments=segments, baseline=0.3)
    every = (torch.arange(16)[:, None] >> torch.arange(4) & 1).bool()
    found = game(every)
    assert rows == 4 + 1 + 16 + 16
    cnn.eval()
    labels = segments if own else shared.expand(4, -1, -1)
    for number, coalition in enumerate(every):
        changed = torch.where(coalition[labels][:, None], pictures, 0.3)
        wanted = cnn(changed)[range(4), targets].detach()
        torch.testing.assert_close(found[:, number], wanted)


def test_bad_games_are_refused(mlp, table, cnn, pictures, g):
    with pytest.raises(ArgumentError, match=r"at most 20 players.*Got 25 players"):
        shapley_exact(cnn, pictures, 0, segments=grid_segments(10, 10, 2))
    with pytest.raises(ArgumentError, match=r"samples must be at least 24 for 6 players. Got 23"):
        kernel_shap(mlp, table, 0, samples=23, generator=g)
    kernel_shap(mlp, table, 0, samples=24, generator=g)
    with pytest.raises(ArgumentError, match=r"permutations must be at least 1. Got 0"):
        permutation_shap(mlp, table, 0, permutations=0, generator=g)
    game = MaskingGame(mlp, table, 0)
    for coalitions in (torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 6), torch.ones(6, dtype=torch.bool)):
        with pytest.raises(ArgumentError, match=r"coalitions must be \(M, 6\), bool"):
            game(coalitions)
