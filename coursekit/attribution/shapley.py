"""Shapley values: exact, by kernel regression and by orderings; many games with the same players at once."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from coursekit.attribution.games import Game, MaskingGame
from coursekit.attribution.regression import decomposed, solve_normal
from coursekit.attribution.scores import Baseline, Model, Target
from coursekit.errors import ArgumentError

MOST_PLAYERS = 20  # a million coalitions per row


def shapley_exact(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    baseline: Baseline = None,
    segments: Tensor | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Return the Shapley value of each feature, or segment, from all 2^d coalitions.

    Args:
        model, inputs, target, baseline, segments, batch_size: as of `MaskingGame`; at most 20 players.

    Returns:
        (B, players); a row sums to its score less the score of the baseline.

    Raises:
        ArgumentError: an argument is not as there, or there are too many players.

    Source: Shapley 1953; as attributions: Lundberg & Lee 2017, equation 8.
    """
    where = "shapley_exact"
    game = MaskingGame(model, inputs, target, baseline=baseline, segments=segments, batch_size=batch_size, where=where)
    return exact_values(game)


def exact_values(game: Game) -> Tensor:
    """Return the Shapley values (B, players) of a game, from all its coalitions.

    Coalition number n holds player i where bit i of n is set, so that adding a player is a step along one axis of a
    table with an axis of length 2 per player.

    Raises:
        ArgumentError: there are more than 20 players.
    """
    d = game.players
    if d > MOST_PLAYERS:
        raise ArgumentError(
            "exact_values",
            f"at most {MOST_PLAYERS} players, for the coalitions double with each",
            got=f"{d} players, 2^{d} coalitions",
            fix="use kernel_shap, or coarser segments",
        )
    players = torch.arange(d)
    pieces = [(numbers[:, None] >> players & 1).bool() for numbers in torch.arange(2**d).split(2**16)]
    values = torch.cat([game(piece) for piece in pieces], 1)
    sizes = torch.cat([piece.sum(1) for piece in pieces]).to(values.device)
    # A coalition of s others comes before a player in s! (d − 1 − s)! of the d! orderings.
    chances = [1 / (d * math.comb(d - 1, size)) for size in range(d)]
    share = torch.tensor(chances, dtype=torch.float64, device=values.device)
    columns = []
    for player in range(d):
        split = (2 ** (d - 1 - player), 2, 2**player)  # the middle axis tells whether the player is there
        before, after = values.double().view(-1, *split).unbind(2)
        columns.append(torch.einsum("bij,ij->b", after - before, share[sizes.view(split)[:, 0]]))
    return torch.stack(columns, 1).to(values.dtype)


def kernel_shap(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    baseline: Baseline = None,
    segments: Tensor | None = None,
    samples: int = 1000,
    generator: torch.Generator,
    batch_size: int | None = None,
) -> Tensor:
    """Estimate Shapley values by weighted linear regression on coalitions (`kernel_values`).

    Args:
        model, inputs, target, baseline, segments, batch_size: as of `MaskingGame`.
        samples: scores per row (and baseline), besides those of the row and the baseline themselves. With 2^d − 2 or
            more the values are exact.
        generator: of the coalitions; on any device.

    Returns:
        (B, players); a row sums to its score less the score of the baseline, exactly.

    Raises:
        ArgumentError: an argument is not as there, or the samples are too few.

    Source: Lundberg & Lee 2017, theorem 2.
    """
    where = "kernel_shap"
    game = MaskingGame(model, inputs, target, baseline=baseline, segments=segments, batch_size=batch_size, where=where)
    return kernel_values(game, samples=samples, generator=generator)


