"""Curves over steps, epochs, depth or strength, with a band over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from coursekit.errors import ArgumentError
from coursekit.plots.bands import Band, Spread
from coursekit.plots.labels import SideLabel, write_labels
from coursekit.plots.sheet import INK, LOOKS, MUTED, new_figure, style

_FEW_POINTS = 12  # up to here every point has its mark
_MARK_DISTANCE = 0.12  # along the line, as a fraction of the axes' diagonal
_SPREADS = {"range": "lowest to highest seed", "interval": "95 % interval of the mean"}


def curves(
    series: Mapping[str, Band],
    *,
    x_label: str,
    y_label: str,
    title: str,
    log_x: bool = False,
    log_y: bool = False,
    target: float | None = None,
    target_label: str = "target",
    spread: Spread = "range",
) -> Figure:
    """Draw one line per series: the mean over seeds, inside its band, named at its end.

    A mean is drawn as far as every seed goes. Where a seed ends early stands a cross, and the others go
    on as thin lines of their own, so that a mean over the survivors never hides a run that diverged.

    Args:
        series: label to `Band`, at most 12.
        x_label: quantity and unit of x.
        y_label: quantity and unit of y.
        title: the figure's title.
        log_x: logarithmic x axis; values at or below 0 lie beyond its left edge.
        log_y: logarithmic y axis; values at or below 0 lie beyond its lower edge.
        target: a value of y to mark by a horizontal line.
        target_label: what that value is.
        spread: what the band shows, see `Band.limits`.

    Raises:
        ArgumentError: no or too many series, nothing finite (on a logarithmic axis: positive) to draw, or
            an unknown spread.
    """
    _check(series, log_x, log_y, target, spread)
    with style():
        figure = new_figure(title)
        axes = figure.subplots()
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if log_x:
            axes.set_xscale("log", nonpositive="clip")
        if log_y:
            axes.set_yscale("log", nonpositive="clip")
        if not log_x and all((band.x == band.x.round()).all() for band in series.values()):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        # A logarithmic axis cannot show an interval down to zero: bands end at the lowest value of any seed.
        floor = min(_lowest_positive(band) for band in series.values()) if log_y else -np.inf
        for index, band in enumerate(series.values()):
            first_mark = 0.02 + _MARK_DISTANCE * index / len(series)
            _draw(axes, band, LOOKS[index], first_mark, spread, floor)
        axes.set_title(_note(list(series.values()), spread), alpha=MUTED)
        target_look = {"color": INK, "linestyle": (0, (1, 1)), "linewidth": 1.0}
        if target is not None:
            axes.axhline(target, **target_look)
        figure.draw_without_rendering()  # settles the limits that the labels' heights are read from
        rightmost = max(float(band.x[band.ends.max() - 1]) for band in series.values() if band.ends.any())
        labels = [
            _label(axes, label, band, look, rightmost)
            for (label, band), look in zip(series.items(), LOOKS, strict=False)
        ]
        if target is not None:
            labels.append(SideLabel(f"{target_label} {target:g}", target_look, _height(axes, target), leader=True))
        write_labels(axes, labels)
    return figure


def _check(series: Mapping[str, Band], log_x: bool, log_y: bool, target: float | None, spread: str) -> None:
    if not 1 <= len(series) <= len(LOOKS):
        raise ArgumentError(
            "curves", f"1 to {len(LOOKS)} series", got=len(series), fix="draw several figures, each with fewer lines"
        )
    if spread not in _SPREADS:
        raise ArgumentError("curves", f"a spread among {', '.join(_SPREADS)}", got=repr(spread), fix="write one")
    least = 0.0 if log_y else -np.inf
    if not any((band.values > least).any() for band in series.values()):
        kind = "positive" if log_y else "finite"
        raise ArgumentError("curves", f"a {kind} value in some series", got="none", fix="check that the runs trained")
    if log_x and not any((band.x > 0).any() for band in series.values()):
        raise ArgumentError("curves", "a positive x for a logarithmic axis", got="none", fix="leave log_x out")
    if target is not None and not least < target < np.inf:
        raise ArgumentError(
            "curves", "a finite target that the y axis can show", got=target, fix="choose another target or axis"
        )


def _lowest_positive(band: Band) -> float:
    return float(band.values[band.values > 0].min(initial=np.inf))


def _draw(axes: Axes, band: Band, look: dict[str, Any], first_mark: float, spread: Spread, floor: float) -> None:
    shared, colour = band.shared, look["color"]
    if shared:
        if len(band.values) > 1:
            low, high = (np.maximum(edge, floor) for edge in band.limits(spread))
            axes.fill_between(band.x[:shared], low, high, color=colour, alpha=0.16, linewidth=0)
        marks = 1 if shared <= _FEW_POINTS else (first_mark, _MARK_DISTANCE)
        axes.plot(band.x[:shared], band.mean(), **look, markevery=marks)
    for row, end in zip(band.values, band.ends, strict=True):
        start = max(0, shared - 1)
        if end > shared:
            axes.plot(band.x[start:end], row[start:end], color=colour, linestyle="-", marker="", linewidth=0.8)
        if 0 < end < len(band.x):
            axes.plot(band.x[end - 1], row[end - 1], color=colour, marker="x", markersize=6, markeredgewidth=1.4)


def _label(axes: Axes, text: str, band: Band, look: dict[str, Any], rightmost: float) -> SideLabel:
    end = int(band.ends.max())
    if not end:
        return SideLabel(f"{text} (no finite value)", look, height=0.0)
    value = float(band.values[band.ends == end, end - 1].mean())
    return SideLabel(text, look, _height(axes, value), leader=bool(band.x[end - 1] == rightmost))


def _height(axes: Axes, value: float) -> float:
    """Return where a value lies, as a fraction of the axes' height, kept inside the axes."""
    point = axes.transData.transform((axes.get_xlim()[1], value))
    return float(np.clip(np.nan_to_num(axes.transAxes.inverted().transform(point)[1]), 0, 1))


def _note(bands: Sequence[Band], spread: Spread) -> str:
    """Say under the title what lines, bands and crosses mean."""
    seeds = sorted({len(band.values) for band in bands})
    if seeds == [1]:
        note = "one value per point, so no band"
    else:
        count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        note = f"line: mean of {count} seeds; band: {_SPREADS[spread]}"
    if any((band.ends < len(band.x)).any() for band in bands):
        note += "; cross: a seed ended early or diverged"
    return note
