"""`report.html`: one page that holds everything about a run and asks nothing of any other place."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from coursekit.errors import ArgumentError, DataError
from coursekit.files import make_folder, write_atomically
from coursekit.metrics import Metric
from coursekit.plots import DARK_PAGE, INK, LIGHT_PAGE, FigureFile

_TEMPLATE = "report.html.jinja"
_KEYS = ("lesson", "profile", "seeds", "device", "versions", "seconds", "scorecards", "claims")
# Parts of the manifest that stand elsewhere on the page.
_TOLD = ("lesson", "profile", "started", "command", "versions", "mine")
_CLOCKS = (("wall", "wall"), ("cpu", "CPU"))

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_TAGS = ("svg", "title", "desc", "g", "defs", "path", "use", "clipPath", "rect", "image", "linearGradient", "stop")
_INNER_LINK = re.compile(r"#[\w.:-]+|data:image/png;base64,[\w+/=\s]*", re.ASCII)
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_POINTS_TO_PIXELS = 1.75  # 96/72 would show 9 point text; the page has room for a little more


@dataclass(frozen=True)
class Section:
    """A part of the page that a lesson adds.

    Args:
        title: its heading.
        text: paragraphs, parted by empty lines.
        header: the columns of its table; without them there is no table.
        rows: the table's rows, each as long as the header.
    """

    title: str
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()


def write_report(
    path: Path,
    *,
    result: Mapping[str, Any],
    title: str,
    summary: str,
    figures: Sequence[FigureFile],
    config_text: str,
    manifest: Mapping[str, Any],
    extra_sections: Sequence[Section] = (),
) -> Path:
    """Write one self-contained page about a run, atomically.

    Args:
        path: where the page shall stand, usually `DIR/report.html`.
        result: what `result.json` holds.
        title: the page's heading.
        summary: what was found, in a few sentences.
        figures: drawn into the page as SVG.
        config_text: the resolved configuration, as YAML.
        manifest: from `runtime.manifest`.
        extra_sections: parts of the lesson's own, after the scorecards.

    Returns:
        The path.

    Raises:
        ArgumentError: the result lacks a part, or one metric has two units.
        DataError: a figure's SVG is missing, damaged, or holds more than a drawing.
        OutputError: the page cannot be written; an older one is unharmed.
    """
    missing = [key for key in _KEYS if key not in result]
    if missing:
        raise ArgumentError(
            "write_report", f"a result with {', '.join(missing)}", got="none", fix="add what is missing"
        )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(_TEMPLATE).render(
        title=title,
        summary=_paragraphs(summary),
        result=result,
        facts=list(_facts(result, manifest)),
        claims=[_claim(claim) for claim in result["claims"]],
        figures=[{"file": file, "svg": _inline(file.svg, f"figure-{n}-")} for n, file in enumerate(figures, start=1)],
        scorecards=_scorecard_table(result["scorecards"]),
        sections=[{"section": part, "paragraphs": _paragraphs(part.text)} for part in extra_sections],
        config_text=config_text,
        machine=[*_flat(result["versions"]), *_flat({k: v for k, v in manifest.items() if k not in _TOLD})],
        colours={"light": LIGHT_PAGE, "dark": DARK_PAGE, "ink": INK},
    )
    make_folder(path.parent)
    return write_atomically(path, page)


def _paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", text.strip()) if part]


def _facts(result: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Lesson", str(result["lesson"])
    yield "Profile", str(result["profile"])
    yield "Seeds", ", ".join(map(str, result["seeds"]))
    yield "Device", str(result["device"])
    yield "Time", ", ".join(f"{result['seconds'][kind]:.1f}\N{NO-BREAK SPACE}s {word}" for kind, word in _CLOCKS)
    if result.get("mine"):
        yield "Your code", f"{result['mine']['path']}, SHA-256 {result['mine']['sha256'][:12]}…"
    if "started" in manifest:
        yield "Started", str(manifest["started"]).replace("T", " ", 1)
    if "command" in manifest:
        command = manifest["command"]
        yield "Command", command if isinstance(command, str) else shlex.join(map(str, command))


def _claim(claim: Mapping[str, Any]) -> dict[str, Any]:
    bound = str(claim["bound"]).replace("<=", "≤").replace(">=", "≥")
    return {**claim, "value": _number(claim["value"]), "bound": bound, "holds": bool(claim["holds"])}


def _number(value: float | None) -> str:
    """Write a number for people: whole numbers in full, others to four digits, what is no number in words."""
    if value is None or not math.isfinite(value):
        return "no value" if value is None else "not finite"
    return f"{value:.15g}" if float(value).is_integer() else f"{value:.4g}"


def _scorecard_table(scorecards: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return columns (metric, unit), rows of cells and the footnotes that say why there is no value."""
    metrics = dict.fromkeys(metric for card in scorecards.values() for metric in card)
    notes: dict[str, int] = {}
    rows = []
    for variant, card in scorecards.items():
        cells = []
        for metric in metrics:
            entry = _metric(card.get(metric, {}))
            if entry.value is not None:
                value, _, spread = entry.text().partition(" ")
                cells.append({"value": value, "spread": spread})
            else:
                note = notes.setdefault(f"{entry.text().capitalize()}: {entry.reason}", len(notes) + 1)
                cells.append({"value": "no value" if entry.seeds else "n/a", "note": note})
        rows.append((variant, cells))
    columns = [(metric.replace("_", " "), _unit(metric, scorecards)) for metric in metrics]
    return {"columns": columns, "rows": rows, "notes": list(notes)}


