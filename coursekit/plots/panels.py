"""Values with their intervals: bars for one quantity, small multiples for a whole scorecard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from coursekit.errors import ArgumentError
from coursekit.plots.sheet import INK, LOOKS, MUTED, new_figure, style

Scorecards = Mapping[str, Mapping[str, Mapping[str, Any]]]
_COLUMNS = 3
_LABEL_COLUMNS = 30
_SOLID: dict[str, Any] = {"linestyle": "-", "marker": ""}
_LOG_FROM = 100  # a panel whose values differ by this factor gets a logarithmic axis


def bars(
    values: Mapping[str, float | Sequence[float]],
    *,
    x_label: str,
    y_label: str,
    title: str,
    note: str = "",
) -> Figure:
    """Draw horizontal bars from zero, each with its interval and its number.

    Args:
        values: name to a number, or to (value, low, high).
        x_label: quantity and unit of the values.
        y_label: what the names are, for example `optimizer`.
        title: the figure's title.
        note: one line under the title, for example what the intervals are.

    Raises:
        ArgumentError: no values, a value that is not finite, or one outside its own interval.
    """
    if not values:
        raise ArgumentError("bars", "at least one value", got="none", fix="pass name to value")
    rows = [_interval("bars", name, value) for name, value in values.items()]
    with style():
        figure = new_figure(title, height=1.5 + 0.34 * len(rows))
        axes = figure.subplots()
        for place, (value, low, high) in enumerate(rows):
            axes.barh(place, value, height=0.62, color=LOOKS[0]["color"], alpha=0.4, linewidth=0)
            axes.plot([value, value], [place - 0.31, place + 0.31], color=LOOKS[0]["color"], **_SOLID, linewidth=2.2)
            if high > low:
                axes.plot([low, high], [place, place], color=INK, **_SOLID, linewidth=1.4)
            text = f"{value:.4g}" if high == low else f"{value:.4g}  [{low:.4g}, {high:.4g}]"
            axes.annotate(
                text.replace("-", "\N{MINUS SIGN}"),
                (1.0, place),
                xytext=(6, 0),
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
                va="center",
                size=8.5,
                annotation_clip=False,
            )
        axes.axvline(0, color=INK, linewidth=0.7)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.set_title(note, alpha=MUTED)
        _name_rows(axes, list(values))
    return figure


def scorecard_figure(scorecards: Scorecards, *, title: str = "Scorecard") -> Figure:
    """Draw one small panel per metric: a point per variant with its interval over seeds.

    Metrics that apply to no variant are left out; `scorecard_caption` names them.

    Args:
        scorecards: variant to metric to `{"value", "unit", "low", "high"}`, as in a run's `result.json`; a
            metric that does not apply has the value None.
        title: the figure's title.

    Raises:
        ArgumentError: no metric applies, more than 12 variants, two units for one metric, or a value
            outside its own interval.
    """
    where = "scorecard_figure"
    if len(scorecards) > len(LOOKS):
        raise ArgumentError(where, f"at most {len(LOOKS)} variants", got=len(scorecards), fix="draw several figures")
    metrics = _applicable(scorecards)
    if not metrics:
        raise ArgumentError(where, "a metric that applies to some variant", got="none", fix="leave the figure out")
    columns = min(_COLUMNS, len(metrics))
    count = -(-len(metrics) // columns)
    with style():
        figure = new_figure(title, width=2.6 + 2.0 * columns, height=0.5 + count * (0.9 + 0.2 * len(scorecards)))
        first = None
        for index, metric in enumerate(metrics):
            axes = figure.add_subplot(count, columns, index + 1, sharey=first)
            first = first or axes
            _panel(axes, metric, scorecards)
            axes.tick_params(labelleft=index % columns == 0, left=False)
            if index % columns == 0:
                axes.set_ylabel("variant")
        assert first is not None
        _name_rows(first, list(scorecards))
    return figure


def scorecard_caption(scorecards: Scorecards) -> str:
    """Return the caption of `scorecard_figure`: what a point is, and which metrics do not apply and why."""
    shown = _applicable(scorecards)
    reasons: dict[str, str] = {}
    for card in scorecards.values():
        for metric, entry in card.items():
            if metric not in shown:
                reasons.setdefault(metric, entry.get("reason") or "")
    caption = "Points are means over seeds, lines their intervals."
    if reasons:
        left_out = "; ".join(
            _words(metric) + (f" ({reason.rstrip('.')})" if reason else "") for metric, reason in reasons.items()
        )
        caption += f" Left out: {left_out}."
    return caption


def _applicable(scorecards: Scorecards) -> list[str]:
    """Return the metrics with a value for at least one variant, in the order of their first sight."""
    metrics = dict.fromkeys(metric for card in scorecards.values() for metric in card)
    return [
        metric
        for metric in metrics
        if any(card.get(metric, {}).get("value") is not None for card in scorecards.values())
    ]


def _panel(axes: Axes, metric: str, scorecards: Scorecards) -> None:
    units, ends = set(), []
    for place, card in enumerate(scorecards.values()):
        entry = card.get(metric, {})
        if entry.get("value") is None:
            text = "no value" if entry.get("seeds") else "n/a"
            axes.annotate(text, (0.5, place), xycoords=axes.get_yaxis_transform(), ha="center", va="center", size=7.5)
            continue
        units.add(entry.get("unit") or "")
        bounds = [entry["value"], entry.get("low"), entry.get("high")]
        value, low, high = _interval("scorecard_figure", metric, bounds if None not in bounds else entry["value"])
        axes.plot([low, high], [place, place], color=LOOKS[place]["color"], **_SOLID)
        axes.plot([value], [place], **LOOKS[place])
        ends += [low, high]
    if len(units) > 1:
        raise ArgumentError(
            "scorecard_figure", f"one unit for {metric}", got=", ".join(sorted(units)), fix="convert it to one unit"
        )
    unit = units.pop()
    label = f"{_words(metric)} ({unit})" if unit else _words(metric)
    axes.margins(x=0.08)
    if min(ends) > 0 and max(ends) >= _LOG_FROM * min(ends):
        axes.set_xscale("log")
        axes.set_xlabel(fill(f"{label}, log axis", _LABEL_COLUMNS))
        return
    axes.set_xlabel(fill(label, _LABEL_COLUMNS))
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10], min_n_ticks=2))
    if max(map(abs, ends)) >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _interval(where: str, name: str, value: float | Sequence[float]) -> tuple[float, float, float]:
    """Return (value, low, high) from a number or from three; refuse what cannot be drawn honestly."""
    numbers = [float(part) for part in value] if isinstance(value, Sequence) else [float(value)] * 3
    if len(numbers) != 3 or not np.isfinite(numbers).all() or not numbers[1] <= numbers[0] <= numbers[2]:
        raise ArgumentError(
            where, f"{name} to be a finite number or (value, low, high) in order", got=value, fix="check its interval"
        )
    return numbers[0], numbers[1], numbers[2]


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Write the names along the y axis, the first one on top."""
    axes.set_yticks(range(len(names)), [fill(name, 24) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _words(metric: str) -> str:
    return metric.replace("_", " ")
