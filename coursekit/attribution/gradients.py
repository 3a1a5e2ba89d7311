"""Explanations by the gradient of the score: saliency, its smooth and integrated forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from coursekit.attribution.scores import Baseline, Explained, Model, Target, check_baselines
from coursekit.errors import ArgumentError

Rule = Literal["midpoint", "left", "right", "trapezoid", "gauss"]
RULES: tuple[Rule, ...] = ("midpoint", "left", "right", "trapezoid", "gauss")
Smoothing = Literal["mean", "square", "variance"]


def gradient(model: Model, inputs: Tensor, target: Target = None, *, batch_size: int | None = None) -> Tensor:
    """Return ∂ score / ∂ input, with its sign.

    Args:
        model: a module (held in evaluation mode) or a function: (n, ...) to scores (n, K), or (n,) without a target.
        inputs: (B, ...), floating.
        target: the output to explain: an index, one per row (B,), or None for a model with one output.
        batch_size: rows per pass; None chooses by the size of a row.

    Returns:
        Like inputs.

    Raises:
        ArgumentError: an argument is not as above, or the score does not depend on the inputs.
    """
    return _gradient("gradient", model, inputs, target, batch_size)


def saliency(model: Model, inputs: Tensor, target: Target = None, *, batch_size: int | None = None) -> Tensor:
    """Return |∂ score / ∂ input|; `heatmap` makes one map per picture of it.

    Arguments, returns and errors as of `gradient`.

    Source: Simonyan, Vedaldi & Zisserman 2014, section 3.
    """
    return _gradient("saliency", model, inputs, target, batch_size).abs()


def input_times_gradient(
    model: Model, inputs: Tensor, target: Target = None, *, batch_size: int | None = None
) -> Tensor:
    """Return input · ∂ score / ∂ input: what each input adds to a score that is linear.

    Arguments, returns and errors as of `gradient`.
    """
    return inputs.detach() * _gradient("input_times_gradient", model, inputs, target, batch_size)


def smoothgrad(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    sigma: float | Tensor,
    draws: int = 50,
    generator: torch.Generator,
    absolute: bool = False,
    kind: Smoothing = "mean",
    batch_size: int | None = None,
) -> Tensor:
    """Combine the gradients at `draws` noisy copies of each row.

    The result depends on the generator's state, not on `batch_size`.

    Args:
        model, inputs, target, batch_size: as of `gradient`.
        sigma: standard deviation of the noise, in the unit of the inputs; a tensor broadcasts against them.
        draws: noisy copies per row.
        generator: of the noise; on any device.
        absolute: combine |gradient|.
        kind: `mean`, `square` (mean of squares) or `variance` (mean of squares less the square of the mean).

    Returns:
        Like inputs.

    Raises:
        ArgumentError: as of `gradient`; sigma is negative or not finite, or draws is below 1.

    Source: Smilkov et al. 2017, equation 1; the square and the variance: Adebayo et al. 2018 and Hooker et al. 2019.
    """
    where = "smoothgrad"
    explained = Explained(where, model, inputs, target, batch_size=batch_size)
    deviation = torch.as_tensor(sigma, dtype=inputs.dtype, device=inputs.device)
    if not (deviation.isfinite() & (deviation >= 0)).all():
        raise ArgumentError(where, "sigma must be finite and at least 0", got=sigma, fix="pass 0.1 of the data's range")
    _check_count(where, "draws", draws)
    if kind not in ("mean", "square", "variance"):
        raise ArgumentError(where, "kind must be mean, square or variance", got=kind, fix="pass 'mean'")
    rows = explained.inputs
    first, second = torch.zeros_like(rows), torch.zeros_like(rows)
    for _, slopes in explained.gradients(draws, lambda part: rows + deviation * _noise(part, rows, generator)):
        first += (slopes.abs() if absolute else slopes).sum(0)
        if kind != "mean":
            second += slopes.square().sum(0)
    mean = first / draws
    if kind == "mean":
        return mean
    return second / draws - (mean.square() if kind == "variance" else 0)


def integrated_gradients(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    baseline: Baseline = None,
    steps: int = 64,
    rule: Rule = "midpoint",
    batch_size: int | None = None,
) -> Tensor:
    """Integrate the gradient along the straight line from the baseline to each row, times their difference.

    The attributions of a row sum to f(row) − f(baseline) up to the error of the rule (`completeness_error`).

    Args:
        model, inputs, target, batch_size: as of `gradient`.
        baseline: None for zeros, a number, or a tensor that broadcasts against the inputs; with one more leading
            axis, (R, ...), the mean over R baselines.
        steps: gradients per row and baseline.
        rule: how the integral is replaced by a sum. `midpoint` and `gauss` (Gauss-Legendre) ask no end of the line;
            `left` and `right` ask one of them, `trapezoid` both.

    Returns:
        Like inputs.

    Raises:
        ArgumentError: as of `gradient`; the baseline does not fit, the rule is unknown or steps is below 1.

    Source: Sundararajan, Taly & Yan 2017, equations 1 and 3 (their sum asks the right ends).
    """
    where = "integrated_gradients"
    explained = Explained(where, model, inputs, target, batch_size=batch_size)
    rows = explained.inputs
    baselines = check_baselines(where, rows, baseline)
    places, weights = (values.to(rows) for values in quadrature(rule, steps))
    total = torch.zeros_like(rows)
    for start in baselines:
        difference = rows - start

        def line(part: slice, start: Tensor = start, difference: Tensor = difference) -> Tensor:
            return start + _column(places[part], rows) * difference

        area = torch.zeros_like(rows)
        for part, slopes in explained.gradients(len(places), line):
            area += torch.einsum("m,m...->...", weights[part], slopes)
        total += difference * area
    return total / len(baselines)


def expected_gradients(
    model: Model,
    inputs: Tensor,
    target: Target = None,
    *,
    baseline: Baseline = None,
    draws: int = 50,
    sigma: float = 0.0,
    generator: torch.Generator,
    batch_size: int | None = None,
) -> Tensor:
    """Average gradient times difference at random places of the lines from random baselines to each row.

    The mean over many draws is that of integrated gradients over the baselines. Known as GradientSHAP too. The
    result depends on the generator's state, not on `batch_size`.

    Args:
        model, inputs, target, batch_size: as of `gradient`.
        baseline: as of `integrated_gradients`; each draw takes one of the R.
        draws: gradients per row.
        sigma: standard deviation of noise added to the row, in the unit of the inputs.
        generator: of baselines, places and noise; on any device.

    Returns:
        Like inputs.

    Raises:
        ArgumentError: as of `integrated_gradients`; sigma is negative or not finite, or draws is below 1.

    Source: Erion et al. 2021; the noise as in the shap package's GradientExplainer.
    """
    where = "expected_gradients"
    explained = Explained(where, model, inputs, target, batch_size=batch_size)
    rows = explained.inputs
    baselines = check_baselines(where, rows, baseline)
    baselines = baselines.expand(-1, len(rows), *baselines.shape[2:])
    _check_count(where, "draws", draws)
    if not (math.isfinite(sigma) and sigma >= 0):
        raise ArgumentError(where, "sigma must be finite and at least 0", got=sigma, fix="pass 0.0")
    at, device = generator.device, rows.device
    which = torch.randint(len(baselines), (draws, len(rows)), generator=generator, device=at).to(device)
    places = torch.rand(draws, len(rows), generator=generator, device=at, dtype=torch.float64).to(rows)
    differences = torch.empty(0)
    order = torch.arange(len(rows), device=device)

    def points(part: slice) -> Tensor:
        nonlocal differences
        starts = baselines[which[part], order]
        ends = rows + sigma * _noise(part, rows, generator) if sigma else rows
        differences = ends - starts
        return starts + places[part].reshape(*starts.shape[:2], *[1] * (rows.ndim - 1)) * differences

    total = torch.zeros_like(rows)
    for _, slopes in explained.gradients(draws, points):
        total += (slopes * differences).sum(0)
    return total / draws


def quadrature(rule: Rule, steps: int) -> tuple[Tensor, Tensor]:
    """Return places in [0, 1] and weights, (steps,) each, float64, of a rule for the integral over [0, 1].

    Raises:
        ArgumentError: the rule is unknown, or steps is below 1 (2 for the trapezoid).
    """
    where = "quadrature"
    if rule not in RULES:
        raise ArgumentError(where, f"rule must be one of {', '.join(RULES)}", got=rule, fix="pass 'midpoint'")
    _check_count(where, "steps", steps, least=2 if rule == "trapezoid" else 1)
    if rule == "gauss":
        import numpy as np

        places, weights = np.polynomial.legendre.leggauss(steps)
        return torch.as_tensor((places + 1) / 2), torch.as_tensor(weights / 2)
    if rule == "trapezoid":
        weights = torch.full((steps,), 1 / (steps - 1), dtype=torch.float64)
        weights[[0, -1]] /= 2
        return torch.linspace(0, 1, steps, dtype=torch.float64), weights
    shift = {"left": 0.0, "midpoint": 0.5, "right": 1.0}[rule]
    places = (torch.arange(steps, dtype=torch.float64) + shift) / steps
    return places, torch.full((steps,), 1 / steps, dtype=torch.float64)


def heatmap(attribution: Tensor, *, channels: Literal["max", "sum", "norm"] = "max") -> Tensor:
    """Make one map per picture of an attribution with channels.

    Args:
        attribution: (B, C, H, W).
        channels: `max` of absolute values, `sum` with signs (keeps completeness), or Euclidean `norm`.

    Returns:
        (B, H, W).

    Raises:
        ArgumentError: the attribution has no channels, or there is no such way.
    """
    where = "heatmap"
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "max": lambda maps: maps.abs().amax(1),
        "sum": lambda maps: maps.sum(1),
        "norm": lambda maps: maps.norm(dim=1),
    }
    if channels not in ways:
        raise ArgumentError(where, f"channels must be one of {', '.join(ways)}", got=channels, fix="pass 'max'")
    if attribution.ndim != 4:
        raise ArgumentError(
            where, "attribution must be (B, C, H, W)", got=tuple(attribution.shape), fix="pass maps with channels"
        )
    return ways[channels](attribution)


def _gradient(where: str, model: Model, inputs: Tensor, target: Target, batch_size: int | None) -> Tensor:
    explained = Explained(where, model, inputs, target, batch_size=batch_size)
    ((_, slopes),) = explained.gradients(1, lambda _: explained.inputs[None])
    return slopes[0]


def _noise(part: slice, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Draw noise (m, B, ...); draw by draw, so that the numbers do not depend on how many are drawn together."""
    drawn = [
        torch.randn(rows.shape, generator=generator, device=generator.device, dtype=rows.dtype)
        for _ in range(part.stop - part.start)
    ]
    return torch.stack(drawn).to(rows.device)


def _column(values: Tensor, rows: Tensor) -> Tensor:
    """View (m,) as (m, 1, ...), to broadcast against rows (B, ...)."""
    return values.view(-1, *[1] * rows.ndim)


def _check_count(where: str, name: str, value: int, least: int = 1) -> None:
    if value < least:
        raise ArgumentError(where, f"{name} must be at least {least}", got=value, fix="pass 50")
