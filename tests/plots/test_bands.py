from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from coursekit.errors import ArgumentError
from coursekit.plots import Band
from coursekit.plots.bands import as_array

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    "values",
    [
        [[1.0, 2.0], [3.0, 4.0]],
        np.array([[1.0, 2.0], [3.0, 4.0]]),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True),
        torch.tensor([[1, 2], [3, 4]], dtype=torch.bfloat16),
        [torch.tensor([1, 2]), torch.tensor([3.0, 4.0], requires_grad=True)],
        [[torch.tensor(1.0, requires_grad=True), 2], (3, 4)],
    ],
    ids=["lists", "numpy", "tensor", "bfloat16", "list of tensors", "list of scalars"],
)
def test_as_array_reads_what_lessons_have(values: object) -> None:
    torch.testing.assert_close(as_array(values), np.array([[1.0, 2.0], [3.0, 4.0]]))  # pyright: ignore[reportArgumentType]


def test_as_array_copies() -> None:
    mine = torch.zeros(3, dtype=torch.float64)
    as_array(mine)[0] = 7
    assert mine[0] == 0


def test_missing_values_are_nan() -> None:
    expected = np.array([[1, NAN, 3], [4, NAN, NAN]])
    torch.testing.assert_close(as_array([[1, None, 3], [4]]), expected, equal_nan=True)


@pytest.mark.parametrize("values", [["a", "b"], [[[1, 2]], [3]], {1}], ids=["words", "depths", "set"])
def test_as_array_refuses_what_is_no_numbers(values: object) -> None:
    with pytest.raises(ArgumentError, match="here: numbers in a list, a NumPy array or a tensor"):
        as_array(values, "here")  # pyright: ignore[reportArgumentType]


def test_ends_and_shared_stop_at_the_last_finite_value() -> None:
    band = Band(range(4), [[1, 2, 3, 4], [1, NAN, 3, INF], [NAN, NAN, NAN, NAN], [1, 2]])
    assert band.ends.tolist() == [4, 3, 0, 2]
    assert band.shared == 0
    assert len(band.mean()) == 0


def test_values_beyond_1e100_count_as_infinite() -> None:
    assert Band([0, 1, 2], [1e100, -1e100, np.nextafter(1e100, INF)]).ends.tolist() == [2]


def test_mean_goes_only_as_far_as_every_seed() -> None:
    band = Band([0, 1, 2], [[1, 2, 3], [3, 6, NAN]])
    torch.testing.assert_close(band.mean(), np.array([2.0, 4.0]))
    low, high = band.limits("range")
    torch.testing.assert_close(np.stack([low, high]), np.array([[1.0, 2.0], [3.0, 6.0]]))


def test_one_dimension_is_one_seed_without_width() -> None:
    band = Band([0, 1], [5, 6])
    for spread in ("range", "interval"):
        low, high = band.limits(spread)
        torch.testing.assert_close(low, high)


def test_interval_equals_scipys() -> None:
    values = np.random.default_rng(0).normal(size=(5, 7))
    low, high = Band(range(7), values).limits("interval")
    expected = stats.t.interval(0.95, 4, loc=values.mean(0), scale=stats.sem(values, axis=0))
    torch.testing.assert_close(np.stack([low, high]), np.stack(expected))


@settings(deadline=None)
@given(arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)), st.sampled_from(["range", "interval"]))
def test_the_mean_lies_inside_its_band(values: np.ndarray, spread: str) -> None:
    band = Band(range(4), values)
    low, high = band.limits(spread)  # pyright: ignore[reportArgumentType]
    slack = 1e-9 * (1 + np.abs(values).max())
    assert (low <= band.mean() + slack).all()
    assert (band.mean() <= high + slack).all()


@pytest.mark.parametrize(
    ("x", "values", "words"),
    [
        ([0, 1], [[1, 2, 3]], r"Got x \(2,\), values \(1, 3\)"),
        ([0, 1], [[[1, 2]]], "values"),
        ([[0, 1]], [[1, 2]], "x "),
        ([], [[]], "at least one of each"),
        ([0, 0], [[1, 2]], "finite and rising"),
        ([1, 0], [[1, 2]], "finite and rising"),
        ([0, NAN], [[1, 2]], "finite and rising"),
    ],
    ids=["length", "three dimensions", "x twice nested", "empty", "equal x", "falling x", "nan x"],
)
def test_band_refuses_shapes_that_do_not_fit(x: list[float], values: list[list[float]], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Band(x, values)
