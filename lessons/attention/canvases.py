"""Digits that have to be found first: one whole digit on a larger canvas, among pieces of others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from coursekit.data import Data, Split
from coursekit.errors import ArgumentError


@dataclass(frozen=True, eq=False)
class Canvases:
    """Images of which it is known where the answer stands.

    Attributes:
        data: inputs (n, 1, size, size) in brightness from 0 to 1, and the digit's class.
        corners: for each test canvas the digit's upper left pixel, int64 (n, 2): row, column.
        digit: height and width of the digit in pixels.
    """

    data: Data
    corners: Tensor
    digit: int

    def covered(self, places: int) -> Tensor:
        """Return which of the test canvases' places lie on the digit, bool (n, places); places count row by row.

        A place counts where its centre lies on the digit.
        """
        side = round(places**0.5)
        cell = self.data.input_shape[-1] / side
        centres = (torch.arange(side) + 0.5) * cell
        inside = [
            (centres >= corner[:, None]) & (centres < corner[:, None] + self.digit) for corner in self.corners.unbind(1)
        ]
        return (inside[0][:, :, None] & inside[1][:, None, :]).flatten(1)


def make_canvases(data: Data, size: int, clutter: int, *, seed: int = 0) -> Canvases:
    """Put each image of a data set somewhere on a black canvas, over pieces cut from other images.

    A piece is half as high and wide as an image, and comes from an image of the same part, of any class: the pieces
    look like digits and mean nothing.

    Args:
        data: square images of one channel, no larger than the canvas.
        size: height and width of the canvas in pixels.
        clutter: pieces on a canvas.
        seed: of places and pieces.

    Raises:
        ArgumentError: the images do not fit the canvas.
    """
    digit = data.input_shape[-1]
    if digit > size:
        raise ArgumentError(
            "make_canvases",
            f"a canvas of at least {digit} pixels",
            got=size,
            fix=f"set vision.size={-(-digit // 4) * 4}",
        )
    generator = torch.Generator().manual_seed(seed)
    parts, corners = {}, torch.empty(0)
    for name in ("train", "validation", "test"):
        split: Split = getattr(data, name)
        images = data.denormalise(split.inputs)[:, 0]
        count, half = len(images), digit // 2
        canvas = torch.zeros(count, size, size)
        for _ in range(clutter):
            others = images[torch.randint(count, (count,), generator=generator)]
            cut = _corners(count, digit - half, generator)
            _paste(canvas, _cut(others, cut, half), _corners(count, size - half, generator))
        corners = _corners(count, size - digit, generator)
        _paste(canvas, images, corners)
        parts[name] = Split(canvas[:, None], split.targets)
    plain = {"mean": torch.zeros(1, 1, 1, 1), "std": torch.ones(1, 1, 1, 1)}
    return Canvases(replace(data, name=f"{data.name} on canvases", **parts, **plain), corners, digit)


def _corners(count: int, last: int, generator: torch.Generator) -> Tensor:
    return torch.randint(last + 1, (count, 2), generator=generator)


def _window(corners: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the indices of a square of pixels on each canvas: (n, 1, 1), (n, side, 1), (n, 1, side)."""
    steps = torch.arange(side)
    rows, columns = (corner[:, None] + steps for corner in corners.unbind(1))
    return torch.arange(len(corners))[:, None, None], rows[:, :, None], columns[:, None, :]


def _cut(images: Tensor, corners: Tensor, side: int) -> Tensor:
    return images[_window(corners, side)]


def _paste(canvas: Tensor, images: Tensor, corners: Tensor) -> None:
    canvas[_window(corners, images.shape[-1])] = images
