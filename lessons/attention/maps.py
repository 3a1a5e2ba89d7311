"""Attention maps: what was looked at, drawn beside what was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from coursekit import plots

_TEXT_SIZE = 8


def sentence_maps(examples: Sequence[tuple[str, str, Tensor]], *, title: str, note: str) -> Figure:
    """Draw one map for each translation: a row for each written symbol, a column for each that was read.

    Args:
        examples: source text, target text and weights (target, source).
        title: the figure's title.
        note: what light and dark mean.
    """
    with plots.style():
        heights = [len(target) for _, target, _ in examples]
        figure = plots.new_figure(title, width=7.2, height=0.9 + 0.26 * sum(heights) + 0.55 * len(examples))
        panels = figure.subplots(len(examples), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (source, target, weights) in zip(panels, examples, strict=True):
            axes.grid(visible=False)
            axes.pcolormesh(weights[: len(target), : len(source)].cpu().numpy(), vmin=0, vmax=1)
            axes.set_xticks([place + 0.5 for place in range(len(source))], list(source), size=_TEXT_SIZE)
            axes.set_yticks([place + 0.5 for place in range(len(target))], list(target), size=_TEXT_SIZE)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
            axes.invert_yaxis()
            axes.set_xlabel("characters read")
            axes.set_ylabel("symbols written")
        panels[0].set_title(note, alpha=0.78)
    return figure


def image_maps(images: Tensor, maps: Mapping[str, Tensor], names: Sequence[str], *, title: str, note: str) -> Figure:
    """Draw images in the first row and below them what each network looked at.

    Args:
        images: (n, 1, size, size), brightness from 0 to 1.
        maps: for each network its weights (n, places), row by row, each row of sum 1.
        names: what stands over each image.
        title: the figure's title.
        note: what light and dark mean.
    """
    count = len(images)
    with plots.style():
        figure = plots.new_figure(title, width=1.1 + 0.95 * count, height=1.1 + 0.98 * (1 + len(maps)))
        panels = figure.subplots(1 + len(maps), count, squeeze=False, sharey="row")
        for axes in panels.flat:
            axes.grid(visible=False)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_aspect("equal")
        for axes, image, name in zip(panels[0], images[:, 0], names, strict=True):
            axes.imshow(image.cpu().numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_title(name)
        for row, (label, weights) in zip(panels[1:], maps.items(), strict=True):
            side = round(weights.shape[1] ** 0.5)
            for axes, one in zip(row, weights, strict=True):
                axes.imshow(one.view(side, side).cpu().numpy(), vmin=0)
            row[0].set_ylabel(label)
        panels[0, 0].set_ylabel("image")
        figure.supxlabel(note, alpha=0.78, size=_TEXT_SIZE)
    return figure
