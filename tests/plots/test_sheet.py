from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from types import ModuleType

import matplotlib
import matplotlib.colors
import numpy as np
import pytest
import torch

from coursekit import plots
from coursekit.plots.sheet import DARK_PAGE, INK, LIGHT_PAGE, LOOKS, contrast, luminance, style

COLOURS = [look["color"] for look in LOOKS[:8]]

# Machado, Oliveira and Fernandes (2009), table 1, severity 1.0; they act on linear RGB.
VISIONS = {
    "full colour": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# Measured smallest distances between two of the eight colours: 0.150, 0.085, 0.093 and 0.089.
LEAST_DISTANCE = {"full colour": 0.149, "protanopia": 0.085, "deuteranopia": 0.092, "tritanopia": 0.088}


def oklab(linear: np.ndarray) -> np.ndarray:
    """Ottosson's OKLab (2020) of linear RGB: distances of 0.02 are just visible side by side."""
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.array(to_lab) @ np.cbrt(np.array(to_cones) @ linear)


def seen(colour: str, vision: str) -> np.ndarray:
    channels = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return oklab(np.clip(VISIONS[vision] @ linear, 0, 1))


def least_distance(colours: list[str], vision: str) -> float:
    return min(float(np.linalg.norm(seen(a, vision) - seen(b, vision))) for a, b in combinations(colours, 2))


@pytest.mark.parametrize(
    ("first", "second", "ratio"),
    [("#000000", "#ffffff", 21.0), ("#ffffff", "#ffffff", 1.0), ("#777777", "#ffffff", 4.478), ("red", "white", 3.998)],
)
def test_contrast_equals_the_known_ratios(first: str, second: str, ratio: float) -> None:
    torch.testing.assert_close(contrast(first, second), ratio, rtol=0, atol=5e-4)
    assert contrast(first, second) == contrast(second, first)


def test_luminance_of_primary_colours_adds_up_to_white() -> None:
    total = sum(luminance(colour) for colour in ("#ff0000", "#00ff00", "#0000ff"))
    torch.testing.assert_close(total, 1.0)


def test_oklab_of_white_is_one_without_colour() -> None:
    torch.testing.assert_close(seen("white", "full colour"), np.array([1.0, 0.0, 0.0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("page", [LIGHT_PAGE, DARK_PAGE], ids=["light", "dark"])
@pytest.mark.parametrize("colour", COLOURS)
def test_every_line_stands_out_on_both_pages(colour: str, page: str) -> None:
    assert contrast(colour, page) >= 3


@pytest.mark.parametrize("vision", VISIONS)
def test_colours_stay_apart_for_every_vision(vision: str) -> None:
    assert least_distance(COLOURS, vision) >= LEAST_DISTANCE[vision]


def test_the_distance_check_can_fail() -> None:
    default = [f"C{index}" for index in range(8)]
    assert least_distance(default, "deuteranopia") < LEAST_DISTANCE["deuteranopia"]


def test_no_two_looks_are_alike_in_grey() -> None:
    assert len({look["marker"] for look in LOOKS}) == len(LOOKS) == 12


def test_a_colour_that_comes_twice_has_another_line() -> None:
    assert len({(look["color"], look["linestyle"]) for look in LOOKS}) == len(LOOKS)


def test_ink_is_no_line_colour_and_reads_well_on_white() -> None:
    assert INK not in COLOURS
    assert contrast(INK, LIGHT_PAGE) >= 7


def test_style_leaves_the_readers_own_settings_alone() -> None:
    with matplotlib.rc_context({"font.size": 31.0, "xtick.direction": "in"}):
        before = dict(matplotlib.rcParams)
        with style():
            assert matplotlib.rcParams["font.size"] == 9.5
            assert matplotlib.rcParams["xtick.direction"] == "out", "a setting that the sheet leaves at its default"
        assert dict(matplotlib.rcParams) == before


def test_every_public_name_can_be_loaded() -> None:
    """A public name that is also a file's name would turn into a module once that file is imported."""
    assert [name for name in plots.__all__ if isinstance(getattr(plots, name), ModuleType)] == []
    lazy = {name for names in plots._HOMES.values() for name in names}
    assert lazy | {"Band"} == set(plots.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'pie'"):
        plots.pie  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("use", "absent"),
    [
        ("import coursekit.plots", ("matplotlib", "torch")),
        ("from coursekit.plots import curves, bars, matrix, save", ("matplotlib.pyplot", "torch", "scipy")),
    ],
    ids=["package", "drawing"],
)
def test_importing_stays_light(use: str, absent: tuple[str, ...]) -> None:
    code = f"{use}\nimport sys\nprint([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