def _metric(entry: Mapping[str, Any]) -> Metric:
    reason = "" if entry.get("value") is not None else entry.get("reason") or "not measured"
    bounds = entry.get("low"), entry.get("high")
    return Metric(entry.get("value"), entry.get("unit") or "", *bounds, tuple(entry.get("seeds") or ()), reason)


def _unit(metric: str, scorecards: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    cards = [card[metric] for card in scorecards.values() if metric in card]
    units = {card.get("unit") or "" for card in cards if card["value"] is not None}
    if len(units) > 1:
        raise ArgumentError(
            "write_report", f"one unit for {metric}", got=", ".join(sorted(units)), fix="convert it to one unit"
        )
    return next(iter(units), "")


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names and texts of a nested mapping."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _inline(path: Path, prefix: str) -> Markup:
    """Read one of our SVG files for drawing inside a page.

    Its ids get the prefix, so that two figures never share a clip path or a letter's shape. Only elements
    that draw are let through, and only links to the file's own parts.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ElementTree.ParseError("it declares a document type")
        root = ElementTree.fromstring(text)
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise _bad_figure(path, "an SVG written by `coursekit.plots.save`", error) from None
    for element in root.iter():
        tag = element.tag.removeprefix(_SVG)
        if tag not in _TAGS:
            raise _bad_figure(path, "an SVG of shapes only", f"the element {tag}")
        element.tag = tag
        element.attrib = dict(_attributes(element.attrib, prefix, path))
    if root.tag != "svg":
        raise _bad_figure(path, "a drawing", root.tag)
    box = root.attrib.get("viewBox", "")
    if not re.fullmatch(r"[\d.]+( [\d.]+){3}", box):
        raise _bad_figure(path, "a viewBox of four numbers", box or "nothing")
    for side in ("height", "width"):  # the page decides, and the viewBox keeps the proportions
        root.attrib.pop(side, None)
    root.attrib["style"] = f"max-width: {float(box.split()[2]) * _POINTS_TO_PIXELS:.0f}px"
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _attributes(attributes: Mapping[str, str], prefix: str, path: Path) -> Iterator[tuple[str, str]]:
    for name, value in attributes.items():
        if name in (_LINK, "href"):
            if not _INNER_LINK.fullmatch(value):
                raise _bad_figure(path, "links to the figure's own parts only", value[:60])
            yield "href", f"#{prefix}{value[1:]}" if value.startswith("#") else value
        elif name.startswith(("{", "on")):
            raise _bad_figure(path, "attributes that draw", name)
        elif name == "id":
            yield name, prefix + value
        elif name == "aria-labelledby":
            yield name, " ".join(prefix + part for part in value.split())
        else:
            if "url(" in _REFERENCE.sub("", value):
                raise _bad_figure(path, "links to the figure's own parts only", value[:60])
            yield name, _REFERENCE.sub(lambda found: f"url(#{prefix}{found[1]})", value)


def _bad_figure(path: Path, expected: str, got: object) -> DataError:
    return DataError(str(path), expected, got=got, fix="draw the figure again with `coursekit.plots.save`")
