"""Histograms and reliability diagrams: what is drawn is what was given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from coursekit.errors import ArgumentError
from coursekit.plots import histograms, reliability, save

WORDS: dict[str, Any] = {"x_label": "weight", "title": "Weights"}


def boxes(axes: Any) -> list[Any]:
    return list(axes.patches)


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_every_value_is_counted_and_zeros_are_named():
    values = np.concatenate([np.zeros(29), np.linspace(-1, 1, 70), [50.0]])  # 50 lies beyond, and is counted at the end
    figure = histograms({"a": values, "b": np.ones(4)}, **WORDS, bins=11)
    first, second = figure.axes
    assert sum(bar.get_height() for bar in boxes(first)) == 100
    assert sum(bar.get_height() for bar in boxes(second)) == 4
    assert texts(first) == ["a\n29.0% exactly zero"]
    assert texts(second) == ["b\n0.0% exactly zero"]
    middle = boxes(first)[5]
    assert middle.get_x() < 0 < middle.get_x() + middle.get_width()


def test_all_zeros_can_be_drawn():
    (axes,) = histograms({"a": np.zeros((3, 4))}, **WORDS).axes
    assert texts(axes) == ["a\n100.0% exactly zero"]


@pytest.mark.parametrize(
    ("series", "bins", "words"),
    [
        ({}, 11, "1 to 12 series"),
        ({"a": [1.0]}, 10, "an odd number"),
        ({"a": []}, 11, "finite values for a"),
        ({"a": [1.0, math.nan]}, 11, "finite values for a"),
    ],
    ids=["none", "even bins", "empty", "nan"],
)
def test_histograms_refuse_what_cannot_be_drawn(series, bins, words):
    with pytest.raises(ArgumentError, match=words):
        histograms(series, **WORDS, bins=bins)


def test_a_reliability_diagram_holds_the_points_and_the_diagonal(tmp_path):
    figure = reliability({"sure": ([0.2, 0.9], [0.3, 0.5]), "one bin": ([0.5], [0.5])}, title="Reliability", note="n")
    (axes,) = figure.axes
    lines = [tuple(np.asarray(part).tolist() for part in line.get_data()) for line in axes.lines]
    assert ([0, 1], [0, 1]) in lines
    assert ([0.2, 0.9], [0.3, 0.5]) in lines
    assert ([0.5], [0.5]) in lines
    assert axes.get_title(loc="left") == "n"
    assert save(figure, tmp_path, "reliability", alt="A diagram.").png.stat().st_size > 0


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ({}, "1 to 12 series"),
        ({"a": ([0.1, 0.2], [0.1])}, "confidence and accuracy of a"),
        ({"a": ([0.1], [1.1])}, "confidence and accuracy of a"),
        ({"a": ([math.nan], [0.5])}, "confidence and accuracy of a"),
        ({"a": ([], [])}, "confidence and accuracy of a"),
    ],
    ids=["none", "lengths", "range", "nan", "empty"],
)
def test_reliability_refuses_what_is_no_share(series, words):
    with pytest.raises(ArgumentError, match=words):
        reliability(series, title="Reliability")
