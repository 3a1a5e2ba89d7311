"""Figures on a plane: a table of numbers as a heat map, and optimizer paths over a function's contours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coursekit.errors import ArgumentError
from coursekit.plots.bands import Values, as_array
from coursekit.plots.labels import SideLabel, write_labels
from coursekit.plots.sheet import INK, LOOKS, MUTED, contrast, new_figure, style

_FACTORS = (2, 4, 10, 100, 1000)


def matrix(
    values: Values,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    x_label: str,
    y_label: str,
    value_label: str,
    title: str,
    digits: int = 2,
) -> Figure:
    """Draw a table as a heat map with its numbers written in.

    Args:
        values: shape (rows, columns); a cell that is not finite stays empty and shows a dash.
        rows: names from top to bottom.
        columns: names from left to right.
        x_label: what the columns are.
        y_label: what the rows are.
        value_label: quantity and unit of the numbers.
        title: the figure's title.
        digits: decimal places to write.

    Raises:
        ArgumentError: the names do not fit the shape, or no cell is finite.
    """
    table = as_array(values, "matrix")
    if table.shape != (len(rows), len(columns)) or not np.isfinite(table).any():
        raise ArgumentError(
            "matrix",
            f"({len(rows)}, {len(columns)}) values, as many as there are names, some of them finite",
            got=f"shape {table.shape}, {int(np.isfinite(table).sum())} finite",
            fix="pass one name per row and per column",
        )
    with style():
        figure = new_figure(
            title, width=float(np.clip(1.9 + 0.62 * len(columns), 4.8, 9)), height=1.5 + 0.36 * len(rows)
        )
        axes = figure.subplots()
        axes.grid(visible=False)
        cells = axes.pcolormesh(np.ma.masked_invalid(table), edgecolors="none")
        for (row, column), value in np.ndenumerate(table):
            text, colour = "–", INK
            if np.isfinite(value):
                text, colour = f"{value:.{digits}f}", _readable(cells.to_rgba(value))
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", size=8, color=colour)
        axes.set_xticks(np.arange(len(columns)) + 0.5, [fill(name, 11) for name in columns])
        axes.set_yticks(np.arange(len(rows)) + 0.5, [fill(name, 24) for name in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.invert_yaxis()
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_title(value_label, alpha=MUTED)
    return figure


def trajectories(
    function: Callable[[np.ndarray, np.ndarray], Any],
    paths: Mapping[str, Values],
    *,
    x_limits: tuple[float, float],
    y_limits: tuple[float, float],
    title: str,
    x_label: str = "x",
    y_label: str = "y",
    minimum: tuple[float, float] | None = None,
    points: int = 240,
) -> Figure:
    """Draw the paths of optimizers over the contours of a function of two variables.

    Contours are evenly spaced in the logarithm of the height above the lowest point of the grid.

    Args:
        function: takes x and y, each of shape (points, points), and returns the heights in that shape.
        paths: label to positions, shape (steps + 1, 2), the start first; a path ends at its last finite
            position; what lies outside the limits is not shown.
        x_limits: left and right end.
        y_limits: lower and upper end.
        title: the figure's title.
        x_label: name of x.
        y_label: name of y.
        minimum: where the function is lowest, to be marked by a star.
        points: grid points along each axis.

    Raises:
        ArgumentError: limits out of order, a path of another shape, no or too many paths, or heights that
            are not finite or all the same.
    """
    where = "trajectories"
    if not (x_limits[0] < x_limits[1] and y_limits[0] < y_limits[1]):
        raise ArgumentError(where, "limits in rising order", got=f"{x_limits}, {y_limits}", fix="swap them")
    if not 1 <= len(paths) <= len(LOOKS):
        raise ArgumentError(where, f"1 to {len(LOOKS)} paths", got=len(paths), fix="draw several figures")
    routes = {label: _route(label, path) for label, path in paths.items()}
    x, y = np.meshgrid(np.linspace(*x_limits, points), np.linspace(*y_limits, points))
    heights = as_array(function(x, y), where)
    if heights.shape != x.shape or not np.isfinite(heights).all() or heights.min() == heights.max():
        raise ArgumentError(
            where, f"finite heights of shape {x.shape} that differ", got=heights.shape, fix="choose other limits"
        )
    with style():
        figure = new_figure(title, height=4.8)
        axes = figure.subplots()
        axes.grid(visible=False)
        levels, factor = _levels(heights - heights.min())
        axes.contour(x, y, heights - heights.min(), levels=levels, colors=INK, alpha=0.3, linewidths=0.7)
        looks = [_path_look(index, len(routes)) for index in range(len(routes))]
        for look, route in zip(looks, routes.values(), strict=True):
            axes.plot(*route.T, **look, markevery=[len(route) - 1])
        labels = [SideLabel(label, look) for label, look in zip(routes, looks, strict=True)]
        labels += _mark(axes, list(routes.values()), minimum)
        axes.set_xlim(x_limits)
        axes.set_ylim(y_limits)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_title(
            f"mark: where a path ends; each contour is {factor} times as high as the next lower", alpha=MUTED
        )
        write_labels(axes, labels[::-1])
    return figure


def _readable(background: Any) -> str:
    """Return black or white, whichever stands out more: at least 4.5:1 on any colour."""
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(ink, background))


def _route(label: str, path: Values) -> np.ndarray:
    route = as_array(path, "trajectories")
    if route.ndim != 2 or route.shape[1] != 2 or not len(route) or not np.isfinite(route[0]).all():
        raise ArgumentError(
            "trajectories",
            f"path {label!r} of shape (steps + 1, 2) with a finite start",
            got=f"shape {route.shape}",
            fix="stack one row per step",
        )
    finite = np.isfinite(route).all(axis=1)
    return route[: len(route) if finite.all() else int(finite.argmin())]


def _levels(heights: np.ndarray) -> tuple[np.ndarray, int]:
    """Return rising contour levels and the factor between them: the smallest that needs at most 14."""
    low, high = np.quantile(heights[heights > 0], 0.005), heights.max()
    factor = next((factor for factor in _FACTORS if np.log(high / low) / np.log(factor) <= 14), _FACTORS[-1])
    count = max(1, int(np.log(high / low) / np.log(factor)))
    return high / float(factor) ** np.arange(count, 0, -1), factor


def _path_look(index: int, count: int) -> dict[str, Any]:
    """Return a look; later paths are thinner, so that those below show at both sides."""
    return {
        **LOOKS[index],
        "linewidth": 1.2 + 2.0 * (count - 1 - index) / count,
        "markersize": 8,
        "solid_capstyle": "butt",
    }


def _mark(axes: Axes, routes: Sequence[np.ndarray], minimum: tuple[float, float] | None) -> list[SideLabel]:
    """Mark every start by a ring and the minimum by a star; return their labels."""
    ring = {
        "color": INK,
        "linestyle": "none",
        "marker": "o",
        "markersize": 8,
        "markerfacecolor": "none",
        "markeredgewidth": 1.4,
    }
    star = {"color": INK, "linestyle": "none", "marker": "*", "markersize": 12}
    labels = [SideLabel("start", ring)]
    for start in dict.fromkeys(tuple(route[0]) for route in routes):
        axes.plot(*start, **ring)
    if minimum is not None:
        axes.plot(*minimum, **star)
        labels.append(SideLabel("minimum", star))
    return labels
