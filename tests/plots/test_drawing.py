from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, TextArea
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from coursekit.errors import ArgumentError
from coursekit.plots import Band, bars, curves, matrix, scorecard_caption, scorecard_figure, trajectories
from coursekit.plots.sheet import LOOKS, contrast

NAN, INF = math.nan, math.inf
WORDS: dict[str, Any] = {"x_label": "step", "y_label": "loss (nats)", "title": "A title"}
LIMITS: dict[str, Any] = {"x_limits": (-2, 2), "y_limits": (-1, 3), "title": "Valley"}


def entry(value: float | None, half: float = 0.1, unit: str = "s", **more: Any) -> dict[str, Any]:
    ends = (None, None) if value is None else (value - half, value + half)
    return {"value": value, "unit": unit, "low": ends[0], "high": ends[1], **more}


CARDS = {
    "sgd": {
        "accuracy": entry(0.9, unit="fraction"),
        "loss": entry(0.2, unit="nats"),
        "precision": entry(None, reason="one class only"),
        "convergence_rate": entry(None, seeds=[0], reason="never reached"),
        "model_size": entry(4_810_000, unit="bytes"),
    },
    "adam": {
        "accuracy": entry(0.95, unit="fraction"),
        "loss": entry(90.0, unit="nats"),
        "precision": entry(None, reason="one class only"),
        "convergence_rate": entry(3.0, unit="epochs"),
        "model_size": {"value": 4_810_000, "unit": "bytes"},
    },
}


def rosenbrock(x: Any, y: Any) -> Any:
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def descent(lr: float, steps: int = 60) -> np.ndarray:
    """Gradient descent on Rosenbrock's function; a large rate ends in infinity."""
    path = [np.array([-1.5, 2.0])]
    with np.errstate(all="ignore"):
        for _ in range(steps):
            x, y = path[-1]
            slope = np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])
            path.append(path[-1] - lr * slope)
    return np.stack(path)


def band(level: float, seeds: int = 3, points: int = 40) -> Band:
    noise = np.random.default_rng(0).normal(scale=0.05, size=(seeds, points))
    return Band(range(1, points + 1), level * np.exp(noise - np.linspace(0, 1, points)))


def only_axes(figure: Figure) -> Axes:
    (axes,) = figure.axes
    return axes


def data_lines(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_transform() == axes.transData]


def labels(axes: Axes) -> list[str]:
    """The texts beside the axes, from top to bottom."""
    boxes = [child for child in axes.get_children() if isinstance(child, AnnotationBbox)]
    boxes.sort(key=lambda box: -box.get_window_extent().y0)
    return [area.get_text() for box in boxes for area in box.findobj(TextArea)]  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]


FIGURES: dict[str, Callable[[], Figure]] = {
    "one line": lambda: curves({"only": Band([0, 1], [2, 1])}, **WORDS),
    "twelve lines with long names": lambda: curves(
        {f"number {index} of the series, at length": band(1 + index / 50) for index in range(12)}, **WORDS, target=0.8
    ),
    "log axes": lambda: curves(
        {"a": band(1.0), "b": band(40.0)}, **WORDS, log_x=True, log_y=True, spread="interval", target=0.1
    ),
    "zero on a log axis": lambda: curves({"a": Band([0, 1, 2], [[1, 0.1, 0], [1, 0.2, 0]])}, **WORDS, log_y=True),
    "diverged": lambda: curves({"a": Band([0, 1, 2], [[1, 2, INF], [1, 2, 3]]), "b": Band([0], [NAN])}, **WORDS),
    "huge values": lambda: curves({"a": Band(range(30), [np.logspace(-100, 100, 30)])}, **WORDS, log_y=True),
    "gap inside": lambda: curves({"a": Band(range(20), [[*range(9), NAN, *range(10)]])}, **WORDS),
    "bars": lambda: bars({"left": -3.0, "a name of more than twenty-four letters": (5, 4, 7)}, **WORDS, note="a note"),
    "scorecard": lambda: scorecard_figure(CARDS),
    "one metric": lambda: scorecard_figure({"sgd": {"loss": entry(0.2)}}),
    "matrix": lambda: matrix(
        [[0.1, NAN, 0.9], [INF, 0.5, 1]], rows=["a", "b"], columns=["1", "2", "3"], **WORDS, value_label="loss (nats)"
    ),
    "matrix with long names": lambda: matrix(
        np.eye(4),
        rows=["a row of many words, wrapped"] * 4,
        columns=["a column of words"] * 4,
        **WORDS,
        value_label="v",
    ),
    "trajectories": lambda: trajectories(
        rosenbrock, {"slow": descent(1e-3), "diverges": descent(1e-2)}, **LIMITS, minimum=(1, 1)
    ),
    "trajectory to huge values": lambda: trajectories(rosenbrock, {"a": [[0, 0], [1e300, 1e300]]}, **LIMITS),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_no_text_is_cut_off_or_lies_on_other_text(draw: Callable[[], Figure]) -> None:
    figure = draw()
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]  # pyright: ignore[reportAttributeAccessIssue]
    ticks = [text for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in ticks_out_of_view(axis)]
    boxes = {f"{i} {text.get_text()}": text.get_window_extent() for i, text in enumerate(texts) if text not in ticks}  # pyright: ignore[reportAttributeAccessIssue]
    assert len(boxes) >= 3
    whole = figure.bbox.padded(1)
    assert [name for name, box in boxes.items() if not within(box, whole)] == []
    overlapping = [
        (first, second)
        for (first, one), (second, other) in combinations(boxes.items(), 2)
        if one.padded(-1).overlaps(other.padded(-1))
    ]
    assert overlapping == []


