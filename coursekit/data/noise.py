"""Wrong labels, on purpose: how many there are and which they are is then known exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from coursekit.errors import ArgumentError


def corrupt_labels(targets: Tensor, rate: float, *, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Give some rows a wrong label: symmetric noise, each of the other classes with the same probability.

    Args:
        targets: int64 (n,), class numbers from 0 to classes - 1; they keep their values.
        rate: share of the rows that get a wrong label, in [0, 1]; exactly `round(rate * n)` rows do.
        classes: how many there are, at least 2.
        generator: on the CPU; decides which rows, and which labels.

    Returns:
        The labels, int64 (n,), and which of them are wrong, bool (n,), both on the targets' device.

    Raises:
        ArgumentError: the rate is outside [0, 1], or there is no other class.

    Source: the symmetric noise of Patrini et al. 2017, with a fixed number of wrong rows.
    """
    if not 0 <= rate <= 1:
        raise ArgumentError("corrupt_labels", "a rate from 0 to 1", got=rate, fix="0.4 makes 40 % wrong")
    if classes < 2:
        raise ArgumentError("corrupt_labels", "two classes or more", got=classes, fix="count the classes of the data")
    rows = torch.randperm(len(targets), generator=generator)[: round(rate * len(targets))].to(targets.device)
    # Moving on by 1 to classes - 1 places never comes back to the label itself.
    moved = torch.randint(1, classes, rows.shape, generator=generator).to(targets.device)
    labels, wrong = targets.clone(), torch.zeros_like(targets, dtype=torch.bool)
    labels[rows] = (targets[rows] + moved) % classes
    wrong[rows] = True
    return labels, wrong
