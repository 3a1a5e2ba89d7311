"""Three parts of a data set, and the order that divides one fairly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from coursekit.data.cards import DataCard


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Attributes:
        inputs: float32 (n, c, h, w) images or (n, features) rows, normalised.
        targets: int64 (n,), indices into the classes.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        return f"Split(inputs={tuple(self.inputs.shape)}, targets={tuple(self.targets.shape)})"

    def to(self, device: torch.device | str) -> Split:
        """Return the same part on a device."""
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True, eq=False)
class Data:
    """A data set in three parts, normalised by its training part.

    Attributes:
        name: what `load` calls it.
        train: the part to learn from.
        validation: the part to choose by.
        test: the part to report on; the same rows whatever the seed.
        classes: names, in the order of the targets.
        card: source, licence and known faults.
        mean: of the training part before normalisation, (1, c, 1, 1) or (1, features).
        std: likewise, with n (not n - 1) in the denominator; 1 where all values are equal.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    card: DataCard
    mean: Tensor
    std: Tensor

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input: (c, h, w) or (features,)."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def low(self) -> Tensor | None:
        """What black (0) becomes when normalised, (1, c, 1, 1); None for a table, whose range is open."""
        return (0 - self.mean) / self.std if len(self.input_shape) == 3 else None

    @property
    def high(self) -> Tensor | None:
        """What full brightness (1) becomes when normalised, (1, c, 1, 1); None for a table."""
        return (1 - self.mean) / self.std if len(self.input_shape) == 3 else None

    def denormalise(self, x: Tensor) -> Tensor:
        """Return inputs in their original units: brightness from 0 to 1 for images.

        Args:
            x: (..., c, h, w) or (..., features), normalised, on this data's device.
        """
        return x * self.std + self.mean

    def to(self, device: torch.device | str) -> Data:
        """Return the same data on a device."""
        fields = ("train", "validation", "test", "mean", "std")
        return replace(self, **{field: getattr(self, field).to(device) for field in fields})


def stratified_order(targets: Tensor, seed: int) -> Tensor:
    """Return a random order of rows in which any stretch holds the classes in their shares.

    Cutting it anywhere divides the rows fairly, and a shorter stretch from the same start lies within a
    longer one. The kth of a class's m rows, shuffled, takes the place (k - 1/2) / m (Webster's rule).

    Args:
        targets: int64 (n,).
        seed: from 0 to 2**32 - 1.

    Returns:
        int64 (n,), each row number once.
    """
    # NumPy promises this generator's stream for good; PyTorch promises none across versions.
    shuffled = torch.from_numpy(np.random.RandomState(seed).permutation(len(targets)))
    labels = targets[shuffled]
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = labels == label
        count = int(members.sum())
        place[members] = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return shuffled[place.argsort(stable=True)]


def normalisation(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel or feature.

    Args:
        inputs: float32 (n, c, h, w) or (n, features).

    Returns:
        Two tensors (1, c, 1, 1) or (1, features), as `sklearn.preprocessing.StandardScaler` fits them.
    """
    axes = tuple(axis for axis in range(inputs.ndim) if axis != 1)
    std, mean = torch.std_mean(inputs, dim=axes, correction=0, keepdim=True)
    # Comparing the extremes is exact; the deviation of equal values may round to a tiny divisor.
    constant = inputs.amin(axes, keepdim=True) == inputs.amax(axes, keepdim=True)
    return mean, std.masked_fill(constant, 1.0)
