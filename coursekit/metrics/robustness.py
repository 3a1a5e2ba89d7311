"""Accuracy under noise, occlusion and a gradient-based attack, as curves over their strength."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from statistics import fmean

import torch
from torch import Tensor

from coursekit.errors import ArgumentError
from coursekit.metrics.classification import at_least_float32, check_labels, check_logits, describe
from coursekit.metrics.convergence import normalised_area
from coursekit.metrics.modes import evaluating

PERTURBATIONS = ("noise", "occlusion", "attack")


@dataclass(frozen=True)
class Robustness:
    """What `robustness` measured.

    Args:
        strengths: the strengths of every curve.
        curves: per kind, the accuracy at each strength.
        areas: per kind, the normalised area under its curve: the mean accuracy over the strengths.
        score: mean of the areas, a fraction.
    """

    strengths: tuple[float, ...]
    curves: dict[str, tuple[float, ...]]
    areas: dict[str, float]
    score: float


@torch.no_grad()
def robustness(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    strengths: Sequence[float],
    kinds: Sequence[str] = PERTURBATIONS,
    low: float | None = None,
    high: float | None = None,
    seed: int = 0,
    batch_size: int = 1024,
) -> Robustness:
    """Measure a classifier's accuracy over rising strengths of noise, occlusion and attack.

    What a strength means depends on the kind: the standard deviation of `gaussian_noise`, the fraction
    hidden by `occlude`, the largest change of any input by `fgsm`. Strength 0 is the clean accuracy.
    The same noise and the same places serve every strength, so a curve shows the strength and not the
    draw; the result depends on the seed alone, not on `batch_size` or on which kinds are asked for.

    Modes, BatchNorm statistics and gradients of the model stay as they were.

    Args:
        model: gives logits (n, classes) for x; a module is put into evaluation mode.
        x: images (n, c, h, w) or a table (n, d), floating.
        y: class indices (n,), integer.
        strengths: at least two, strictly increasing, not negative; at most 1 with `occlusion`.
        kinds: which of `PERTURBATIONS` to measure.
        low, high: the range of valid inputs, into which noise and attack are clamped; x must lie in it.
        seed: of the noise and of the places.
        batch_size: samples per forward pass.

    Raises:
        ArgumentError: an argument is not as above, or the model gives no such logits.
    """
    where = "robustness"
    if not kinds or len(set(kinds)) != len(kinds) or not set(kinds) <= set(PERTURBATIONS):
        raise ArgumentError(
            where,
            f"kinds must be different ones of {', '.join(PERTURBATIONS)}",
            got=list(kinds),
            fix="name each once",
        )
    strengths = tuple(float(strength) for strength in strengths)
    if len(strengths) < 2 or any(b <= a for a, b in pairwise(strengths)):
        raise ArgumentError(
            where, "strengths must be two or more, strictly increasing", got=strengths, fix="pass 0, 0.1, 0.2"
        )
    if batch_size < 1:
        raise ArgumentError(where, "batch_size must be at least 1", got=batch_size, fix="pass 1024")
    _check_inputs(where, x, low, high)
    if y.shape != (len(x),):
        raise ArgumentError(where, f"y must have shape ({len(x)},)", got=describe(y), fix="pass one class per sample")
    low, high = _widened(where, x, low, high)

    @cache
    def direction() -> Tensor:  # one attack serves every strength
        batches = zip(x.split(batch_size), y.split(batch_size), strict=True)
        return torch.cat([_ascent(where, model, *batch) for batch in batches])

    def perturbed(kind: str, strength: float) -> Tensor:
        generator = torch.Generator().manual_seed(seed)  # on the CPU: the same draw on every device
        if kind == "noise":
            return gaussian_noise(x, strength, generator, low=low, high=high)
        if kind == "occlusion":
            return occlude(x, strength, generator)
        _check_strength(where, strength)
        return _clamp(x + strength * direction(), low, high)

    curves = {
        kind: tuple(_accuracy(model, perturbed(kind, strength), y, batch_size) for strength in strengths)
        for kind in kinds
    }
    areas = {kind: normalised_area(curve, steps=strengths) for kind, curve in curves.items()}
    return Robustness(strengths=strengths, curves=curves, areas=areas, score=fmean(areas.values()))


def gaussian_noise(
    x: Tensor,
    strength: float,
    generator: torch.Generator,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Tensor:
    """Add independent Gaussian noise to every entry.

    Args:
        x: (n, ...), floating; not changed.
        strength: standard deviation of the noise, in the unit of x.
        generator: source of the noise; one on the CPU gives the same noise on every device.
        low, high: clamp the result into this range.

    Returns:
        A new tensor like x.

    Raises:
        ArgumentError: x is not floating or empty, or strength is negative or not finite.
    """
    _check_inputs("gaussian_noise", x, low, high)
    _check_strength("gaussian_noise", strength)
    noise = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x.device)
    return _clamp(x + strength * noise, low, high)


def occlude(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Hide a part of every sample behind zeros, at a place of its own.

    An image loses one patch of its own proportions (a square in a square image) across all channels; a
    row of a table loses features, drawn without replacement, which is their mean if they are
    standardised. Given the same draw, a stronger occlusion hides all that a weaker one does.

    Args:
        x: images (n, c, h, w) or a table (n, d), floating; not changed.
        strength: fraction of the area or of the features, 0 to 1, rounded to whole pixels per side or
            to whole features.
        generator: source of the places.

    Returns:
        A new tensor like x.

    Raises:
        ArgumentError: x is neither of the two, or strength is outside [0, 1].
    """
    where = "occlude"
    _check_inputs(where, x)
    if x.ndim not in (2, 4):
        raise ArgumentError(where, "x must be images (n, c, h, w) or a table (n, d)", got=describe(x), fix="reshape it")
    _check_strength(where, strength, largest=1.0)
    if x.ndim == 2:
        count = round(strength * x.shape[1])
        hidden = _uniform(x.shape, generator).argsort(dim=1) < count
    else:
        place = _uniform((2, len(x)), generator)
        rows, columns = (
            _interval(size, round(size * math.sqrt(strength)), draw)
            for size, draw in zip(x.shape[2:], place, strict=True)
        )
        hidden = rows[:, None, :, None] & columns[:, None, None, :]  # (n, 1, h, w)
    return x.masked_fill(hidden.to(x.device), 0.0)


