"""Labels to the right of a plot, one beside the end of each line, never on top of each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, DrawingArea, HPacker, TextArea

_FONT_SIZE = 8.5
_LINE_HEIGHT = 10.0  # points
_BETWEEN = 2.5  # points from one label to the next
_COLUMNS = 24
_KEY = (26.0, 8.0)  # width and height of the sample of a line, in points
_GAP = 14.0  # points between the axes and the samples


@dataclass(frozen=True)
class SideLabel:
    """One label of the column.

    Args:
        text: what to write; long text is wrapped.
        look: how the line looks (`color`, `linestyle`, `marker`, ...).
        height: where its line ends, as a fraction of the axes' height from below.
        leader: whether a thin line leads from the axes' edge to the label.
    """

    text: str
    look: dict[str, Any]
    height: float = 1.0
    leader: bool = False


def write_labels(axes: Axes, labels: Sequence[SideLabel]) -> None:
    """Write a column of labels to the right of a figure's only axes, ordered and placed by their heights.

    The figure grows when the column is taller than it.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    ordered = sorted(labels, key=lambda label: label.height)
    texts = [fill(label.text, _COLUMNS) for label in ordered]
    sizes = np.array([_BETWEEN + _LINE_HEIGHT * (1 + text.count("\n")) for text in texts])
    missing = sizes.sum() - _height_in_points(axes)
    if missing > 0:
        figure.set_figheight(figure.get_figheight() + missing / 72)
    total = _height_in_points(axes)
    places = spread_out(np.array([label.height * total for label in ordered]), sizes, total)
    for label, text, place in zip(ordered, texts, places, strict=True):
        axes.add_artist(_box(label, text, place - label.height * total))


def spread_out(wanted: np.ndarray, sizes: np.ndarray, total: float) -> np.ndarray:
    """Move intervals as little as possible (least squares) until none overlap.

    Args:
        wanted: the centres they would like, rising, shape (n,).
        sizes: their lengths, shape (n,).
        total: the length of the stretch that shall hold them; they go beyond its upper end, and nowhere
            else, when they do not fit.

    Returns:
        The centres they get, shape (n,). Taking the lengths of those below away turns it into isotonic
        regression, which pooling adjacent violators solves.
    """
    below = np.cumsum(sizes) - sizes / 2
    pools: list[list[float]] = []
    for value in wanted - below:
        pools.append([value])
        while len(pools) > 1 and np.mean(pools[-2]) >= np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    level = np.concatenate([np.full(len(pool), np.mean(pool)) for pool in pools])
    return np.clip(level, 0, max(0.0, total - sizes.sum())) + below


def _height_in_points(axes: Axes) -> float:
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # lays the figure out
    return axes.get_window_extent().height * 72 / figure.dpi


def _box(label: SideLabel, text: str, shift: float) -> AnnotationBbox:
    """Build sample and text; `shift` is how far (points) the label stands above its line's end."""
    width, height = _KEY
    sample = DrawingArea(width, height)
    middle = [height / 2] * 3
    sample.add_artist(Line2D([0, width / 2, width], middle, markevery=[1], **label.look))
    words = TextArea(text, textprops={"size": _FONT_SIZE, "va": "baseline"})
    arrow = {"arrowstyle": "-", "linewidth": 0.7, "color": label.look["color"], "relpos": (0, 0.5)}
    return AnnotationBbox(
        HPacker(children=[sample, words], align="center", pad=0, sep=5),
        (1.0, label.height),
        xybox=(_GAP, shift),
        xycoords="axes fraction",
        boxcoords="offset points",
        box_alignment=(0, 0.5),
        pad=0,
        frameon=False,
        annotation_clip=False,
        arrowprops={**arrow, "shrinkA": 2, "shrinkB": 2} if label.leader else None,
    )
