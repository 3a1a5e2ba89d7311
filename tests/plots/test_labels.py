from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from coursekit.plots.labels import spread_out

SIZES = st.lists(st.floats(1, 20), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([10.0, 50.0], [10.0, 50.0]),
        ([50.0, 50.0], [45.0, 55.0]),
        ([0.0, 0.0], [5.0, 15.0]),
        ([100.0, 100.0], [85.0, 95.0]),
        ([20.0, 48.0, 50.0, 52.0], [20.0, 40.0, 50.0, 60.0]),
    ],
    ids=["free", "same place", "lower end", "upper end", "three of four"],
)
def test_spread_out_moves_only_what_overlaps(wanted: list[float], expected: list[float]) -> None:
    got = spread_out(np.array(wanted), np.full(len(wanted), 10.0), 100.0)
    torch.testing.assert_close(got, np.array(expected))


@settings(deadline=None)
@given(SIZES, st.data())
def test_nothing_overlaps_and_all_stays_inside(lengths: list[float], data: st.DataObject) -> None:
    sizes = np.array(lengths)
    wanted = np.sort([data.draw(st.floats(0, 300)) for _ in lengths])
    got = spread_out(wanted, sizes, 300.0)
    edges = np.stack([got - sizes / 2, got + sizes / 2])
    assert (edges[0, 1:] >= edges[1, :-1] - 1e-9).all()
    assert edges.min() >= -1e-9
    assert edges.max() <= 300 + 1e-9


@settings(deadline=None)
@given(SIZES, st.data())
def test_spread_out_is_isotonic_regression(lengths: list[float], data: st.DataObject) -> None:
    sizes = np.array(lengths)
    wanted = np.sort([data.draw(st.floats(1000, 1100)) for _ in lengths])
    below = np.cumsum(sizes) - sizes / 2
    expected = IsotonicRegression().fit_transform(np.arange(len(sizes)), wanted - below) + below
    torch.testing.assert_close(spread_out(wanted, sizes, 1e6), expected)


def test_a_column_that_does_not_fit_grows_upwards() -> None:
    got = spread_out(np.array([1.0, 2.0, 3.0]), np.full(3, 10.0), 15.0)
    torch.testing.assert_close(got, np.array([5.0, 15.0, 25.0]))