def kernel_values(game: Game, *, samples: int, generator: torch.Generator) -> Tensor:
    """Estimate the Shapley values (B, players) of a game from values of `samples` coalitions.

    The least squares under the constraint that the values sum to v(all) − v(none). All games share the coalitions
    (`kernel_coalitions`), so that one decomposition serves them.

    Args:
        game: with at least one player.
        samples: coalitions besides none and all; at least 4 · players.
        generator: of the coalitions.

    Raises:
        ArgumentError: the samples are too few.

    Source: Lundberg & Lee 2017, theorem 2; the constrained form: Covert & Lee 2021, section 3.
    """
    d = game.players
    ends = torch.stack([torch.zeros(d, dtype=torch.bool), torch.ones(d, dtype=torch.bool)])
    if d == 1:
        empty, full = game(ends).unbind(1)
        return (full - empty)[:, None]
    coalitions, weights = kernel_coalitions(d, samples=samples, generator=generator)
    values = game(torch.cat([ends, coalitions]))
    empty, full = values[:, :1].double(), values[:, 1:2].double()
    total, present = full - empty, coalitions.to(values.device)
    rest = values[:, 2:].double() - empty - total * present[:, -1]
    free = solve_normal("kernel_shap", _design(present), rest, weights.to(values.device))
    return torch.cat([free, total - free.sum(1, keepdim=True)], 1).to(values.dtype)


