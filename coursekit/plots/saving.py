"""Writing a figure as SVG for pages and as PNG for READMEs."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coursekit.errors import ArgumentError
from coursekit.files import make_folder, write_atomically
from coursekit.plots.sheet import INK, LIGHT_PAGE, style

_PNG_DPI = 150
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
# matplotlib's defaults; None leaves the entry, and with all of them the whole block, out.
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
_GLOBAL_STYLE = re.compile(r"<defs>\s*<style[^>]*>\*\{stroke-linejoin: round; stroke-linecap: butt\}</style>\s*</defs>")


@dataclass(frozen=True)
class FigureFile:
    """A figure on disk and the words that belong to it.

    Args:
        svg: transparent, its ink in the colour of the page's text.
        png: on white, 150 dots per inch, with its title drawn in.
        title: what the figure is.
        alt: what it shows, for a reader who does not see it.
        caption: what to notice, or how it was made.
    """

    svg: Path
    png: Path
    title: str
    alt: str
    caption: str = ""


def save(
    figure: Figure, folder: Path, name: str, *, title: str | None = None, alt: str, caption: str = ""
) -> FigureFile:
    """Write `name.svg` and `name.png`, each whole or not at all; equal figures give equal bytes.

    The SVG has no title drawn in (a page writes it as a heading); its text and axes use `currentColor`.

    Args:
        figure: from a drawing function, or your own, made inside `with style():`.
        folder: where to write; made when missing.
        name: small letters, digits, `-` and `_`, without ending.
        title: the title; left out, it is the one the figure was drawn with.
        alt: what the figure shows, in words.
        caption: what to notice.

    Raises:
        ArgumentError: a name, title, alternative text or axis label is missing.
        OutputError: the folder cannot be written to or the disk is full; older files are unharmed.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError("save", "a name of small letters, digits, - and _", got=repr(name), fix="rename it")
    title = figure.get_suptitle() if title is None else title
    for what, text in (("title", title), ("alt", alt)):
        if not text.strip():
            raise ArgumentError("save", f"{what} of figure {name}", got="nothing", fix=f"say in {what} what it shows")
    _check_axes(figure, name)
    title = " ".join(title.split())
    svg = _to_svg(figure, title, alt)
    png = _to_png(figure)
    make_folder(folder)
    return FigureFile(
        write_atomically(folder / f"{name}.svg", svg),
        write_atomically(folder / f"{name}.png", png),
        title,
        alt,
        caption,
    )


def _check_axes(figure: Figure, name: str) -> None:
    """Refuse a figure without axes, or with axes that say nothing about what they measure."""
    if not figure.axes:
        raise ArgumentError("save", f"axes in figure {name}", got="none", fix="draw something first")
    for index, axes in enumerate(figure.axes):
        if not axes.axison:
            continue
        for letter in "xy":
            if not _has_label(figure, axes, letter):
                raise ArgumentError(
                    "save",
                    f"a label with its unit on the {letter} axis of panel {index + 1} in figure {name}",
                    got="none",
                    fix=f"call axes.set_{letter}label",
                )


def _has_label(figure: Figure, axes: Axes, letter: str) -> bool:
    """Whether an axis has a label: its own, a neighbour's that it shares, or the figure's."""
    if hasattr(axes, "_colorbar"):  # one axis of a colour bar is its thickness
        return bool(axes.get_xlabel() or axes.get_ylabel())
    if letter == "x":
        shared, whole = axes.get_shared_x_axes(), figure.get_supxlabel()
        return bool(whole or any(one.get_xlabel() for one in shared.get_siblings(axes)))
    shared, whole = axes.get_shared_y_axes(), figure.get_supylabel()
    return bool(whole or any(one.get_ylabel() for one in shared.get_siblings(axes)))


def _to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=_PNG_DPI, facecolor=LIGHT_PAGE, metadata={"Software": None})
    return buffer.getvalue()


def _to_svg(figure: Figure, title: str, alt: str) -> str:
    buffer = io.StringIO()
    heading = getattr(figure, "_suptitle", None)  # matplotlib has no public way to hide it
    with style():
        if heading is not None:
            heading.set_visible(False)
        try:
            figure.savefig(buffer, format="svg", facecolor="none", metadata=_NO_METADATA)
        finally:
            if heading is not None:
                heading.set_visible(True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # A rule for `*` would reach out of an inlined SVG into its page; as attributes the same is inherited.
    text, found = _GLOBAL_STYLE.subn("", text, count=1)
    assert found, "matplotlib writes its global style in another way"
    attributes = 'role="img" aria-labelledby="title desc" stroke-linejoin="round" stroke-linecap="butt"'
    words = f'<title id="title">{escape(title)}</title>\n <desc id="desc">{escape(alt)}</desc>'
    head = text.index(">")
    return f"{text[:head]} {attributes}>\n {words}{_round_paths(text[head + 1 :])}"


def _round_paths(text: str) -> str:
    """Write coordinates with two decimals instead of six: a hundredth of a point is nowhere visible."""
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"\d+\.\d{3,}", _two_decimals, path[0]), text)


def _two_decimals(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
