"""Tests of explanations: do they add up, do they find what matters, are they stable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from coursekit.attribution.scores import Baseline, Explained, Model, Target, check_baselines, check_inputs, shape_of
from coursekit.attribution.similarity import rank_correlation
from coursekit.errors import ArgumentError

Kind = Literal["deletion", "insertion"]


def completeness_error(
    attribution: Tensor,
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    baseline: Baseline = None,
    batch_size: int | None = None,
) -> Tensor:
    """Return what the attributions of a row miss: their sum less (score of the row − score of the baseline).

    The same law has many names: completeness of integrated gradients, efficiency of Shapley values.

    Args:
        attribution: (B, ...); every entry counts.
        model, inputs, target, baseline, batch_size: as the explanation got them; of several baselines, the mean.

    Returns:
        (B,), with its sign, in the score's unit.

    Raises:
        ArgumentError: an argument is not as above.

    Source: Sundararajan, Taly & Yan 2017, proposition 1.
    """
    where = "completeness_error"
    explained = Explained(where, model, inputs, target, batch_size=batch_size)
    rows = explained.inputs
    if len(attribution) != len(rows):
        raise ArgumentError(
            where,
            f"attribution must have {len(rows)} rows",
            got=shape_of(attribution),
            fix="pass the explanation of these inputs",
        )
    starts = check_baselines(where, rows, baseline)
    whole = explained.scores(1, lambda _: rows[None].clone())[:, 0]
    absent = explained.scores(len(starts), lambda part: starts[part].expand(-1, *rows.shape).clone()).mean(1)
    return attribution.flatten(1).sum(1) - (whole - absent)


@dataclass(frozen=True)
class Curve:
    """Scores while features go or come.

    Attributes:
        fractions: of the features that have gone or come, (S + 1,), from 0 to 1.
        scores: (B, S + 1).
        area: the mean height of each curve (B,), by trapezoids.
    """

    fractions: Tensor
    scores: Tensor
    area: Tensor


def deletion_curve(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    attribution: Tensor,
    baseline: Baseline = None,
    steps: int = 20,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
) -> Curve:
    """Take the features away, the most important first, and watch the score fall; a good order has a small area.

    Args:
        model: a module (held in evaluation mode) or a function: (n, ...) to scores (n, K), or (n,) without a target.
            The curves of Petsiuk et al. are of the class's probability: pass a function that gives it.
        inputs: (B, ...), floating.
        target: the output that is watched: an index, one per row (B,), or None for a model with one output.
        attribution: importance, the largest first: for pictures (B, H, W), or (B, C, H, W), whose channels are
            summed; for tables (B, d). A pixel goes with all its channels.
        baseline: what takes a feature's place; as of `MaskingGame`, but one.
        steps: S, at most one per feature.
        generator: puts features of equal importance in a random order; None leaves them in the order of their places.
        batch_size: rows per pass; None chooses by the size of a row.

    Raises:
        ArgumentError: an argument is not as above.

    Source: Petsiuk, Das & Saenko 2018, section 3.
    """
    return _curve(
        "deletion_curve", "deletion", model, inputs, target, attribution, baseline, steps, generator, batch_size
    )


def insertion_curve(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    attribution: Tensor,
    baseline: Baseline = None,
    steps: int = 20,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
) -> Curve:
    """Put the features onto the baseline, the most important first; a good order has a large area.

    Arguments, returns, errors and source as of `deletion_curve`.
    """
    return _curve(
        "insertion_curve", "insertion", model, inputs, target, attribution, baseline, steps, generator, batch_size
    )


def random_areas(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    kind: Kind = "deletion",
    draws: int = 10,
    baseline: Baseline = None,
    steps: int = 20,
    generator: torch.Generator,
    batch_size: int | None = None,
) -> Tensor:
    """Return the areas (draws, B) of deletion or insertion curves in random orders: what an explanation must beat.

    Args:
        model, inputs, target, baseline, steps, batch_size: as of `deletion_curve`.
        kind: `deletion` or `insertion`.
        draws: orders per row.
        generator: of the orders; on any device.

    Raises:
        ArgumentError: an argument is not as above.
    """
    where = "random_areas"
    if kind not in ("deletion", "insertion") or draws < 1:
        raise ArgumentError(
            where, "kind deletion or insertion, and draws at least 1", got=(kind, draws), fix="pass 'deletion', 10"
        )
    check_inputs(where, inputs)
    plane = (len(inputs), *inputs.shape[-2:]) if inputs.ndim == 4 else tuple(inputs.shape)
    areas = []
    for _ in range(draws):
        order = torch.rand(plane, generator=generator, device=generator.device, dtype=torch.float64).to(inputs.device)
        areas.append(_curve(where, kind, model, inputs, target, order, baseline, steps, None, batch_size).area)
    return torch.stack(areas)


def _curve(
    where: str,
    kind: Kind,
    model: Model,
    inputs: Tensor,
    target: Target,
    attribution: Tensor,
    baseline: Baseline,
    steps: int,
    generator: torch.Generator | None,
    batch_size: int | None,
) -> Curve:
    explained = Explained(where, model, inputs, target, batch_size=batch_size)
    rows = explained.inputs
    importance = attribution.sum(1) if attribution.ndim == 4 else attribution
    plane = (len(rows), *rows.shape[-2:]) if rows.ndim == 4 else tuple(rows.shape)
    if importance.shape != plane or not importance.isfinite().all():
        raise ArgumentError(
            where,
            f"attribution must be {plane}, finite",
            got=shape_of(attribution),
            fix="paint the values of segments onto the pictures first",
        )
    starts = check_baselines(where, rows, baseline)
    if len(starts) != 1:
        raise ArgumentError(where, "one baseline", got=f"{len(starts)}", fix="pass the one to delete to")
    features = importance[0].numel()
    if not 1 <= steps <= features:
        raise ArgumentError(where, f"steps must be from 1 to {features}", got=steps, fix="pass 20")
    rank = _ranked(importance.flatten(1), generator)  # (B, features), 0 for the most important
    counts = torch.linspace(0, features, steps + 1, device=rows.device, dtype=torch.float64).round().long()
    shape = (len(rows), 1, *plane[1:]) if rows.ndim == 4 else plane

    def changed(part: slice) -> Tensor:
        first = (rank < counts[part, None, None]).view(-1, *shape)  # those that have gone or come
        return torch.where(first, starts[0], rows) if kind == "deletion" else torch.where(first, rows, starts[0])

    scores = explained.scores(steps + 1, changed)
    fractions = counts.to(scores) / features
    return Curve(fractions, scores, torch.trapezoid(scores, fractions, dim=1))


def _ranked(importance: Tensor, generator: torch.Generator | None) -> Tensor:
    order = importance
    shuffle = None
    if generator is not None:
        drawn = torch.rand(importance.shape, generator=generator, device=generator.device, dtype=torch.float64)
        shuffle = drawn.argsort(dim=1).to(importance.device)
        order = importance.gather(1, shuffle)
    ranked = order.argsort(dim=1, descending=True, stable=True)
    places = ranked if shuffle is None else shuffle.gather(1, ranked)
    return places.argsort(dim=1)


@dataclass(frozen=True)
class Stability:
    """How explanations move when the input does.

    Attributes:
        correlation: (draws, B), Spearman's between the magnitudes of the explanations of a row and of its noisy copy.
        ratio: (draws, B), |change of the explanation| / |change of the row|, Euclidean; the largest over draws
            estimates the local Lipschitz constant.
    """

    correlation: Tensor
    ratio: Tensor


def stability(
    explain: Callable[[Tensor], Tensor],
    inputs: Tensor,
    *,
    sigma: float,
    draws: int = 5,
    generator: torch.Generator,
) -> Stability:
    """Explain noisy copies of the rows and compare with the explanations of the rows.

    Args:
        explain: rows (B, ...) to explanations (B, ...). Hold the target fixed, and a random method's seed too, else
            its own noise is measured with it.
        inputs: (B, ...), floating.
        sigma: standard deviation of the noise, in the unit of the inputs; above 0.
        draws: noisy copies of each row.
        generator: of the noise; on any device.

    Raises:
        ArgumentError: an argument is not as above.

    Source: the ratio: Alvarez-Melis & Jaakkola 2018, equation 2, there with the worst case instead of draws.
    """
    where = "stability"
    rows = check_inputs(where, inputs)
    if not (math.isfinite(sigma) and sigma > 0) or draws < 1:
        raise ArgumentError(
            where, "sigma must be finite and above 0, draws at least 1", got=(sigma, draws), fix="pass 0.1 and 5"
        )
    whole = explain(rows)
    correlations, ratios = [], []
    for _ in range(draws):
        noise = torch.randn(rows.shape, generator=generator, device=generator.device, dtype=rows.dtype).to(rows.device)
        other = explain(rows + sigma * noise)
        correlations.append(rank_correlation(whole, other))
        ratios.append((other - whole).flatten(1).norm(dim=1) / (sigma * noise).flatten(1).norm(dim=1))
    return Stability(torch.stack(correlations), torch.stack(ratios))