def kernel_coalitions(players: int, *, samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose coalitions for the kernel regression, none twice, each together with its complement.

    Sizes whose coalitions can all be afforded are listed whole, from the outside in; the rest of the samples are
    drawn without replacement from the sizes that are left, in proportion to the kernel's weight of each size. A weight
    is the kernel's, divided by the chance that the coalition was chosen.

    Args:
        players: d, at least 2.
        samples: how many, besides none and all; at least 4d (all 2^d − 2 where those are fewer).
        generator: of the draw.

    Returns:
        Coalitions (M, d), bool, M at most `samples`, and weights (M,), float64.

    Raises:
        ArgumentError: the samples are too few.
    """
    d = players
    least = min(4 * d, 2**d - 2)
    if samples < least:
        raise ArgumentError(
            "kernel_shap",
            f"samples must be at least {least} for {d} players",
            got=samples,
            fix=f"pass {max(1000, 8 * d)}",
        )
    # Pairs are counted by the smaller of their two sizes; at d / 2 a coalition's complement is of its own size.
    sizes = range(1, d // 2 + 1)
    pairs = [math.comb(d, size) // (2 if 2 * size == d else 1) for size in sizes]
    # The kernel weighs a coalition of s players (d − 1) / (C(d, s) · s · (d − s)).
    mass = [
        count * (d - 1) / (math.comb(d, size) * size * (d - size)) for size, count in zip(sizes, pairs, strict=True)
    ]
    takes = _allotted(samples // 2, pairs, mass)
    weights = torch.tensor(
        [total / take for total, take in zip(mass, takes, strict=True) for _ in range(take)], dtype=torch.float64
    )
    while True:  # few samples may leave a player's value open, about once in 300 draws of 4d: then draw again
        half = torch.cat([_subsets(d, size, take, generator) for size, take in zip(sizes, takes, strict=True)])
        design = _design(half)
        if decomposed(design.mT * weights @ design) is not None:
            return torch.cat([half, ~half]), torch.cat([weights, weights])


def _design(coalitions: Tensor) -> Tensor:
    """Return the regression's design (M, d − 1): the last player's value is what the others leave of the total."""
    present = coalitions.double()
    return present[:, :-1] - present[:, -1:]


def _allotted(budget: int, pairs: list[int], mass: list[float]) -> list[int]:
    """Divide a budget of pairs among the sizes by their mass, from the outside in, none above what a size has."""
    takes = []
    for position, (count, own) in enumerate(zip(pairs, mass, strict=True)):
        share = budget - sum(takes)
        if share < sum(pairs[position:]):
            share = round(share * own / sum(mass[position:]))
        takes.append(min(count, share))
    return takes


def _subsets(players: int, size: int, take: int, generator: torch.Generator) -> Tensor:
    """Draw `take` different subsets of a size, (take, players), bool; of half the players: those with player 0."""
    fixed = int(2 * size == players)  # a complement of the same size must not come twice
    free, members = players - fixed, size - fixed
    count = math.comb(free, members)
    if count <= max(4 * take, 1000):
        flat = np.fromiter(itertools.chain.from_iterable(itertools.combinations(range(free), members)), np.int64)
        every = torch.from_numpy(flat).view(count, members)
        if take < count:
            order = torch.randperm(count, generator=generator, device=generator.device).cpu()
            every = every[order[:take]]
        chosen = torch.zeros(take, free, dtype=torch.bool).scatter_(1, every, True)
    else:
        chosen = torch.zeros(0, free, dtype=torch.bool)
        while len(chosen) < take:
            draw = torch.rand(take, free, generator=generator, device=generator.device).cpu()
            more = torch.zeros(take, free, dtype=torch.bool).scatter_(1, draw.topk(members, dim=1).indices, True)
            chosen = _without_repeats(torch.cat([chosen, more]))
        chosen = chosen[:take]
    return torch.cat([torch.ones(take, fixed, dtype=torch.bool), chosen], 1)


def _without_repeats(rows: Tensor) -> Tensor:
    """Keep the first of equal rows, in their order."""
    _, number = rows.unique(dim=0, return_inverse=True)
    first = torch.full((int(number.max()) + 1,), len(rows)).scatter_reduce_(0, number, torch.arange(len(rows)), "amin")
    return rows[first.sort().values]


def permutation_shap(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    baseline: Baseline = None,
    segments: Tensor | None = None,
    permutations: int = 20,
    antithetic: bool = True,
    generator: torch.Generator,
    batch_size: int | None = None,
) -> Tensor:
    """Estimate Shapley values by adding the players in random orders (`permutation_values`).

    Args:
        model, inputs, target, baseline, segments, batch_size: as of `MaskingGame`.
        permutations, antithetic, generator: as of `permutation_values`.

    Returns:
        (B, players); a row sums to its score less the score of the baseline, exactly.

    Raises:
        ArgumentError: an argument is not as there.
    """
    where = "permutation_shap"
    game = MaskingGame(model, inputs, target, baseline=baseline, segments=segments, batch_size=batch_size, where=where)
    return permutation_values(game, permutations=permutations, antithetic=antithetic, generator=generator)


def permutation_values(game: Game, *, permutations: int, antithetic: bool = True, generator: torch.Generator) -> Tensor:
    """Estimate the Shapley values (B, players) of a game: the mean gain of a player over random orders.

    All games share the orders, and a coalition that several orders meet is valued once.

    Args:
        game: with at least one player.
        permutations: orders, at least 1.
        antithetic: every second order is the one before it, backwards: less variance at the same cost.
        generator: of the orders.

    Raises:
        ArgumentError: permutations is below 1.

    Source: Castro, Gómez & Tejada 2009; the reversed orders: Mitchell et al. 2022.
    """
    if permutations < 1:
        raise ArgumentError("permutation_shap", "permutations must be at least 1", got=permutations, fix="pass 20")
    d = game.players
    drawn = -(-permutations // 2) if antithetic else permutations
    ranks = torch.rand(drawn, d, generator=generator, device=generator.device, dtype=torch.float64).cpu()
    ranks = ranks.argsort(1).argsort(1)  # (orders, d): when a player comes
    if antithetic:
        ranks = torch.stack([ranks, d - 1 - ranks], 1).flatten(0, 1)[:permutations]
    prefixes = ranks[:, None] < torch.arange(d + 1)[:, None]  # (orders, d + 1, d)
    coalitions, number = prefixes.flatten(0, 1).unique(dim=0, return_inverse=True)
    values = game(coalitions)
    along = values[:, number.to(values.device)].unflatten(1, (permutations, d + 1))  # (B, orders, d + 1)
    gains = along.diff(dim=2)
    return gains.gather(2, ranks.to(values.device).expand_as(gains)).mean(1)
