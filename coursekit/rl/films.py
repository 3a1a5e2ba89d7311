"""The trained agent to look at: a strip of pictures for print, and a moving one for the screen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from coursekit.errors import ArgumentError
from coursekit.files import write_atomically
from coursekit.plots import new_figure, style
from coursekit.rl.environments import Array


def filmstrip(frames: Array, labels: Sequence[str], *, title: str, columns: int = 4) -> Figure:
    """Draw pictures side by side, each with a line of text above it.

    Args:
        frames: (n, height, width, 3), uint8.
        labels: one for each picture, such as its time.
        title: the figure's title.
        columns: pictures in a row.

    Raises:
        ArgumentError: there are no pictures, or not one label for each.
    """
    if frames.ndim != 4 or not len(frames) == len(labels) > 0:
        raise ArgumentError(
            "filmstrip",
            "pictures (n, height, width, 3) and a label for each",
            got=f"shape {frames.shape} and {len(labels)} labels",
            fix="pair them up",
        )
    rows = -(-len(frames) // columns)
    with style():
        figure = new_figure(
            title, width=7.2, height=0.5 + rows * (0.3 + 7.0 / columns * frames.shape[1] / frames.shape[2])
        )
        for number, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
            axes.set_axis_off()
            if number < len(frames):
                axes.imshow(frames[number])
                axes.set_title(labels[number], fontsize="small")
    return figure


def save_animation(frames: Array, path: Path, *, frames_per_second: float = 25) -> Path:
    """Write pictures as an endless GIF, whole or not at all.

    Args:
        frames: (T, height, width, 3), uint8.
        path: where to write it.
        frames_per_second: a GIF counts in hundredths of a second.

    Raises:
        ArgumentError: there are no pictures.
        OutputError: the file cannot be written.
    """
    if frames.ndim != 4 or not len(frames):
        raise ArgumentError(
            "save_animation", "pictures (T, height, width, 3)", got=f"shape {frames.shape}", fix="pass at least one"
        )
    pictures = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
    content = io.BytesIO()
    pictures[0].save(
        content, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / frames_per_second), loop=0
    )
    return write_atomically(path, content.getvalue())
