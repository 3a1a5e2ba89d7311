"""LIME: a linear model fitted to the score around one row, weighted by closeness."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from coursekit.attribution.games import MaskingGame
from coursekit.attribution.regression import weighted_ridge
from coursekit.attribution.scores import Baseline, Explained, Model, Target, shape_of
from coursekit.errors import ArgumentError


@dataclass(frozen=True)
class LocalModel:
    """The linear models that were fitted, one per row.

    Attributes:
        coefficients: (B, d), score per unit of the local model's features.
        intercept: (B,).
        fit: weighted R² (B,): the share of the score's variance around the row that the linear model tells.
    """

    coefficients: Tensor
    intercept: Tensor
    fit: Tensor


def lime(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    segments: Tensor | None = None,
    baseline: Baseline = None,
    samples: int = 1000,
    kernel_width: float = 0.25,
    ridge: float = 1.0,
    generator: torch.Generator,
    batch_size: int | None = None,
) -> LocalModel:
    """Fit the score to which segments are present: each with probability 1/2, the first sample with all.

    Weights are exp(−D² / kernel_width²) with D the cosine distance between a sample and all present, 1 − √(k/d) for k
    of d. All rows share the samples, so that one decomposition serves them.

    Args:
        model: a module (held in evaluation mode) or a function: (n, ...) to scores (n, K), or (n,) without a target.
            Give probabilities where a bounded score is wanted, never hard labels.
        inputs: (B, ...), floating.
        target: the output to explain: an index, one per row (B,), or None for a model with one output.
        segments, baseline: as of `MaskingGame`: what is present or absent, and what absence looks like.
        samples: scores per row (and baseline).
        kernel_width: of the distance; above 0.
        ridge: penalty on the coefficients' squares; at least 0.
        generator: of the samples; on any device.
        batch_size: rows per pass; None chooses by the size of a row.

    Returns:
        Coefficients (B, players): what the presence of each adds.

    Raises:
        ArgumentError: an argument is not as above, or the samples are too few.

    Source: Ribeiro, Singh & Guestrin 2016, equations 1 and 2; distance and ridge as in the lime package's pictures,
    whose weights are the square root of ours.
    """
    where = "lime"
    game = MaskingGame(model, inputs, target, baseline=baseline, segments=segments, batch_size=batch_size, where=where)
    _check(where, samples, kernel_width, ridge)
    draw = torch.rand(samples, game.players, generator=generator, device=generator.device)
    coalitions = (draw < 0.5).to(inputs.device)
    coalitions[0] = True
    values = game(coalitions)
    distance = 1 - (coalitions.double().mean(1)).sqrt()
    weights = torch.exp(-distance.square() / kernel_width**2)
    return _fitted(where, coalitions.double(), values, weights, ridge)


def lime_tabular(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    scale: Tensor | float = 1.0,
    samples: int = 1000,
    kernel_width: float | None = None,
    ridge: float = 1.0,
    generator: torch.Generator,
    batch_size: int | None = None,
) -> LocalModel:
    """Fit the score of normal samples around each row of a table, the first of them the row itself.

    A sample is row + scale · z with z standard normal, weighted by exp(−|z|² / kernel_width²). All rows share the z,
    so that one decomposition serves them.

    Args:
        model, inputs, target, samples, ridge, generator, batch_size: as of `lime`; inputs (B, d).
        scale: the columns' standard deviations in the training data, (d,) or a number; above 0.
        kernel_width: None for 0.75 · √d.

    Returns:
        Coefficients (B, d): score per standard deviation of each column. `intercept` is the fitted score of the row.

    Raises:
        ArgumentError: an argument is not as above, or the samples are too few.

    Source: Ribeiro, Singh & Guestrin 2016, equations 1 and 2; the width as in the lime package, which samples around
    the mean of the data and cuts the columns into quartiles unless told not to.
    """
    where = "lime_tabular"
    explained = Explained(where, model, inputs, target, batch_size=batch_size)
    rows = explained.inputs
    if rows.ndim != 2:
        raise ArgumentError(where, "inputs must be a table (B, d)", got=shape_of(inputs), fix="use lime for pictures")
    spread = torch.as_tensor(scale, device=rows.device).to(rows.dtype)
    if spread.shape not in ((), rows.shape[1:]) or not (spread.isfinite() & (spread > 0)).all():
        raise ArgumentError(
            where,
            f"scale must be a number or ({rows.shape[1]},), finite and above 0",
            got=shape_of(scale),
            fix="pass the standard deviations of the training data",
        )
    width = 0.75 * math.sqrt(rows.shape[1]) if kernel_width is None else kernel_width
    _check(where, samples, width, ridge)
    z = torch.randn(samples, rows.shape[1], generator=generator, device=generator.device, dtype=rows.dtype)
    z = z.to(rows.device)
    z[0] = 0
    values = explained.scores(samples, lambda part: rows + spread * z[part, None])
    weights = torch.exp(-z.double().square().sum(1) / width**2)
    return _fitted(where, z, values, weights, ridge)


def _fitted(where: str, design: Tensor, values: Tensor, weights: Tensor, ridge: float) -> LocalModel:
    found = weighted_ridge(where, design, values, weights, ridge)
    return LocalModel(*(part.to(values.dtype) for part in found))


def _check(where: str, samples: int, kernel_width: float, ridge: float) -> None:
    if samples < 2:
        raise ArgumentError(where, "samples must be at least 2", got=samples, fix="pass 1000")
    if not (math.isfinite(kernel_width) and kernel_width > 0):
        raise ArgumentError(where, "kernel_width must be finite and above 0", got=kernel_width, fix="pass 0.25")
    if not (math.isfinite(ridge) and ridge >= 0):
        raise ArgumentError(where, "ridge must be finite and at least 0", got=ridge, fix="pass 1.0")