def ticks_out_of_view(axis: Any) -> list[Text]:
    """Tick labels that matplotlib makes but does not draw, since they lie beyond the axis or are switched off."""
    drawn = {id(tick) for tick in axis._update_ticks()}
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [
        text for tick in ticks for text in (tick.label1, tick.label2) if id(tick) not in drawn or not text.get_visible()
    ]


def within(inner: Bbox, outer: Bbox) -> bool:
    return outer.x0 <= inner.x0 and outer.y0 <= inner.y0 and inner.x1 <= outer.x1 and inner.y1 <= outer.y1


def test_curves_draw_the_mean_inside_the_band() -> None:
    axes = only_axes(curves({"a": Band([0, 1, 2], [[1, 2, 3], [3, 6, 9]])}, **WORDS))
    (line,) = data_lines(axes)
    torch.testing.assert_close(np.asarray(line.get_ydata()), np.array([2.0, 4.0, 6.0]))
    (filled,) = [child for child in axes.collections if isinstance(child, PolyCollection)]
    corners = np.unique(filled.get_paths()[0].vertices, axis=0)
    torch.testing.assert_close(corners, np.array([[0, 1], [0, 3], [1, 2], [1, 6], [2, 3], [2, 9]], dtype=float))
    assert axes.get_title(loc="left") == "line: mean of 2 seeds; band: lowest to highest seed"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "loss (nats)")


def test_one_seed_has_no_band() -> None:
    axes = only_axes(curves({"a": Band([0, 1], [1, 2])}, **WORDS))
    assert not axes.collections
    assert axes.get_title(loc="left") == "one value per point, so no band"


def test_a_seed_that_diverges_ends_the_mean_and_gets_a_cross() -> None:
    axes = only_axes(curves({"a": Band([0, 1, 2, 3], [[1, 2, NAN, NAN], [1, 4, 5, 6]])}, **WORDS))
    mean, cross, survivor = data_lines(axes)
    torch.testing.assert_close(np.asarray(mean.get_ydata()), np.array([1.0, 3.0]))
    torch.testing.assert_close(np.asarray(survivor.get_xydata()), np.array([[1, 4], [2, 5], [3, 6]], dtype=float))
    assert cross.get_marker() == "x"
    assert np.asarray(cross.get_xydata()).tolist() == [[1, 2]]
    assert "cross: a seed ended early or diverged" in axes.get_title(loc="left")


def test_seeds_of_unequal_number_are_told() -> None:
    axes = only_axes(curves({"a": band(1, seeds=2), "b": band(2, seeds=5)}, **WORDS, spread="interval"))
    assert axes.get_title(loc="left") == "line: mean of 2 to 5 seeds; band: 95 % interval of the mean"


def test_labels_stand_in_the_order_of_the_ends() -> None:
    figure = curves({"low": band(1), "high": band(3), "middle": band(2), "none": Band([0], [NAN])}, **WORDS, target=0.9)
    figure.draw_without_rendering()
    assert labels(only_axes(figure)) == ["high", "target 0.9", "middle", "low", "none (no finite value)"]


def test_a_line_of_reference_is_called_what_it_is() -> None:
    figure = curves({"a": band(1)}, **WORDS, target=0.9, target_label="exact value")
    figure.draw_without_rendering()
    assert sorted(labels(only_axes(figure))) == ["a", "exact value 0.9"]


def test_a_line_that_ends_early_has_no_leader() -> None:
    axes = only_axes(curves({"whole": Band([0, 1, 2], [1, 1, 1]), "short": Band([0, 1], [2, 2])}, **WORDS))
    leaders = {
        box.findobj(TextArea)[0].get_text(): box.arrow_patch is not None  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]
        for box in axes.get_children()
        if isinstance(box, AnnotationBbox)
    }
    assert leaders == {"whole": True, "short": False}


