"""Mixtures of Gaussians in the plane: data whose modes are known, so that they can be counted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coursekit.data.cards import DataCard
from coursekit.data.splits import Data, Split
from coursekit.errors import ArgumentError

# The same test part for every seed, as `load` has it.
_TEST_SEED = 1797


@dataclass(frozen=True, eq=False)
class Mixture:
    """Points of equally likely round Gaussians.

    Attributes:
        data: points (n, 2) as they are, not normalised, and the number of the Gaussian that each was drawn from.
        centres: of the Gaussians, float32 (modes, 2).
        std: standard deviation of each along each axis.
    """

    data: Data
    centres: Tensor
    std: float


def ring(
    train: int = 10_000,
    validation: int = 1000,
    test: int = 2000,
    *,
    modes: int = 8,
    radius: float = 2.0,
    std: float = 0.1,
    seed: int = 0,
) -> Mixture:
    """Draw points from Gaussians that lie evenly on a circle. The test part does not depend on the seed.

    Args:
        train: rows to learn from.
        validation: rows to choose by.
        test: rows to report on.
        modes: Gaussians, the first at (radius, 0), the others anticlockwise from there.
        radius: of the circle.
        std: standard deviation of each Gaussian along each axis.
        seed: from 0 to 2**32 - 1.

    Raises:
        ArgumentError: a part without rows, no mode, a radius or deviation that is not above 0, or a seed out of range.

    Source: the toy problem of Metz et al. 2017 (unrolled GANs), whose Gaussians are narrower (0.02).
    """
    _check(train, validation, test, modes, radius, std, seed)
    angles = np.arange(modes) * 2 * math.pi / modes
    centres = radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def draw(rows: int, stream: np.random.RandomState) -> Split:
        numbers = stream.randint(modes, size=rows, dtype=np.int64)
        points = centres[numbers] + std * stream.standard_normal((rows, 2))
        return Split(torch.from_numpy(points).float(), torch.from_numpy(numbers))

    stream, fixed = np.random.RandomState(seed), np.random.RandomState(_TEST_SEED)
    parts = (draw(train, stream), draw(validation, stream), draw(test, fixed))
    known = DataCard(
        name="ring",
        title="A ring of Gaussians",
        what=f"Points of {modes} equally likely Gaussians of deviation {std:g} on a circle of radius {radius:g}.",
        source="https://arxiv.org/abs/1611.02163",
        licence="made by coursekit, under its licence",
        rows=train + validation + test,
        shape=(2,),
        classes=tuple(f"mode {number}" for number in range(modes)),
        faults=("Two numbers to a row: what fails here may work on images, and what works here may fail there.",),
        citation="After Metz, Poole, Pfau and Sohl-Dickstein (2017). Unrolled generative adversarial networks.",
        home="made from a seed",
    )
    data = Data("ring", *parts, known.classes, known, torch.zeros(1, 2), torch.ones(1, 2))
    return Mixture(data, torch.from_numpy(centres).float(), std)


def _check(train: int, validation: int, test: int, modes: int, radius: float, std: float, seed: int) -> None:
    if min(train, validation, test, modes) < 1:
        got = f"{train}, {validation} and {test} rows, {modes} modes"
        raise ArgumentError("ring", "at least one row in each part, and one mode", got=got, fix="raise the smallest")
    if not (0 < radius < math.inf and 0 < std < math.inf):
        raise ArgumentError("ring", "a radius and a std above 0", got=f"{radius} and {std}", fix="enlarge them")
    if not 0 <= seed < 2**32:
        raise ArgumentError("ring", "a seed from 0 to 4294967295", got=seed, fix="choose a seed there")
