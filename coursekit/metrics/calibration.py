"""Calibration: whether a classifier is right as often as it says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coursekit.errors import ArgumentError


@dataclass(frozen=True)
class Calibration:
    """How confidence and accuracy go together, in bins of equal width; empty bins are left out.

    Attributes:
        confidence: mean confidence of each bin's rows, rising.
        accuracy: share of each bin's rows that were right.
        share: share of all rows that fell into each bin.
        error: the expected calibration error: mean distance of accuracy and confidence, weighted by `share`.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    share: tuple[float, ...]
    error: float


def calibration(logits: Tensor, targets: Tensor, *, bins: int = 10) -> Calibration:
    """Compare how sure a classifier is with how often it is right.

    The confidence of a row is the largest softmax probability; bin k of n holds confidences in (k / n, (k + 1) / n].

    Args:
        logits: (n, classes), n at least 1.
        targets: int64 (n,).
        bins: how many, at least 1.

    Raises:
        ArgumentError: no rows, no bins, or lengths that differ.

    Source: Guo, Pleiss, Sun & Weinberger 2017, section 2; the error equals torchmetrics' `calibration_error`.
    """
    if not len(logits) or len(logits) != len(targets) or bins < 1:
        raise ArgumentError(
            "calibration",
            "logits (n, classes) and targets (n,) with n >= 1, and a bin or more",
            got=f"{tuple(logits.shape)}, {tuple(targets.shape)}, {bins} bins",
            fix="pass one target for each row",
        )
    confidence, predicted = logits.double().softmax(1).max(1)
    right = (predicted == targets).double()
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1
    count = torch.bincount(place, minlength=bins)
    sums = [torch.bincount(place, weights=values, minlength=bins) for values in (confidence, right)]
    filled = count > 0
    means = [(total[filled] / count[filled]) for total in sums]
    share = count[filled] / len(targets)
    error = float((share * (means[0] - means[1]).abs()).sum())
    return Calibration(tuple(means[0].tolist()), tuple(means[1].tolist()), tuple(share.tolist()), error)
