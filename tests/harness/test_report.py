from __future__ import annotations

import copy
import math
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from coursekit.errors import ArgumentError, DataError, OutputError
from coursekit.harness.report import Section, write_report
from coursekit.plots import DARK_PAGE, Band, FigureFile, curves, matrix, save
from coursekit.plots.sheet import LIGHT_PAGE, MUTED, contrast

VOID = {"meta", "link", "img", "br", "hr", "input"}
ATTACK = "<script>alert('x')</script> & \"quoted\""


class Page(HTMLParser):
    """What a page is made of: elements with attributes, and the text in each kind of element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open:
            self.text.setdefault(self._open[-1], []).append(" ".join(data.split()))

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> list[FigureFile]:
    folder = tmp_path_factory.mktemp("figures")
    loss = curves({"adam": Band([0, 1], [[2, 1], [3, 1]])}, x_label="step", y_label="loss (nats)", title="Loss")
    table = matrix([[1, 2]], rows=["r"], columns=["a", "b"], x_label="x", y_label="y", value_label="v", title="Table")
    return [
        save(loss, folder, "loss", alt="Loss falls from 2.5 to 1.", caption=f"Two seeds. {ATTACK}"),
        save(table, folder, "table", alt=f"Two cells: 1 and 2. {ATTACK}"),
        save(loss, folder, "again", title=f"Loss again {ATTACK}", alt="The same once more."),
    ]


RESULT: dict[str, Any] = {
    "lesson": "optimization",
    "profile": "quick",
    "seeds": [0, 1, 2],
    "device": "cpu (2 cores)",
    "versions": {"python": "3.11.2", "torch": "2.11.0"},
    "seconds": {"wall": 21.44, "cpu": 20.0},
    "scorecards": {
        "sgd": {
            "accuracy": {"value": 0.9533, "unit": "fraction", "low": 0.9413, "high": 0.9653, "seeds": [0, 1, 2]},
            "training_time": {"value": 2.0, "unit": "s", "low": 1.5, "high": 4.0},
            "precision": {"value": None, "unit": "fraction", "low": None, "high": None, "reason": "one class only"},
            "convergence_rate": {
                "value": None,
                "unit": "epochs",
                "low": None,
                "high": None,
                "seeds": [0],
                "reason": "0",
            },
        },
        ATTACK: {
            "accuracy": {"value": 1.0, "unit": "fraction", "low": None, "high": None},
            "precision": {"value": None, "unit": "fraction", "low": None, "high": None, "reason": "one class only"},
            "convergence_rate": {"value": 3.25, "unit": "epochs", "low": 3.25, "high": 3.25},
        },
    },
    "claims": [
        {
            "id": "same_update",
            "says": f"By hand as PyTorch. {ATTACK}",
            "value": 4.44e-16,
            "bound": "<= 1e-12",
            "holds": True,
        },
        {"id": "faster", "says": "Momentum is faster.", "value": -2.0, "bound": ">= 1", "holds": False},
        {"id": "nothing", "says": "It trained.", "value": math.nan, "bound": ">= 0.5", "holds": False},
    ],
    "figures": [],
}
MANIFEST: dict[str, Any] = {
    "started": "2026-01-02T03:04:05+0000",
    "command": ["coursekit", "run", "optimization", "name=two words"],
    "system": "Linux x86_64",
    "mine": None,
    "versions": {"python": "3.11.2"},
    "nested": {"threads": 1},
}


def written(folder: Path, figures: list[FigureFile], **changes: Any) -> Page:
    arguments: dict[str, Any] = {
        "result": RESULT,
        "title": f"Eight optimizers {ATTACK}",
        "summary": f"First paragraph.\n\nSecond {ATTACK}",
        "figures": figures,
        "config_text": f"lr: 0.1  # {ATTACK}\nsource: https://example.org\n",
        "manifest": MANIFEST,
        "extra_sections": [
            Section("Episode return", "Mean of ten.", ("agent", "return"), [("dqn", 187.5), (ATTACK, 1)])
        ],
    }
    path = write_report(folder / "report.html", **{**arguments, **changes})
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(figures: list[FigureFile], tmp_path_factory: pytest.TempPathFactory) -> Page:
    return written(tmp_path_factory.mktemp("report"), figures)


def test_the_page_is_whole(page: Page) -> None:
    assert page.html.startswith('<!doctype html>\n<html lang="en">')
    assert len(page.all("h1")) == 1
    assert page.text["title"][0] == page.text["h1"][0] == f"Eight optimizers {ATTACK}"
    assert page.all("meta", charset="utf-8")
    assert page.all("meta", name="viewport")
    assert len(page.all("main")) == 1


def test_nothing_comes_from_outside(page: Page) -> None:
    """The only address on the page is text that stands in the configuration."""
    assert [tag for tag, _ in page.elements if tag in ("script", "link", "img", "iframe", "object", "image")] == []
    links = [value for _, found in page.elements for name, value in found.items() if name.endswith("href")]
    assert len(links) > 50
    assert [link for link in links if not link.startswith("#")] == []
    assert [name for _, found in page.elements for name in found if name in ("src", "srcset", "data", "action")] == []
    assert not re.search(r"@import|url\((?!#)", page.html)
    assert re.findall(r"\w+://[\w.]*", page.html) == ["https://example.org"]
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy["content"].startswith("default-src 'none';")


def test_every_id_is_there_once_and_every_link_arrives(page: Page) -> None:
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    targets = set(re.findall(r'(?:href="|url\()#([^")]+)', page.html))
    targets |= {name for _, found in page.elements for name in found.get("aria-labelledby", "").split()}
    assert len(targets) > 50
    assert targets <= set(page.ids)


def test_every_figure_says_what_it_shows(page: Page, figures: list[FigureFile]) -> None:
    drawings = page.all("svg", role="img")
    assert len(drawings) == len(page.all("figure")) == len(figures)
    assert page.text["desc"] == [figure.alt for figure in figures]
    assert [figure.title for figure in figures] == page.text["title"][1:] == page.text["h3"]
    assert page.text["figcaption"] == [figures[0].caption]
    for number, drawing in enumerate(drawings, start=1):
        assert drawing["aria-labelledby"] == f"figure-{number}-title figure-{number}-desc"
        assert "width" not in drawing
        assert drawing["viewbox"]


def test_what_others_wrote_is_text(page: Page) -> None:
    assert page.html.count("&lt;script&gt;") == 11
    assert "<script" not in page.html


def test_claims_say_number_bound_and_verdict_in_words(page: Page) -> None:
    entries = re.findall(r'<li class="claim (\w+)".*?</li>', page.html, re.DOTALL)
    assert entries == ["holds", "fails", "fails"]
    blocks = [re.sub(r"<[^>]+>|\s+", " ", block) for block in page.html.split('<li class="claim ')[1:]]
    for block, words in zip(
        blocks,
        (r"4\.44e-16 bound ≤ 1e-12 .* holds .* same_update", "-2 bound ≥ 1 .* does not hold .* Momentum", "not finite"),
        strict=True,
    ):
        assert re.search(words, block)
    assert "2 of 3 claims do not hold in this run." in page.text["p"]


@pytest.mark.parametrize(
    ("kept", "sentence"),
    [
        (["same_update"], "The claim holds in this run."),
        (["faster"], "1 of 1 claims does not hold in this run."),
        (["same_update", "same_update"], "All 2 claims hold in this run."),
    ],
    ids=["one holds", "one fails", "all hold"],
)
def test_claims_are_counted(tmp_path: Path, kept: list[str], sentence: str) -> None:
    claims = [claim for name in kept for claim in RESULT["claims"] if claim["id"] == name]
    assert sentence in written(tmp_path, [], result={**RESULT, "claims": claims}).text["p"]


def test_facts_tell_how_the_run_was_made(page: Page) -> None:
    facts = dict(zip(page.text["dt"], [*page.text["dd"], *page.text["code"][:1]], strict=True))
    assert facts == {
        "Lesson": "optimization",
        "Profile": "quick",
        "Seeds": "0, 1, 2",
        "Device": "cpu (2 cores)",
        "Time": "21.4 s wall, 20.0 s CPU",
        "Started": "2026-01-02 03:04:05+0000",
        "Command": "coursekit run optimization 'name=two words'",
    }


def test_a_learners_own_code_is_named(tmp_path: Path) -> None:
    mine = {"path": "exercises.py", "sha256": "0123456789abcdef" * 4}
    page = written(tmp_path, [], result={**RESULT, "mine": mine}, manifest={"mine": mine})
    assert "exercises.py, SHA-256 0123456789ab…" in page.text["dd"]
    assert "Started" not in page.text["dt"]


def test_versions_and_machine_are_listed(page: Page) -> None:
    table = page.html[page.html.index('<table class="machine">') :]
    rows = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', table)
    assert rows == [("python", "3.11.2"), ("torch", "2.11.0"), ("system", "Linux x86_64"), ("nested.threads", "1")]


def test_scorecards_show_value_interval_unit_and_reasons(page: Page) -> None:
    table = page.html[page.html.index('<table class="scorecards">') : page.html.index('<ol class="notes">')]
    plain = [re.sub(r"<[^>]+>|\s+", " ", row).split() for row in table.split("<tr>")[1:]]
    columns, sgd, other = (" ".join(row) for row in plain)
    assert columns == "variant accuracy fraction training time s precision convergence rate epochs"
    assert sgd == "sgd 0.953 ± 0.012 2.0 [1.5, 4.0] n/a 1 no value 2"
    assert other.endswith("1 n/a 3 n/a 1 3.250")
    notes = re.findall(r'<li id="note-(\d)">(.*?)</li>', page.html)
    assert notes == [
        ("1", "Not applicable: one class only"),
        ("2", "No value: 0"),
        ("3", "Not applicable: not measured"),
    ]


def test_a_lessons_own_section_stands_in_the_page(page: Page) -> None:
    assert "Episode return" in page.text["h2"]
    assert "187.5" in page.text["td"]
    assert "Mean of ten." in page.text["p"]


def test_the_configuration_is_there_and_folded(page: Page) -> None:
    assert page.all("details") == [{}]
    assert any(text.startswith("lr: 0.1") for text in page.text["code"])


def test_parts_without_content_are_left_out(tmp_path: Path) -> None:
    empty = {**RESULT, "claims": [], "scorecards": {}}
    page = written(tmp_path, [], result=empty, extra_sections=[])
    assert page.text["h2"] == ["Configuration", "Versions and machine"]
    assert [link["href"] for link in page.all("a")] == ["#config", "#machine"]


def colours_of(page: Page, scheme: str) -> dict[str, str]:
    """The colour names of the light or the dark page."""
    head, _, dark = page.html.partition("@media (prefers-color-scheme: dark)")
    found = re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", (head, dark.partition("@media")[0])[scheme == "dark"])
    return dict(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_reads_well_in_light_and_dark(page: Page, scheme: str) -> None:
    colours = colours_of(page, scheme)
    assert colours["page"] == (LIGHT_PAGE if scheme == "light" else DARK_PAGE)
    for name in ("ink", "muted", "good", "bad", "link"):
        assert contrast(colours[name], colours["page"]) >= 4.5
        assert contrast(colours[name], colours["bad-panel"]) >= 4.5
    assert contrast(colours["ink"], colours["page"]) >= 7


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_notes_in_figures_read_well_in_light_and_dark(page: Page, scheme: str) -> None:
    ink, ground = colours_of(page, scheme)["ink"], colours_of(page, scheme)["page"]
    mixed = [MUTED * int(ink[i : i + 2], 16) / 255 + (1 - MUTED) * int(ground[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    assert contrast(mixed, ground) >= 7


def test_print_and_narrow_screens_have_their_rules(page: Page) -> None:
    assert "@media print" in page.html
    assert "@media (max-width: 40rem)" in page.html
    tables = len(page.all("table")) - len(page.all("table", **{"class": "machine"}))
    boxes = [found for tag, found in page.elements if tag == "div" and "scroll" in found.get("class", "").split()]
    assert len(boxes) == tables + len(page.all("figure"))
    assert all(box["tabindex"] == "0" for box in boxes), "a keyboard can scroll them"


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path, figures: list[FigureFile]) -> None:
    written(tmp_path, figures)
    before = (tmp_path / "report.html").read_bytes()
    gone = FigureFile(tmp_path / "gone.svg", tmp_path / "gone.png", "t", "a")
    with pytest.raises(DataError, match=r"gone\.svg: an SVG written by `coursekit\.plots\.save`"):
        written(tmp_path, [*figures, gone])
    assert (tmp_path / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_report_is_equal_when_written_again(tmp_path: Path, figures: list[FigureFile]) -> None:
    assert written(tmp_path, figures).html == written(tmp_path / "new", figures).html


def test_a_place_that_cannot_be_written_to_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("here")
    with pytest.raises(OutputError, match="a place that can be written to"):
        written(tmp_path / "taken", [])


@pytest.mark.parametrize(
    ("drawing", "words"),
    [
        ("<svg", "an SVG written by"),
        ("<!DOCTYPE svg><svg/>", "it declares a document type"),
        ("<svg><script>1</script></svg>", "shapes only. Got the element script"),
        ("<svg><style>*{color:red}</style></svg>", "shapes only. Got the element style"),
        ("<svg><foreignObject/></svg>", "shapes only. Got the element foreignObject"),
        ('<svg onload="1"/>', "attributes that draw. Got onload"),
        ('<svg xmlns:a="b" a:c="d"/>', "attributes that draw. Got {b}c"),
        ('<svg><use href="https://example.org"/></svg>', "own parts only. Got https://example.org"),
        ('<svg><image href="data:text/html;base64,AA"/></svg>', "own parts only. Got data:text/html"),
        ('<svg><path fill="url(https://example.org)"/></svg>', "own parts only. Got url"),
        ("<g/>", "a drawing. Got g"),
        ("<svg><path/></svg>", "a viewBox of four numbers. Got nothing"),
        ('<svg viewBox="0 0 a 1"/>', "a viewBox of four numbers. Got 0 0 a 1"),
    ],
)
def test_only_drawings_come_into_the_page(tmp_path: Path, drawing: str, words: str) -> None:
    svg = tmp_path / "figure.svg"
    svg.write_text(drawing, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        written(tmp_path, [FigureFile(svg, svg, "t", "a")])


def test_pictures_inside_a_figure_are_kept(tmp_path: Path) -> None:
    svg = tmp_path / "figure.svg"
    svg.write_text('<svg viewBox="0 0 8 4"><image href="data:image/png;base64,iVBOR+/w=="/></svg>', encoding="utf-8")
    page = written(tmp_path, [FigureFile(svg, svg, "t", "a")])
    assert page.all("image", href="data:image/png;base64,iVBOR+/w==")


@pytest.mark.parametrize("key", ["lesson", "claims", "scorecards", "seconds"])
def test_a_result_that_lacks_a_part_is_refused(tmp_path: Path, key: str) -> None:
    result = {name: value for name, value in RESULT.items() if name != key}
    with pytest.raises(ArgumentError, match=f"write_report: a result with {key}"):
        written(tmp_path, [], result=result)


def test_two_units_for_one_metric_are_refused(tmp_path: Path) -> None:
    result = copy.deepcopy(RESULT)
    result["scorecards"]["sgd"]["accuracy"]["unit"] = "percent"
    with pytest.raises(ArgumentError, match=r"write_report: one unit for accuracy\. Got fraction, percent"):
        written(tmp_path, [], result=result)
