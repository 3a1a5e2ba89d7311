"""Segments of pictures and what is painted on them."""

from __future__ import annotations

import pytest
import torch

from coursekit.attribution import grid_segments, paint, superpixels
from coursekit.errors import ArgumentError


def test_cells_are_numbered_row_by_row():
    assert grid_segments(4, 5, 2).tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5], [3, 3, 4, 4, 5]]


def test_two_halves_of_a_picture_are_two_superpixels():
    picture = torch.zeros(1, 3, 12, 12)
    picture[..., 5:] = 1
    found = superpixels(picture, 2)
    assert found.unique().tolist() == [0, 1]
    assert (found[:, :, :5] == found[0, 0, 0]).all()
    assert (found[:, :, 5:] != found[0, 0, 0]).all()


def test_superpixels_follow_colour_and_cover_all_numbers(g):
    """Four quarters of a colour each under slight noise: no region is in two quarters."""
    quarters = grid_segments(16, 16, 8)
    pictures = quarters[None, None].double().repeat(3, 1, 1, 1) + 0.05 * torch.randn(3, 1, 16, 16, generator=g)
    found = superpixels(pictures, 16)
    assert found.shape == (3, 16, 16)
    regions = int(found.max()) + 1
    assert 8 <= regions <= 16
    for row in found:
        assert row.unique().tolist() == list(range(regions))
        assert len((row * 4 + quarters).unique()) == regions


def test_a_blank_picture_gets_a_grid():
    found = superpixels(torch.ones(1, 1, 8, 8), 4)
    sizes = found.flatten().bincount()
    assert sizes.tolist() == [16] * 4


def test_values_are_painted():
    segments = torch.tensor([[0, 1], [1, 2]])
    values = torch.tensor([[5.0, 6, 7], [1, 2, 3]])
    assert paint(values, segments).tolist() == [[[5, 6], [6, 7]], [[1, 2], [2, 3]]]
    own = torch.stack([segments, segments.flip(0)])
    assert paint(values, own).tolist() == [[[5, 6], [6, 7]], [[2, 3], [1, 2]]]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: grid_segments(4, 4, 0), "height, width and cell must be at least 1"),
        (lambda: superpixels(torch.ones(1, 8, 8), 4), r"pictures must be \(B, C, H, W\)"),
        (lambda: superpixels(torch.ones(1, 1, 8, 8), 65), "count must be from 1 to 64. Got 65"),
        (lambda: superpixels(torch.ones(1, 1, 8, 8), 0), "count must be from 1 to 64. Got 0"),
        (lambda: superpixels(torch.ones(1, 1, 8, 8), 4, compactness=0), "compactness must be above 0"),
        (lambda: superpixels(torch.ones(1, 1, 8, 8), 4, iterations=0), "iterations at least 1"),
        (lambda: superpixels(torch.full((1, 1, 8, 8), torch.nan), 4), "inputs must be finite"),
        (lambda: paint(torch.ones(1, 3), torch.tensor([[3]])), r"values must be \(B, S\) and segments"),
        (lambda: paint(torch.ones(2, 3), torch.zeros(3, 2, 2, dtype=torch.long)), r"values must be \(B, S\)"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ArgumentError, match=words):
        call()
