"""`Band`: one quantity over several seeds, the way every curve of the course is handed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from coursekit.errors import ArgumentError

if TYPE_CHECKING:
    import torch

Values: TypeAlias = "np.ndarray | torch.Tensor | Sequence[Any]"
Spread = Literal["range", "interval"]

_LARGEST = 1e100  # beyond it, squares and the margins of a logarithmic axis overflow


def as_array(values: Values | float, where: str = "as_array") -> np.ndarray:
    """Copy numbers into a float64 array.

    Args:
        values: a number, lists, NumPy arrays or tensors on any device; None becomes NaN, and rows of unequal
            length are filled up with it.
        where: what to name in an error.

    Raises:
        ArgumentError: the values are not numbers, or do not fit together.
    """
    try:
        return _as_array(values)
    except (TypeError, ValueError):
        raise ArgumentError(
            where,
            "numbers in a list, a NumPy array or a tensor",
            got=type(values).__name__,
            fix="pass rows of numbers",
        ) from None


def _as_array(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        return values.detach().cpu().double().numpy().copy()
    if isinstance(values, list | tuple) and any(_has_parts(part) for part in values):
        rows = [_as_array(part) for part in values]
        if all(row.ndim == 1 for row in rows):
            longest = max(len(row) for row in rows)
            rows = [np.pad(row, (0, longest - len(row)), constant_values=np.nan) for row in rows]
        return np.stack(rows)
    return np.array(values, dtype=np.float64)


def _has_parts(value: Any) -> bool:
    return isinstance(value, list | tuple) or hasattr(value, "ndim")


class Band:
    """One quantity measured at the same points for several seeds.

    A seed ends at its last finite value: a run that diverged or stopped early has NaN, infinity or
    nothing after it. Values beyond 1e100 count as infinite.

    Args:
        x: where it was measured, shape (points,), in rising order.
        values: the quantity, shape (seeds, points) or (points,) for one seed; rows may be shorter.

    Raises:
        ArgumentError: the shapes do not fit, or `x` is not finite and rising.
    """

    def __init__(self, x: Values, values: Values) -> None:
        self.x = as_array(x, "Band")
        self.values = np.atleast_2d(as_array(values, "Band"))
        if self.x.ndim != 1 or self.values.ndim != 2 or self.values.shape[1] != len(self.x) or not self.values.size:
            raise ArgumentError(
                "Band",
                "x (points,) and values (seeds, points) with at least one of each",
                got=f"x {self.x.shape}, values {self.values.shape}",
                fix="measure every seed at the same points",
            )
        if not np.isfinite(self.x).all() or (np.diff(self.x) <= 0).any():
            raise ArgumentError("Band", "x to be finite and rising", got="x that is not", fix="sort the points by x")
        self.values[~(np.abs(self.values) <= _LARGEST)] = np.nan

    @property
    def ends(self) -> np.ndarray:
        """For each seed, how many points it has up to its last finite value, shape (seeds,)."""
        finite = np.isfinite(self.values)
        last = finite.shape[1] - finite[:, ::-1].argmax(axis=1)
        return np.where(finite.any(axis=1), last, 0)

    @property
    def shared(self) -> int:
        """How many points every seed reaches: as far as a mean over seeds means anything."""
        return int(self.ends.min())

    def mean(self) -> np.ndarray:
        """Return the mean over seeds, shape (shared,)."""
        return self.values[:, : self.shared].mean(axis=0)

    def limits(self, spread: Spread = "range") -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and the upper edge of the band, each of shape (shared,).

        Args:
            spread: `range` for the lowest and highest seed, `interval` for the 95 % confidence interval
                of the mean (Student's t with seeds - 1 degrees of freedom). One seed has no width.
        """
        part = self.values[:, : self.shared]
        seeds = len(part)
        if spread == "range" or seeds == 1:
            return part.min(axis=0), part.max(axis=0)
        from scipy.special import stdtrit

        half = stdtrit(seeds - 1, 0.975) * part.std(axis=0, ddof=1) / np.sqrt(seeds)
        return part.mean(axis=0) - half, part.mean(axis=0) + half
