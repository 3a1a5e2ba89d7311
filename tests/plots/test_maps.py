"""Maps beside their images: each on its own scale, in two colours where it has two signs."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import torch

from coursekit.errors import ArgumentError
from coursekit.plots import attribution_maps, image_rows, save

IMAGES = torch.linspace(0, 1, 2 * 6 * 4).view(2, 1, 6, 4)
NAMES = ["a three", "a five"]


def drawn(axes: Any) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def test_each_image_has_its_row_of_maps(tmp_path):
    signed = torch.linspace(-1, 1, 48).view(2, 6, 4)
    figure = attribution_maps(
        IMAGES, {"signed": signed, "plain": signed.abs(), "coarse": torch.ones(2, 3, 2)}, names=NAMES, title="Maps"
    )
    assert len(figure.axes) == 2 * 4
    rows = [figure.axes[:4], figure.axes[4:]]
    assert [row[0].get_ylabel() for row in rows] == NAMES
    assert [axes.get_title() for axes in rows[0]] == ["image", "signed", "plain", "coarse"]
    for number, row in enumerate(rows):
        np.testing.assert_allclose(drawn(row[0]), IMAGES[number, 0])
        np.testing.assert_allclose(drawn(row[1]), signed[number])
        shades = row[1].images[0]
        low, high = shades.get_clim()
        assert low == -cast(float, high) < 0, "zero lies in the middle of the two colours"
        assert row[2].images[0].norm.vmin == 0
        assert row[2].images[0].get_cmap().name == "cividis"
        assert list(row[3].images[0].get_extent()) == [-0.5, 3.5, 5.5, -0.5], "a coarse map covers its image"
    assert save(figure, tmp_path, "maps", alt="Maps.").png.stat().st_size > 0


def test_an_empty_map_and_a_colour_image_can_be_drawn():
    figure = attribution_maps(torch.rand(1, 3, 5, 5), {"nothing": torch.zeros(1, 5, 5)}, names=["red"], title="Maps")
    assert drawn(figure.axes[0]).shape == (5, 5, 3)
    assert figure.axes[1].images[0].norm.vmax == 1.0


def test_one_bright_pixel_does_not_leave_the_others_pale():
    one = torch.full((1, 20, 20), 0.1)
    one[0, 0, 0] = 100.0
    figure = attribution_maps(torch.zeros(1, 20, 20), {"map": one}, names=["x"], title="Maps")
    assert cast(float, figure.axes[1].images[0].norm.vmax) < 1.0


def test_a_note_stands_below():
    figure = attribution_maps(IMAGES, {"map": torch.ones(2, 6, 4)}, names=NAMES, title="Maps", note="light: much")
    assert figure.get_supxlabel() == "light: much"
    assert image_rows({"units": IMAGES}, title="Units", note="stretched").get_supxlabel() == "stretched"


@pytest.mark.parametrize(
    ("images", "maps", "names", "words"),
    [
        (IMAGES, {}, NAMES, "finite maps"),
        (IMAGES, {"map": torch.ones(1, 6, 4)}, NAMES, "2 images"),
        (IMAGES, {"map": torch.ones(2, 1, 6, 4)}, NAMES, "finite maps"),
        (IMAGES, {"map": torch.full((2, 6, 4), math.nan)}, NAMES, "finite maps"),
        (IMAGES, {"map": torch.ones(2, 6, 4)}, ["one"], "1 names"),
        (torch.zeros(2, 2, 6, 4), {"map": torch.ones(2, 6, 4)}, NAMES, "finite images"),
        (torch.zeros(0, 6, 4), {"map": torch.ones(0, 6, 4)}, [], "at least one"),
    ],
    ids=["no map", "too few", "four axes", "nan", "names", "two channels", "no image"],
)
def test_what_does_not_belong_together_is_refused(images, maps, names, words):
    with pytest.raises(ArgumentError, match=words):
        attribution_maps(images, maps, names=names, title="Maps")


def test_rows_of_images_are_stretched_and_may_differ_in_length(tmp_path):
    figure = image_rows({"first": torch.rand(3, 4, 4) * 5 - 2, "second": torch.zeros(1, 4, 4)}, title="Units")
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == 3 + 1
    for axes in shown[:3]:
        assert drawn(axes).min() == 0
        assert drawn(axes).max() == 1
    assert not drawn(shown[3]).any()
    assert [shown[0].get_ylabel(), shown[3].get_ylabel()] == ["first", "second"]
    assert save(figure, tmp_path, "units", alt="Units.").svg.stat().st_size > 0


@pytest.mark.parametrize(
    "rows",
    [{}, {"a": torch.zeros(0, 4, 4)}, {"a": torch.zeros(4, 4)}, {"a": torch.full((1, 4, 4), math.inf)}],
    ids=["none", "empty", "two axes", "infinite"],
)
def test_rows_without_images_are_refused(rows):
    with pytest.raises(ArgumentError, match="at least one"):
        image_rows(rows, title="Units")
