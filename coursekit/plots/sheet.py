"""The look of every figure: one style sheet, applied as a context, never to matplotlib's global state."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

SHEET = Path(__file__).with_name("coursekit.mplstyle")
LIGHT_PAGE = "#ffffff"
DARK_PAGE = "#121417"

_PARAMETERS = matplotlib.rc_params_from_file(SHEET, use_default_template=False)
INK: str = _PARAMETERS["text.color"]
LOOKS: tuple[dict[str, Any], ...] = tuple(_PARAMETERS["axes.prop_cycle"])

MUTED = 0.78  # the opacity of notes: 7:1 on both pages
_TITLE_COLUMNS = 78


def style() -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws in the course's style, whatever the reader's own settings."""
    return matplotlib.style.context(str(SHEET), after_reset=True)


def new_figure(title: str, *, width: float = 7.2, height: float = 4.2) -> Figure:
    """Return an empty figure with its title; call inside `with style():`.

    Args:
        title: stands above the figure in the PNG; pages that show the SVG write it as a heading.
        width: inches.
        height: inches.
    """
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    figure.suptitle(fill(title, _TITLE_COLUMNS), x=0.012, ha="left")
    return figure


def luminance(colour: Any) -> float:
    """Return the relative luminance of a colour, 0 for black to 1 for white (WCAG 2.2).

    Args:
        colour: whatever matplotlib takes for a colour; opacity is left out.
    """
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(first: Any, second: Any) -> float:
    """Return the contrast ratio of two opaque colours, 1 to 21 (WCAG 2.2)."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
