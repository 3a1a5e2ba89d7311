"""Weighted linear regression of many targets on one design, solved at once."""

from __future__ import annotations

import torch
from torch import Tensor

from coursekit.errors import ArgumentError


def solve_normal(where: str, design: Tensor, values: Tensor, weights: Tensor, penalty: Tensor | None = None) -> Tensor:
    """Return argmin over b of Σ_n weights_n · (values_n − design_n · b)² + Σ_k penalty_k · b_k².

    For each row of values; one Cholesky decomposition serves all rows. Float64 throughout.

    Args:
        where: the function that complains.
        design: (N, k).
        values: (B, N).
        weights: (N,), not negative.
        penalty: (k,), or None for 0.

    Returns:
        (B, k), float64.

    Raises:
        ArgumentError: the samples do not determine the coefficients.
    """
    design, values, weights = design.double(), values.double(), weights.double()
    weighted = design.mT * weights
    normal = weighted @ design
    if penalty is not None:
        normal = normal + penalty.double().diag()
    factor = decomposed(normal)
    if factor is None:
        raise ArgumentError(
            where,
            f"samples must determine {design.shape[1]} coefficients",
            got=f"{len(design)} samples that do not",
            fix="raise the number of samples",
        )
    return torch.cholesky_solve(weighted @ values.mT, factor).mT


def decomposed(normal: Tensor) -> Tensor | None:
    """Return the Cholesky factor of X'WX (k, k), float64, or None where X does not determine k coefficients."""
    factor, failed = torch.linalg.cholesky_ex(normal)
    # Rounding may let the decomposition of a singular matrix pass, with a pivot of nearly nothing.
    singular = bool(failed) or bool(factor.diagonal().square().min() < 1e-12 * normal.diagonal().max())
    return None if singular else factor


def weighted_ridge(
    where: str, design: Tensor, values: Tensor, weights: Tensor, ridge: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Fit values ≈ intercept + design · coefficients for each row of values; the intercept bears no penalty.

    Args:
        where: the function that complains.
        design: (N, k).
        values: (B, N).
        weights: (N,), not negative.
        ridge: the factor of Σ coefficients²; at least 0.

    Returns:
        Coefficients (B, k), intercepts (B,) and the weighted R² (B,), float64. R² is 1 where the values do not vary.

    Raises:
        ArgumentError: the samples do not determine the coefficients.

    Source: `sklearn.linear_model.Ridge` with `sample_weight`.
    """
    design, values = design.double(), values.double()
    shares = weights.double() / weights.double().sum()
    centre, mean = shares @ design, values @ shares
    centred, deviations = design - centre, values - mean[:, None]
    penalty = torch.full((design.shape[1],), float(ridge), dtype=torch.float64, device=design.device)
    coefficients = solve_normal(where, centred, deviations, weights, penalty)
    left = (deviations - coefficients @ centred.mT).square() @ shares
    variance = deviations.square() @ shares
    constant = variance <= 1e-24 * (values.square() @ shares)  # but for rounding
    fit = 1 - left / variance.masked_fill(constant, 1)
    return coefficients, mean - coefficients @ centre, fit.masked_fill(constant, 1)
