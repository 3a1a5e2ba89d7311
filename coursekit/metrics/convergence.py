"""How fast a curve gets where it should: steps to a sustained target, and the area under it."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

from coursekit.errors import ArgumentError


def steps_to_target(
    curve: Iterable[float],
    target: float,
    *,
    patience: int = 3,
    mode: Literal["max", "min"] = "max",
    steps: Sequence[int] | None = None,
) -> int | None:
    """Find the first point from which a curve stays at or beyond its target for `patience` points.

    One lucky touch is not convergence, and a run that ends before `patience` points are seen has not
    shown that it stays. A point that is NaN is not at the target.

    Args:
        curve: one value per point, in the order of time; at least one.
        target: the value to reach; it counts as reached when equal.
        patience: consecutive points that must hold, the first one included. 1 means the first touch.
        mode: `max` where larger is better (accuracy), `min` where smaller is (loss).
        steps: the place of each point in optimizer steps, epochs or environment steps, strictly
            increasing integers. Without it the points count 1, 2, 3, ...: epochs, if there is one
            point at the end of each.

    Returns:
        The step of the first of those points, in the unit of `steps`; None if there is none.

    Raises:
        ArgumentError: an empty curve, a NaN target, patience below 1, an unknown mode, or steps that do
            not fit the curve.
    """
    where = "steps_to_target"
    values = [float(value) for value in curve]
    if math.isnan(target):
        raise ArgumentError(where, "target must be a number", got=target, fix="pass the value to reach")
    if patience < 1:
        raise ArgumentError(where, "patience must be at least 1", got=patience, fix="pass 1 for a first touch")
    if mode not in ("max", "min"):
        raise ArgumentError(where, "mode must be max or min", got=repr(mode), fix="pass min for a loss")
    if not values:
        raise ArgumentError(where, "a curve needs at least one point", got="none", fix="record the metric")
    axis = list(range(1, len(values) + 1)) if steps is None else _whole(where, steps)
    _check_axis(where, axis, len(values))

    held = 0
    for index, value in enumerate(values):
        reached = value >= target if mode == "max" else value <= target
        held = held + 1 if reached else 0
        if held == patience:
            return axis[index - patience + 1]
    return None


def normalised_area(curve: Iterable[float], *, steps: Sequence[float] | None = None) -> float:
    """Area under a curve over the range of its axis: its mean height, whatever the spacing.

    Args:
        curve: one finite value per point, at least two.
        steps: the place of each point, strictly increasing and finite, the spacing may differ; evenly
            spaced when not given. Its unit cancels out.

    Returns:
        The area in the unit of the curve, between its smallest and its largest value.

    Raises:
        ArgumentError: fewer than two points, a value that is not finite, or steps that do not fit.

    Source: the trapezoidal rule, `numpy.trapezoid(curve, steps) / (steps[-1] - steps[0])`.
    """
    where = "normalised_area"
    values = [float(value) for value in curve]
    if len(values) < 2:
        raise ArgumentError(where, "an area needs at least two points", got=len(values), fix="record more points")
    for index, value in enumerate(values):
        if not math.isfinite(value):
            raise ArgumentError(
                where,
                "every point must be finite",
                got=f"{value} at point {index}",
                fix="cut the curve before it breaks, or report that it broke",
            )
    axis = [float(index) for index in range(len(values))] if steps is None else [float(step) for step in steps]
    _check_axis(where, axis, len(values))

    spread = axis[-1] - axis[0]
    areas = ((b - a) / spread * (u + v) / 2 for (a, b), (u, v) in zip(pairwise(axis), pairwise(values), strict=True))
    return min(max(math.fsum(areas), min(values)), max(values))  # rounding must not leave the range


def _whole(where: str, steps: Sequence[int]) -> list[int]:
    try:
        return [operator.index(step) for step in steps]
    except TypeError:
        raise ArgumentError(
            where, "steps must be integers", got=list(steps), fix="count optimizer steps or epochs"
        ) from None


def _check_axis(where: str, axis: Sequence[float], count: int) -> None:
    if len(axis) != count:
        raise ArgumentError(
            where, f"steps must have one entry per point, {count}", got=len(axis), fix="record both together"
        )
    if not all(math.isfinite(step) for step in axis) or any(b <= a for a, b in pairwise(axis)):
        raise ArgumentError(
            where,
            "steps must be finite and strictly increasing",
            got=list(axis),
            fix="sort and deduplicate them",
        )
