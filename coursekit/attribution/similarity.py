"""How alike two explanations are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from coursekit.attribution.scores import shape_of
from coursekit.errors import ArgumentError


def rank_correlation(first: Tensor, second: Tensor, *, absolute: bool = True) -> Tensor:
    """Return Spearman's rank correlation of the two explanations of each row; equal values share their mean rank.

    Args:
        first, second: (B, ...), of one shape.
        absolute: compare magnitudes.

    Returns:
        (B,), float64; NaN where one of the two is constant.

    Raises:
        ArgumentError: the shapes differ.

    Source: `scipy.stats.spearmanr`.
    """
    _check_alike("rank_correlation", first, second)
    ranks = [_ranks((side.abs() if absolute else side).flatten(1)) for side in (first, second)]
    a, b = (side - side.mean(1, keepdim=True) for side in ranks)
    # Where one is constant both sums are 0, and 0 / 0 is the NaN that is promised.
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


def structural_similarity(first: Tensor, second: Tensor, *, window: int = 7) -> Tensor:
    """Return the mean SSIM of two maps of each row, each scaled to [0, 1] first.

    Args:
        first, second: maps (B, H, W), of one shape.
        window: side of the square window, odd, at most the maps' sides.

    Returns:
        (B,), at most 1.

    Raises:
        ArgumentError: the shapes differ or are no maps, or the window does not fit.

    Source: Wang, Bovik, Sheikh & Simoncelli 2004, equation 13, with a flat window, K1 = 0.01, K2 = 0.03 and the range
    of 1; equals scikit-image's `structural_similarity` on the scaled maps.
    """
    where = "structural_similarity"
    _check_alike(where, first, second)
    if first.ndim != 3:
        raise ArgumentError(where, "maps must be (B, H, W)", got=shape_of(first), fix="use heatmap first")
    if window % 2 == 0 or not 1 < window <= min(first.shape[1:]):
        raise ArgumentError(
            where,
            f"window must be odd, from 3 to {min(first.shape[1:])}",
            got=window,
            fix="pass 7, or 3 for small maps",
        )
    x, y = (_scaled(side.double())[:, None] for side in (first, second))
    mean_x, mean_y, of_xx, of_yy, of_xy = (
        F.avg_pool2d(values, window, stride=1) for values in (x, y, x * x, y * y, x * y)
    )
    unbiased = window**2 / (window**2 - 1)
    var_x, var_y = unbiased * (of_xx - mean_x**2), unbiased * (of_yy - mean_y**2)
    covariance = unbiased * (of_xy - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return (top / bottom).mean((1, 2, 3))


def _ranks(values: Tensor) -> Tensor:
    """Return ranks (B, n), float64, equal values sharing the mean of theirs."""
    ordered = values.sort(dim=1).values.contiguous()
    below = torch.searchsorted(ordered, values.contiguous())
    up_to = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (below + up_to - 1).double() / 2


def _scaled(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)


def _check_alike(where: str, first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim < 2:
        raise ArgumentError(
            where,
            "both explanations must be (B, ...), of one shape",
            got=f"{shape_of(first)} and {shape_of(second)}",
            fix="compare maps of the same rows",
        )
