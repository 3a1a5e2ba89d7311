"""Pictures in rows: what each method says that a network looked at, and what single units answer to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coursekit.errors import ArgumentError
from coursekit.plots.bands import Values, as_array
from coursekit.plots.sheet import MUTED, new_figure, style

_CELL = 0.95  # inches
_TEXT_SIZE = 8
# Purple against orange: apart for every kind of colour vision, and white where a method says nothing.
_SIGNED = "PuOr_r"
_STRETCH = 0.99  # of the pixels keep their shade: one bright pixel would leave the others pale


def attribution_maps(
    images: Values,
    maps: Mapping[str, Values],
    *,
    names: Sequence[str],
    title: str,
    note: str = "each map has a scale of its own",
) -> Figure:
    """Draw each image with the maps of several methods beside it.

    A map with negative values is drawn in two colours about zero: orange for what speaks for the answer, purple for
    what speaks against it. One without is drawn from dark (nothing) to light. Every map has a scale of its own, for
    methods measure in units of their own.

    Args:
        images: (n, h, w) or (n, 1, h, w) grey, or (n, 3, h, w) colour; brightness from 0 to 1.
        maps: method to its maps (n, h, w), at the image's size or any other.
        names: what stands beside each image, n of them.
        title: the figure's title.
        note: one line below the maps.

    Raises:
        ArgumentError: no maps, shapes that do not belong together, or values that are not finite.
    """
    where = "attribution_maps"
    pictures = _pictures(images, where)
    drawn = {label: as_array(values, where) for label, values in maps.items()}
    fitting = all(part.ndim == 3 and len(part) == len(pictures) and np.isfinite(part).all() for part in drawn.values())
    if not drawn or not fitting or len(names) != len(pictures):
        got = f"{len(names)} names, {[(label, part.shape) for label, part in drawn.items()]}"
        raise ArgumentError(
            where,
            f"finite maps (n, h, w) and names for {len(pictures)} images",
            got=got,
            fix="give one map and one name for each image",
        )
    with style():
        columns = 1 + len(drawn)
        figure = new_figure(title, width=0.9 + _CELL * columns, height=1.15 + (_CELL + 0.05) * len(pictures))
        panels = figure.subplots(len(pictures), columns, squeeze=False, sharey="row")
        for row, picture, name in zip(panels, pictures, names, strict=True):
            _show(row[0], picture)
            row[0].set_ylabel(fill(name, 16), size=_TEXT_SIZE)
        for column, (label, part) in enumerate(drawn.items(), start=1):
            signed = bool((part < 0).any())
            for axes, values in zip(panels[:, column], part, strict=True):
                reach = float(np.quantile(np.abs(values), _STRETCH)) or float(np.abs(values).max()) or 1.0
                _bare(axes)
                axes.imshow(
                    values,
                    cmap=_SIGNED if signed else None,
                    vmin=-reach if signed else 0,
                    vmax=reach,
                    extent=_extent(pictures),
                )
            panels[0, column].set_title(fill(label, 13), loc="center", size=_TEXT_SIZE)
        panels[0, 0].set_title("image", loc="center", size=_TEXT_SIZE)
        figure.supxlabel(fill(note, 18 * columns), alpha=MUTED, size=_TEXT_SIZE)
    return figure


def image_rows(
    rows: Mapping[str, Values], *, title: str, note: str = "each image is stretched to black and white"
) -> Figure:
    """Draw rows of images, each image stretched to its own darkest and lightest value.

    Args:
        rows: label to images (n, h, w), (n, 1, h, w) or (n, 3, h, w); rows may differ in n.
        title: the figure's title.
        note: one line below the images.

    Raises:
        ArgumentError: no rows, a row without images, or values that are not finite.
    """
    where = "image_rows"
    if not rows:
        raise ArgumentError(where, "at least one row of images", got="none", fix="pass label to images")
    drawn = {label: _pictures(images, where) for label, images in rows.items()}
    columns = max(map(len, drawn.values()))
    with style():
        figure = new_figure(title, width=1.2 + _CELL * columns, height=0.9 + (_CELL + 0.05) * len(drawn))
        panels = figure.subplots(len(drawn), columns, squeeze=False, sharey="row")
        for row, (label, pictures) in zip(panels, drawn.items(), strict=True):
            row[0].set_ylabel(fill(label, 16), size=_TEXT_SIZE)
            for axes, picture in zip(row, pictures, strict=False):
                low, high = picture.min(), picture.max()
                _show(axes, (picture - low) / ((high - low) or 1.0))
            for axes in row[len(pictures) :]:
                axes.set_axis_off()
        figure.supxlabel(fill(note, 18 * columns), alpha=MUTED, size=_TEXT_SIZE)
    return figure


def _pictures(images: Values, where: str) -> np.ndarray:
    """Return images as (n, h, w) or, in colour, (n, h, w, 3)."""
    pictures = as_array(images, where)
    if pictures.ndim == 4 and pictures.shape[1] in (1, 3):
        pictures = pictures[:, 0] if pictures.shape[1] == 1 else pictures.transpose(0, 2, 3, 1)
    elif pictures.ndim != 3:
        pictures = np.empty((0,))
    if not pictures.size or not np.isfinite(pictures).all():
        raise ArgumentError(
            where,
            "finite images (n, h, w), (n, 1, h, w) or (n, 3, h, w), at least one",
            got=f"shape {as_array(images, where).shape}",
            fix="stack the images along a first axis",
        )
    return pictures


def _extent(pictures: np.ndarray) -> tuple[float, float, float, float]:
    """Return where a map lies on its image's axes: over all of it, whatever the map's own size."""
    height, width = pictures.shape[1:3]
    return -0.5, width - 0.5, height - 0.5, -0.5


def _show(axes: Axes, picture: np.ndarray) -> None:
    _bare(axes)
    axes.imshow(np.clip(picture, 0, 1), cmap="gray", vmin=0, vmax=1)


def _bare(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
