"""Steps to a sustained target and the area under a curve."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coursekit.errors import ArgumentError
from coursekit.metrics import normalised_area, steps_to_target

NAN = float("nan")


@pytest.mark.parametrize(
    ("curve", "options", "expected"),
    [
        pytest.param([0.1, 0.9, 0.9, 0.9], {}, 2, id="from-the-second-point"),
        pytest.param([0.9, 0.1, 0.9, 0.9, 0.9], {}, 3, id="a-lucky-touch-does-not-count"),
        pytest.param([0.9, 0.1, 0.9], {"patience": 1}, 1, id="first-touch"),
        pytest.param([0.1, 0.2, 0.3], {}, None, id="never"),
        pytest.param([0.1, 0.9, 0.9], {}, None, id="ends-too-early-to-tell"),
        pytest.param([0.1, 0.9, 0.9], {"patience": 2}, 2, id="just-long-enough"),
        pytest.param([0.8, 0.8, 0.8], {}, 1, id="equal-is-reached"),
        pytest.param([0.9, 0.9, 0.9, 0.1], {}, 1, id="lost-again-later"),
        pytest.param([0.9, NAN, 0.9, 0.9, 0.9], {}, 3, id="nan-is-not-at-the-target"),
        pytest.param([2.0, 0.5, 0.4, 0.3], {"mode": "min"}, 2, id="loss"),
        pytest.param([0.1, 0.9, 0.9, 0.9], {"steps": [0, 100, 150, 400]}, 100, id="steps-given"),
        pytest.param([0.9], {"patience": 1, "steps": [0]}, 0, id="reached-at-step-zero"),
        pytest.param([0.9, 0.9], {"patience": 5}, None, id="patience-beyond-the-curve"),
    ],
)
def test_steps_by_hand(curve: list[float], options: dict, expected: int | None) -> None:
    found = steps_to_target(curve, 0.8, **options)
    assert found == expected
    assert type(found) is type(expected)


def test_steps_takes_tensors_and_arrays() -> None:
    steps = np.array([10, 20, 30])
    found = steps_to_target(torch.tensor([0.1, 0.9, 0.9]), 0.8, patience=2, steps=steps)  # pyright: ignore[reportArgumentType]
    assert found == 20
    assert type(found) is int


curves = st.lists(st.floats(0, 1), min_size=1, max_size=25)


def by_definition(curve: list[float], target: float, patience: int) -> int | None:
    windows = (curve[start : start + patience] for start in range(len(curve) - patience + 1))
    return next((start + 1 for start, window in enumerate(windows) if min(window) >= target), None)


@given(curve=curves, target=st.floats(0, 1), patience=st.integers(1, 6))
def test_steps_laws(curve: list[float], target: float, patience: int) -> None:
    found = steps_to_target(curve, target, patience=patience)
    assert found == by_definition(curve, target, patience)
    never = len(curve) + 1
    assert (found or never) <= (steps_to_target(curve, target, patience=patience + 1) or never)
    assert (found or never) <= (steps_to_target(curve, target + 0.1, patience=patience) or never)
    mirrored = [-value for value in curve]
    assert steps_to_target(mirrored, -target, patience=patience, mode="min") == found


@pytest.mark.parametrize(
    ("curve", "target", "options", "words"),
    [
        pytest.param([], 0.5, {}, "a curve needs at least one point", id="empty"),
        pytest.param([1.0], NAN, {}, "target must be a number", id="nan-target"),
        pytest.param([1.0], 0.5, {"patience": 0}, "patience must be at least 1", id="no-patience"),
        pytest.param([1.0], 0.5, {"mode": "up"}, "mode must be max or min. Got 'up'", id="mode"),
        pytest.param([1.0, 1.0], 0.5, {"steps": [1]}, "one entry per point, 2. Got 1", id="too-few-steps"),
        pytest.param([1.0, 1.0], 0.5, {"steps": [1, 1]}, "strictly increasing", id="repeated-step"),
        pytest.param([1.0, 1.0], 0.5, {"steps": [2, 1]}, "strictly increasing", id="falling-steps"),
        pytest.param([1.0, 1.0], 0.5, {"steps": [0.5, 1.0]}, "steps must be integers", id="fractional-steps"),
    ],
)
def test_steps_errors(curve: list[float], target: float, options: dict, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        steps_to_target(curve, target, **options)


@pytest.mark.parametrize(
    ("curve", "steps", "expected"),
    [
        pytest.param([0.0, 1.0], None, 0.5, id="a-ramp"),
        pytest.param([0.0, 1.0, 1.0], None, 0.75, id="evenly-spaced"),
        pytest.param([0.0, 1.0, 1.0], [0, 1, 4], 0.875, id="unevenly-spaced"),
        pytest.param([0.0, 1.0, 1.0], [100, 101, 104], 0.875, id="the-origin-does-not-matter"),
        pytest.param([0.0, 1.0, 1.0], [0, 0.01, 0.04], 0.875, id="the-unit-does-not-matter"),
    ],
)
def test_area_by_hand(curve: list[float], steps: list[float] | None, expected: float) -> None:
    assert normalised_area(curve, steps=steps) == pytest.approx(expected)


@given(
    points=st.lists(st.tuples(st.floats(-10, 10), st.floats(0.01, 5)), min_size=2, max_size=20),
    scale=st.floats(0.1, 10),
    shift=st.floats(-5, 5),
)
def test_area_laws(points: list[tuple[float, float]], scale: float, shift: float) -> None:
    curve, gaps = zip(*points, strict=True)
    steps = np.cumsum(gaps).tolist()
    area = normalised_area(curve, steps=steps)
    assert min(curve) <= area <= max(curve)
    assert area == pytest.approx(np.trapezoid(curve, steps) / (steps[-1] - steps[0]), abs=1e-9)
    moved = normalised_area([scale * value + shift for value in curve], steps=steps)
    assert moved == pytest.approx(scale * area + shift, abs=1e-9)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e-300, -7.7])
def test_the_area_of_a_constant_is_that_constant_exactly(value: float) -> None:
    assert normalised_area([value] * 7, steps=[0, 0.1, 0.3, 0.6, 1, 5, 7]) == value


@pytest.mark.parametrize(
    ("curve", "steps", "words"),
    [
        pytest.param([1.0], None, "at least two points. Got 1", id="one-point"),
        pytest.param([0.0, NAN], None, "every point must be finite. Got nan at point 1", id="nan"),
        pytest.param([float("inf"), 0.0], None, "Got inf at point 0", id="infinite"),
        pytest.param([0.0, 1.0], [0.0, 0.0], "strictly increasing", id="no-range"),
        pytest.param([0.0, 1.0], [0.0, NAN], "finite and strictly increasing", id="nan-step"),
        pytest.param([0.0, 1.0], [0.0, float("inf")], "finite and strictly increasing", id="infinite-step"),
        pytest.param([0.0, 1.0], [0.0, 1.0, 2.0], "one entry per point, 2. Got 3", id="too-many-steps"),
    ],
)
def test_area_errors(curve: list[float], steps: list[float] | None, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        normalised_area(curve, steps=steps)
