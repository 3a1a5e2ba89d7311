"""Figures of samples: images in mosaics, points in panels, logits in histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from textwrap import fill

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from coursekit.errors import ArgumentError
from coursekit.plots import INK, new_figure, style
from coursekit.plots.sheet import LOOKS, MUTED

_REAL, _GENERATED = LOOKS[0]["color"], LOOKS[1]["color"]
_TEXT_SIZE = 8.5
_LYING = 1.0  # inches of a row's height, below which its name does not fit upright


def mosaic(images: Tensor, *, columns: int | None = None) -> Tensor:
    """Lay images side by side in one, with a gap of one pixel.

    Args:
        images: (n, c, h, w) in [-1, 1].
        columns: how many stand in a row; None takes the root of their number, rounded up.

    Returns:
        One image (h', w') or, in colour, (h', w', 3), brightness from 0 to 1; 1 where there is nothing.
    """
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = -(-count // columns)
    sheet = torch.ones(channels, rows * (height + 1) - 1, columns * (width + 1) - 1)
    for number, image in enumerate(images.cpu().float().clamp(-1, 1)):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        sheet[:, top : top + height, left : left + width] = image / 2 + 0.5
    return sheet[0] if channels == 1 else sheet.permute(1, 2, 0)


def mosaics(
    rows: Mapping[str, Mapping[str, Tensor]], *, title: str, note: str = "", columns: int | None = None
) -> Figure:
    """Draw one mosaic of images in each cell of a table.

    Args:
        rows: row label to column label to images (n, c, h, w) in [-1, 1]; the columns of all rows are alike.
        title: the figure's title.
        note: one line below.
        columns: images in a row of each mosaic; None for squares.

    Raises:
        ArgumentError: no rows, or columns that differ.
    """
    panels, width = _panels("mosaics", rows)
    sheets = [[mosaic(images, columns=columns).numpy() for images in row.values()] for row in rows.values()]
    shape = max(sheet.shape[0] / sheet.shape[1] for row in sheets for sheet in row)
    side = min(6.6 / width, 2.2 / shape)  # inches: a strip is as wide as the page
    lying = side * shape < _LYING
    with style():
        figure = new_figure(
            title, width=(2.0 if lying else 1.0) + width * (side + 0.1), height=0.95 + panels * (side * shape + 0.12)
        )
        axes = figure.subplots(panels, width, squeeze=False, sharey="row")
        for line, label, drawn in zip(axes, rows, sheets, strict=True):
            line[0].set_ylabel(fill(label, 18), size=_TEXT_SIZE, rotation=0 if lying else 90)
            if lying:
                line[0].yaxis.label.set(ha="right", va="center")
            for place, sheet in zip(line, drawn, strict=True):
                _bare(place)
                place.imshow(sheet, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for place, name in zip(axes[0], next(iter(rows.values())), strict=True):
            place.set_title(fill(name, 20), loc="center", size=_TEXT_SIZE)
        figure.supxlabel(fill(note, 26 * width), alpha=MUTED, size=_TEXT_SIZE)
    return figure


def clouds(
    rows: Mapping[str, Mapping[str, Tensor]], centres: Tensor, *, reach: float, title: str, note: str = ""
) -> Figure:
    """Draw points of the plane in each cell of a table, with the centres of the true modes behind them.

    Args:
        rows: row label to column label to points (n, 2).
        centres: (modes, 2).
        reach: of both axes, from -reach to reach; points beyond are not shown.
        title: the figure's title.
        note: one line below.

    Raises:
        ArgumentError: no rows, or columns that differ.
    """
    panels, width = _panels("clouds", rows)
    side = min(1.25, 6.4 / width)
    with style():
        figure = new_figure(title, width=1.2 + width * (side + 0.08), height=0.95 + panels * (side + 0.08))
        axes = figure.subplots(panels, width, squeeze=False, sharey="row")
        ring = {"color": INK, "marker": "o", "markersize": 6, "markerfacecolor": "none", "linestyle": "none"}
        for line, (label, row) in zip(axes, rows.items(), strict=True):
            line[0].set_ylabel(fill(label, 16), size=_TEXT_SIZE)
            for place, points in zip(line, row.values(), strict=True):
                _bare(place)
                place.plot(*centres.T.numpy(), **ring, markeredgewidth=0.6, alpha=0.6)
                place.plot(*points.cpu().T.numpy(), color=_GENERATED, marker=".", markersize=1.6, linestyle="none")
                place.set_xlim(-reach, reach)
                place.set_ylim(-reach, reach)
        for place, name in zip(axes[0], next(iter(rows.values())), strict=True):
            place.set_title(name, loc="center", size=_TEXT_SIZE)
        figure.supxlabel(fill(note, 26 * width), alpha=MUTED, size=_TEXT_SIZE)
    return figure


def logit_histograms(
    panels: Mapping[str, tuple[Tensor, Tensor]], *, x_label: str, title: str, note: str = ""
) -> Figure:
    """Draw how a discriminator rates real and generated rows, one panel for each discriminator.

    Each panel has an axis of its own, from the lowest to the highest of all but a hundredth of its logits.

    Args:
        panels: label to logits of real rows (n,) and of generated ones (m,).
        x_label: what a logit is.
        title: the figure's title.
        note: one line under the title.

    Raises:
        ArgumentError: no panels, or logits that are not finite.
    """
    if not panels or not all(part.isfinite().all() for pair in panels.values() for part in pair):
        raise ArgumentError("logit_histograms", "finite logits", got="others, or none", fix="check that it trained")
    with style():
        figure = new_figure(title, height=1.1 + 1.15 * len(panels))
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for place, (label, (real, fake)) in zip(axes, panels.items(), strict=True):
            both = torch.cat([real, fake]).double().cpu()
            low, high = (float(both.quantile(share)) for share in (0.005, 0.995))
            edges = np.linspace(low, high if high > low else low + 1, 50)
            for part, colour, look in ((real, _REAL, {"alpha": 0.45}), (fake, _GENERATED, {"histtype": "step"})):
                values = np.clip(part.double().cpu().numpy(), edges[0], edges[-1])
                weights = np.full(len(values), 1 / len(values))
                place.hist(values, edges, weights=weights, color=colour, linewidth=1.6, **look)
            place.annotate(
                fill(label, 18), (1.0, 0.5), xytext=(8, 0), xycoords="axes fraction", textcoords="offset points",
                va="center", size=_TEXT_SIZE, annotation_clip=False,
            )  # fmt: skip
        axes[0].set_title(f"filled: real, line: generated{'; ' if note else ''}{note}", alpha=MUTED)
        figure.supxlabel(x_label, size=9.5)
        figure.supylabel("share of the rows", size=9.5)
    return figure


def _panels(where: str, rows: Mapping[str, Mapping[str, Tensor]]) -> tuple[int, int]:
    """Return how many rows and columns there are."""
    columns = {tuple(row) for row in rows.values()}
    if len(columns) != 1 or not next(iter(columns)):
        got = "none" if not rows else f"{len(columns)} different ones"
        raise ArgumentError(where, "rows with the same columns, at least one", got=got, fix="name them alike")
    return len(rows), len(next(iter(columns)))


def _bare(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
