"""Figures for lessons and reports: readable in print, in dark mode and without colour vision.

Every drawing function returns a `matplotlib.figure.Figure`; `save` writes it as SVG and PNG. Names are
loaded on first use, so that importing this package does not import matplotlib (one CPU second).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from coursekit.plots.bands import Band

if TYPE_CHECKING:
    from coursekit.plots.distributions import histograms, reliability
    from coursekit.plots.grids import matrix, trajectories
    from coursekit.plots.lines import curves
    from coursekit.plots.maps import attribution_maps, image_rows
    from coursekit.plots.panels import bars, scorecard_caption, scorecard_figure
    from coursekit.plots.saving import FigureFile, save
    from coursekit.plots.sheet import DARK_PAGE, INK, LIGHT_PAGE, new_figure, style

__all__ = [
    "DARK_PAGE",
    "INK",
    "LIGHT_PAGE",
    "Band",
    "FigureFile",
    "attribution_maps",
    "bars",
    "curves",
    "histograms",
    "image_rows",
    "matrix",
    "new_figure",
    "reliability",
    "save",
    "scorecard_caption",
    "scorecard_figure",
    "style",
    "trajectories",
]

_HOMES = {
    "distributions": ("histograms", "reliability"),
    "grids": ("matrix", "trajectories"),
    "lines": ("curves",),
    "maps": ("attribution_maps", "image_rows"),
    "panels": ("bars", "scorecard_caption", "scorecard_figure"),
    "saving": ("FigureFile", "save"),
    "sheet": ("DARK_PAGE", "INK", "LIGHT_PAGE", "new_figure", "style"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