def test_a_band_on_a_log_axis_ends_at_the_lowest_seed() -> None:
    series = {"a": Band([0, 1], [[1, 0.01], [1, 5.0]])}
    assert (series["a"].limits("interval")[0] < 0).any()
    axes = only_axes(curves(series, **WORDS, log_y=True, spread="interval"))
    vertices = np.asarray(axes.collections[0].get_paths()[0].vertices)
    assert vertices[:, 1].min() == 0.01


def test_whole_steps_get_whole_ticks() -> None:
    figure = curves({"a": Band([0, 1, 2], [1, 2, 3])}, **WORDS)
    assert all(tick == round(tick) for tick in only_axes(figure).get_xticks())


@pytest.mark.parametrize(
    ("series", "options", "words"),
    [
        ({}, {}, "1 to 12 series. Got 0"),
        ({str(index): Band([0], [1]) for index in range(13)}, {}, "1 to 12 series. Got 13"),
        ({"a": Band([0], [NAN])}, {}, "a finite value in some series"),
        ({"a": Band([0], [0])}, {"log_y": True}, "a positive value in some series"),
        ({"a": Band([0], [1])}, {"log_x": True}, "a positive x for a logarithmic axis"),
        ({"a": Band([0], [1])}, {"target": INF}, "a finite target that the y axis can show. Got inf"),
        ({"a": Band([0], [1])}, {"target": NAN}, "a finite target that the y axis can show. Got nan"),
        ({"a": Band([0], [1])}, {"target": 0.0, "log_y": True}, "a finite target that the y axis can show. Got 0"),
        ({"a": Band([0], [1])}, {"spread": "std"}, "a spread among range, interval. Got 'std'"),
    ],
)
def test_curves_refuse_what_they_cannot_show(series: Mapping[str, Band], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        curves(series, **WORDS, **options)


def test_bars_start_at_zero_and_write_their_numbers() -> None:
    axes = only_axes(bars({"a": (0.5, 0.25, 0.75), "b": -2}, **WORDS))
    spans = [sorted((patch.get_x(), patch.get_x() + patch.get_width())) for patch in axes.patches]  # pyright: ignore[reportAttributeAccessIssue]
    assert spans == [[0, 0.5], [-2, 0]]
    assert [text.get_text() for text in axes.texts] == ["0.5  [0.25, 0.75]", "−2"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first bar stands on top"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "at least one value"),
        ({"a": NAN}, "a to be a finite number"),
        ({"a": (1, 2, 3)}, r"a to be a finite number or \(value, low, high\) in order. Got \(1, 2, 3\)"),
        ({"a": (1, 0)}, r"Got \(1, 0\)"),
    ],
    ids=["none", "nan", "outside", "two numbers"],
)
def test_bars_refuse_dishonest_intervals(values: dict[str, float | Sequence[float]], words: str) -> None:
    with pytest.raises(ArgumentError, match=f"bars: .*{words}"):
        bars(values, **WORDS)


def test_an_interval_may_touch_its_value() -> None:
    assert bars({"a": (1, 1, 2), "b": (1, 0, 1), "c": (1, 1, 1)}, **WORDS)


def test_scorecard_has_one_panel_per_metric_that_applies() -> None:
    figure = scorecard_figure(CARDS, title="Cards")
    names = [axes.get_xlabel() for axes in figure.axes]
    assert names == ["accuracy (fraction)", "loss (nats), log axis", "convergence rate (epochs)", "model size (bytes)"]
    assert [axes.get_xscale() for axes in figure.axes] == ["linear", "log", "linear", "linear"]
    assert figure.get_suptitle() == "Cards"


def test_scorecard_shows_value_and_interval() -> None:
    accuracy = scorecard_figure(CARDS).axes[0]
    drawn = [np.asarray(line.get_xydata()).round(6).tolist() for line in accuracy.lines]
    assert drawn == [[[0.8, 0], [1.0, 0]], [[0.9, 0]], [[0.85, 1], [1.05, 1]], [[0.95, 1]]]


def test_scorecard_says_where_a_variant_has_no_value() -> None:
    cards = {**CARDS, "third": {"convergence_rate": entry(None, reason="")}}
    assert [text.get_text() for text in scorecard_figure(cards).axes[2].texts] == ["no value", "n/a"]


def test_caption_names_what_is_left_out() -> None:
    assert scorecard_caption(CARDS) == (
        "Points are means over seeds, lines their intervals. Left out: precision (one class only)."
    )
    assert "Left out" not in scorecard_caption({"a": {"loss": entry(1.0)}})


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"a": {"loss": entry(None)}}, "a metric that applies to some variant"),
        ({}, "a metric that applies to some variant"),
        ({str(index): {"loss": entry(1.0)} for index in range(13)}, "at most 12 variants. Got 13"),
        ({"a": {"t": entry(1.0)}, "b": {"t": entry(1.0, unit="ms")}}, "one unit for t. Got ms, s"),
        ({"a": {"t": {"value": 1.0, "unit": "s", "low": 2.0, "high": 3.0}}}, "t to be a finite number"),
    ],
    ids=["none applies", "empty", "too many", "two units", "outside"],
)
def test_scorecard_refuses_what_it_cannot_show(cards: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=f"scorecard_figure: .*{words}"):
        scorecard_figure(cards)


