"""Figures of distributions: histograms one below the other, and reliability diagrams."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from coursekit.errors import ArgumentError
from coursekit.plots.bands import Values, as_array
from coursekit.plots.labels import SideLabel, write_labels
from coursekit.plots.sheet import INK, LOOKS, MUTED, new_figure, style

_REACH = 0.999  # of all values: a few far away would squeeze the rest


def histograms(
    series: Mapping[str, Values], *, x_label: str, title: str, note: str = "", bins: int = 61, log_y: bool = True
) -> Figure:
    """Draw one histogram below the other, on one x axis, each with the share of values that are exactly zero.

    The axis is symmetric about zero and holds all but a thousandth of the values; those beyond are counted at its ends.

    Args:
        series: name to values of any shape, all finite, at least one each; at most 12.
        x_label: quantity and unit of the values.
        title: the figure's title.
        note: one line under the title.
        bins: an odd number, so that zero lies in the middle of one.
        log_y: counts on a logarithmic axis.

    Raises:
        ArgumentError: no or too many series, an empty one, values that are not finite, or an even number of bins.
    """
    where = "histograms"
    if not 1 <= len(series) <= len(LOOKS) or bins % 2 == 0:
        got = f"{len(series)} series, {bins} bins"
        raise ArgumentError(where, f"1 to {len(LOOKS)} series and an odd number of bins", got=got, fix="draw fewer")
    values = {name: as_array(part, where).reshape(-1) for name, part in series.items()}
    for name, part in values.items():
        if not len(part) or not np.isfinite(part).all():
            raise ArgumentError(where, f"finite values for {name}, at least one", got="others", fix="check that it ran")
    reach = max(float(np.quantile(np.abs(part), _REACH)) for part in values.values()) or 1.0
    edges = np.linspace(-reach, reach, bins + 1)
    with style():
        figure = new_figure(title, height=1.1 + 0.95 * len(values))
        rows = figure.subplots(len(values), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (name, part), look in zip(rows, values.items(), LOOKS, strict=False):
            axes.hist(np.clip(part, -reach, reach), edges, color=look["color"], alpha=0.75, linewidth=0, log=log_y)
            zero = float((part == 0).mean())
            axes.annotate(
                f"{name}\n{zero:.1%} exactly zero",
                (1.0, 0.5),
                xytext=(8, 0),
                xycoords="axes fraction",
                textcoords="offset points",
                va="center",
                size=8.5,
                annotation_clip=False,
            )
        rows[0].set_title(note, alpha=MUTED)
        rows[-1].set_xlabel(x_label)
        rows[len(rows) // 2].set_ylabel("count")
    return figure


def reliability(series: Mapping[str, tuple[Values, Values]], *, title: str, note: str = "") -> Figure:
    """Draw accuracy against confidence: on the diagonal a classifier is right as often as it says.

    Args:
        series: name to (mean confidence, accuracy) of each bin, both (bins,), the confidence rising; at most 12.
        title: the figure's title.
        note: one line under the title.

    Raises:
        ArgumentError: no or too many series, shapes that differ, or values outside [0, 1].
    """
    where = "reliability"
    if not 1 <= len(series) <= len(LOOKS):
        raise ArgumentError(where, f"1 to {len(LOOKS)} series", got=len(series), fix="draw several figures")
    points = {name: (as_array(x, where), as_array(y, where)) for name, (x, y) in series.items()}
    for name, (x, y) in points.items():
        inside = all(((part >= 0) & (part <= 1)).all() for part in (x, y))
        if x.ndim != 1 or x.shape != y.shape or not len(x) or not inside:
            raise ArgumentError(
                where, f"confidence and accuracy of {name}, both (bins,) in [0, 1]", got=x.shape, fix="pass shares"
            )
    with style():
        figure = new_figure(title, width=6.4, height=4.6)
        axes = figure.subplots()
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        diagonal = {"color": INK, "linestyle": (0, (1, 1)), "linewidth": 1.0}
        axes.plot([0, 1], [0, 1], **diagonal)
        labels = []
        for look, (name, (x, y)) in zip(LOOKS, points.items(), strict=False):
            axes.plot(x, y, **look)
            labels.append(SideLabel(name, look, float(y[-1])))
        labels.append(SideLabel("as sure as right", diagonal, 1.0))
        axes.set_xlabel("confidence: largest probability, mean of the bin")
        axes.set_ylabel("accuracy of the bin")
        axes.set_title(note, alpha=MUTED)
        write_labels(axes, labels)
    return figure