def fgsm(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    strength: float,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Tensor:
    """Attack with the fast gradient sign method: one step of `strength` per input, up the loss.

    x + strength · sign(∂ loss / ∂ x), with the cross entropy as loss. Works inside `no_grad` and
    `inference_mode`; a module is attacked in evaluation mode and gets its modes back, and no gradient
    reaches its parameters.

    Args:
        model: gives logits (n, classes) for x.
        x: (n, ...), floating; not changed.
        y: the true class indices (n,), integer.
        strength: largest change of any entry, in the unit of x.
        low, high: clamp the result into this range.

    Returns:
        A new tensor like x, without a graph.

    Raises:
        ArgumentError: an argument is not as above, the model gives no such logits, or they do not
            depend on x.

    Source: Goodfellow, Shlens & Szegedy 2015, "Explaining and harnessing adversarial examples",
        section 4. The cross entropy's gradient vanishes in rounding where the model is sure; ours is
        that gradient divided by 1 - p(y | x), which has the same sign and does not vanish.
    """
    where = "fgsm"
    _check_inputs(where, x, low, high)
    _check_strength(where, strength)
    return _clamp(x.detach() + strength * _ascent(where, model, x, y), low, high)


def _ascent(where: str, model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The direction in which the loss rises: the sign of its gradient for every entry of x."""
    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        leaf = x.detach().clone().requires_grad_()
        logits = check_logits(where, model(leaf), count=len(x))
        check_labels(where, "y", y, classes=logits.shape[1], count=len(x))
        logits, target = at_least_float32(logits), y.clone().long()[:, None]
        others = logits.scatter(1, target, -math.inf).logsumexp(dim=1)
        loss = (others - logits.gather(1, target)[:, 0]).sum()  # a sum: samples do not share a scale
        (gradient,) = torch.autograd.grad(loss, leaf, allow_unused=True) if loss.requires_grad else (None,)
    if gradient is None:
        raise ArgumentError(
            where,
            "the logits must depend on x by differentiable steps",
            fix="attack a model without detach or argmax",
        )
    return gradient.sign()


def _accuracy(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, batch_size: int) -> float:
    hits = 0
    with evaluating(model):
        for inputs, targets in zip(x.split(batch_size), y.split(batch_size), strict=True):
            logits = check_logits("robustness", model(inputs), count=len(inputs))
            check_labels("robustness", "y", targets, classes=logits.shape[1])
            hits += int((logits.argmax(dim=1) == targets).sum())
    return hits / len(x)


def _uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)


def _interval(size: int, side: int, draw: Tensor) -> Tensor:
    """Mark `side` neighbours out of `size`, from a uniform draw (n,) per sample: (n, size), bool."""
    start = (draw * (size - side + 1)).long().clamp(max=size - side)[:, None]
    index = torch.arange(size, device=draw.device)
    return (index >= start) & (index < start + side)


def _clamp(x: Tensor, low: float | None, high: float | None) -> Tensor:
    return x if low is None and high is None else x.clamp(low, high)


def _check_inputs(where: str, x: Tensor, low: float | None = None, high: float | None = None) -> None:
    if x.ndim < 2 or not x.is_floating_point() or x.numel() == 0:
        raise ArgumentError(
            where,
            "x must be floating, (n, ...), with at least one sample",
            got=describe(x),
            fix="pass x.float()",
        )
    if not x.isfinite().all():
        raise ArgumentError(where, "x must be finite", got="NaN or infinity in x", fix="clean the data first")
    if low is not None and high is not None and not low < high:
        raise ArgumentError(where, "low must be below high", got=f"{low} and {high}", fix="swap them")


def _widened(where: str, x: Tensor, low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """Bounds that hold all of x exactly, so that clamping leaves it alone at strength 0.

    Rounding may put x just outside (normalised pixels do not end exactly at the bound); more is refused.
    """
    smallest, largest = (bound.item() for bound in x.aminmax())
    slack = 1e-5 * (largest - smallest)
    if (low is not None and smallest < low - slack) or (high is not None and largest > high + slack):
        raise ArgumentError(
            where,
            f"x must lie between low = {low} and high = {high}",
            got=f"values from {smallest:g} to {largest:g}",
            fix="pass the range of the data as the model sees it",
        )
    return None if low is None else min(low, smallest), None if high is None else max(high, largest)


def _check_strength(where: str, strength: float, largest: float = math.inf) -> None:
    if not (0 <= strength <= largest and math.isfinite(strength)):
        bounds = "finite and at least 0" if largest == math.inf else f"in [0, {largest:g}]"
        raise ArgumentError(where, f"strength must be {bounds}", got=strength, fix="pass 0.1")