def test_numbers_in_a_matrix_stand_out_from_every_shade() -> None:
    values = np.linspace(0, 1, 60).reshape(6, 10)
    axes = only_axes(matrix(values, rows=list("abcdef"), columns=list("0123456789"), **WORDS, value_label="v"))
    mesh = axes.collections[0]
    shades = [to_hex(colour) for colour in mesh.to_rgba(values.ravel())]
    written = {text.get_text(): None for text in axes.texts}
    assert len(axes.texts) == 60
    assert next(iter(written)) == "0.00"
    assert min(contrast(text.get_color(), shade) for text, shade in zip(axes.texts, shades, strict=True)) >= 4.5


def test_a_cell_without_a_number_is_a_dash() -> None:
    axes = only_axes(FIGURES["matrix"]())
    assert [text.get_text() for text in axes.texts] == ["0.10", "–", "0.90", "–", "0.50", "1.00"]


@pytest.mark.parametrize(
    ("values", "words"),
    [([[1, 2]], r"shape \(1, 2\), 2 finite"), ([[NAN], [NAN]], r"shape \(2, 1\), 0 finite")],
    ids=["shape", "nothing finite"],
)
def test_matrix_refuses_what_does_not_fit_its_names(values: list[list[float]], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        matrix(values, rows=["a", "b"], columns=["c"], **WORDS, value_label="v")


def test_contours_rise_by_one_factor() -> None:
    axes = only_axes(trajectories(rosenbrock, {"a": [[0, 0]]}, **LIMITS))
    (contours,) = [child for child in axes.get_children() if isinstance(child, ContourSet)]
    levels = np.asarray(contours.levels)
    torch.testing.assert_close(levels[1:] / levels[:-1], np.full(len(levels) - 1, 2.0))
    assert "each contour is 2 times as high as the next lower" in axes.get_title(loc="left")


def test_paths_start_at_the_ring_and_end_where_they_diverge() -> None:
    route = descent(1e-2)
    axes = only_axes(FIGURES["trajectories"]())
    drawn = {line.get_color(): np.asarray(line.get_xydata()) for line in axes.lines[:2]}
    torch.testing.assert_close(drawn[LOOKS[0]["color"]], descent(1e-3))
    diverged = drawn[LOOKS[1]["color"]]
    assert 2 <= len(diverged) < len(route)
    torch.testing.assert_close(diverged, route[: len(diverged)])
    assert np.asarray(axes.lines[2].get_xydata()).tolist() == [[-1.5, 2.0]]
    assert np.asarray(axes.lines[3].get_xydata()).tolist() == [[1.0, 1.0]]
    assert axes.get_xlim() == (-2, 2)


def test_a_function_of_tensors_can_be_drawn() -> None:
    trajectories(lambda x, y: torch.as_tensor(rosenbrock(x, y)), {"a": torch.zeros(2, 2)}, **LIMITS)


@pytest.mark.parametrize(
    ("function", "paths", "limits", "words"),
    [
        (rosenbrock, {}, {}, "1 to 12 paths. Got 0"),
        (rosenbrock, {"a": [1.0, 2.0]}, {}, r"path 'a' of shape \(steps \+ 1, 2\).* Got shape \(2,\)"),
        (rosenbrock, {"a": [[NAN, 0.0], [1.0, 1.0]]}, {}, "with a finite start"),
        (rosenbrock, {"a": [[0, 0]]}, {"x_limits": (1, 1)}, "limits in rising order"),
        (rosenbrock, {"a": [[0, 0]]}, {"y_limits": (2, 1)}, "limits in rising order"),
        (lambda x, y: x * 0, {"a": [[0, 0]]}, {}, "heights of shape .* that differ"),
        (lambda x, y: x[0], {"a": [[0, 0]]}, {}, r"Got \(240,\)"),
        (lambda x, y: x * INF, {"a": [[0, 0]]}, {}, "finite heights"),
    ],
    ids=["no path", "shape", "start", "x limits", "y limits", "flat", "grid", "infinite"],
)
def test_trajectories_refuse_what_they_cannot_show(
    function: Callable[[Any, Any], Any], paths: dict[str, Any], limits: dict[str, Any], words: str
) -> None:
    with pytest.raises(ArgumentError, match=words):
        trajectories(function, paths, **{**LIMITS, **limits})
