from __future__ import annotations

import os
import resource
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from coursekit.errors import ArgumentError, OutputError
from coursekit.plots import Band, FigureFile, curves, matrix, new_figure, save, style
from coursekit.plots.sheet import INK, LOOKS

SVG = "{http://www.w3.org/2000/svg}"
ALT = "Loss falls from 2 to 1."


def simple(title: str = "Loss over steps") -> Figure:
    return curves({"adam": Band([0, 1, 2], [[2, 1, 1], [2, 2, 1]])}, x_label="step", y_label="loss (nats)", title=title)


@pytest.fixture(scope="module")
def figure() -> Figure:
    return simple()


@pytest.fixture(scope="module")
def saved(figure: Figure, tmp_path_factory: pytest.TempPathFactory) -> FigureFile:
    return save(figure, tmp_path_factory.mktemp("figures"), "loss", alt=ALT)


def test_save_writes_two_files_and_their_words(figure: Figure, tmp_path: Path) -> None:
    saved = save(figure, tmp_path / "new" / "figures", "loss", alt=ALT, caption="Two seeds.")
    folder = tmp_path / "new" / "figures"
    assert saved == FigureFile(folder / "loss.svg", folder / "loss.png", "Loss over steps", ALT, "Two seeds.")
    assert sorted(path.name for path in folder.iterdir()) == ["loss.png", "loss.svg"]


def test_a_title_of_ones_own_replaces_the_figures(figure: Figure, tmp_path: Path) -> None:
    assert save(figure, tmp_path, "loss", title="Another", alt=ALT).title == "Another"


def test_a_wrapped_title_is_one_line_again(tmp_path: Path) -> None:
    title = " ".join(["a long title"] * 9)
    assert save(simple(title), tmp_path, "loss", alt=ALT).title == title


def test_equal_figures_give_equal_bytes_however_often_they_are_saved(saved: FigureFile, tmp_path: Path) -> None:
    again = simple()
    for name in ("one", "two"):
        other = save(again, tmp_path / name, "loss", alt=ALT)
        assert other.svg.read_bytes() == saved.svg.read_bytes()
        assert other.png.read_bytes() == saved.png.read_bytes()


def test_the_svg_follows_the_page(saved: FigureFile) -> None:
    text = saved.svg.read_text(encoding="utf-8")
    assert INK not in text
    assert text.count("currentColor") > 20
    assert LOOKS[0]["color"] in text
    for unwanted in ("<style", "<!DOCTYPE", "<?xml", "<metadata", "#ffffff", "<script"):
        assert unwanted not in text


def test_black_on_a_coloured_cell_stays_black(tmp_path: Path) -> None:
    """matplotlib leaves the fill of black text out, so the root must not set another one."""
    figure = matrix([[0, 1]], rows=["r"], columns=["a", "b"], x_label="x", y_label="y", value_label="v", title="t")
    root = ET.fromstring(save(figure, tmp_path, "cells", alt=ALT).svg.read_text(encoding="utf-8"))
    assert "fill" not in root.attrib
    groups = [group for group in root.iter(f"{SVG}g") if (group.get("id") or "").startswith("text_")]
    fills = [group[0].get("style", "") for group in groups]
    assert sum("fill" not in fill for fill in fills) == 1
    assert sum("#ffffff" in fill for fill in fills) == 1


def test_the_svg_says_what_it_shows(figure: Figure, tmp_path: Path) -> None:
    saved = save(figure, tmp_path, "loss", title='5 < 6 & "7"', alt="<script>alert(1)</script>")
    root = ET.fromstring(saved.svg.read_text(encoding="utf-8"))
    title, description = root[0], root[1]
    assert (title.tag, title.text) == (f"{SVG}title", '5 < 6 & "7"')
    assert (description.tag, description.text) == (f"{SVG}desc", "<script>alert(1)</script>")
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"


def test_the_title_is_drawn_in_the_png_only(tmp_path: Path) -> None:
    figure = simple("Zebra")
    saved = save(figure, tmp_path, "loss", alt=ALT)
    assert "<!-- Zebra -->" not in saved.svg.read_text(encoding="utf-8")
    assert "<!-- step -->" in saved.svg.read_text(encoding="utf-8")
    untitled = save(simple(""), tmp_path, "untitled", title="none", alt=ALT)
    assert saved.png.read_bytes() != untitled.png.read_bytes()
    assert figure.get_suptitle() == "Zebra"


def test_the_png_is_opaque_white_at_150_dots_per_inch(saved: FigureFile) -> None:
    image = Image.open(saved.png)
    assert image.size == (1080, 630)
    assert round(image.info["dpi"][0]) == 150
    pixels = np.asarray(image.convert("RGBA"))
    assert (pixels[..., 3] == 255).all()
    assert pixels[0, 0].tolist() == [255, 255, 255, 255]


def test_coordinates_are_short(saved: FigureFile) -> None:
    root = ET.fromstring(saved.svg.read_text(encoding="utf-8"))
    numbers = [number for path in root.iter(f"{SVG}path") for number in path.get("d", "").split()]
    assert len(numbers) > 100
    assert max(len(number.partition(".")[2]) for number in numbers) == 2


@pytest.mark.parametrize("name", ["", "Loss", "a b", "../loss", "loss.svg", "-loss"])
def test_a_name_that_is_no_plain_file_name_is_refused(figure: Figure, tmp_path: Path, name: str) -> None:
    with pytest.raises(ArgumentError, match="save: a name of small letters, digits, - and _"):
        save(figure, tmp_path, name, alt=ALT)


@pytest.mark.parametrize("empty", ["", " \n"], ids=["empty", "blank"])
def test_an_empty_alternative_text_or_title_is_refused(figure: Figure, tmp_path: Path, empty: str) -> None:
    with pytest.raises(ArgumentError, match=r"save: alt of figure loss\. Got nothing"):
        save(figure, tmp_path, "loss", alt=empty)
    with pytest.raises(ArgumentError, match=r"save: title of figure loss\. Got nothing"):
        save(figure, tmp_path, "loss", title=empty, alt=ALT)
    assert not list(tmp_path.iterdir())


def test_a_figure_without_any_title_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="save: title of figure loss"):
        save(simple(""), tmp_path, "loss", alt=ALT)


@pytest.mark.parametrize("letter", ["x", "y"])
def test_an_axis_without_a_label_is_refused(tmp_path: Path, letter: str) -> None:
    figure = simple()
    figure.axes[0].set(**{f"{letter}label": ""})
    with pytest.raises(ArgumentError, match=f"a label with its unit on the {letter} axis of panel 1 in figure loss"):
        save(figure, tmp_path, "loss", alt=ALT)


def test_a_figure_without_axes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"save: axes in figure loss\. Got none"):
        save(Figure(), tmp_path, "loss", title="t", alt=ALT)


def test_shared_labels_count_for_every_panel(tmp_path: Path) -> None:
    with style():
        figure = new_figure("Panels")
        left, right = figure.subplots(1, 2, sharey=True)
        left.set_ylabel("loss (nats)")
        figure.supxlabel("step")
        right.plot([1, 2])
    assert save(figure, tmp_path, "panels", alt=ALT)


def test_pictures_and_colour_bars_need_no_axis_labels_of_their_own(tmp_path: Path) -> None:
    with style():
        figure = new_figure("Picture")
        axes = figure.subplots()
        axes.axis("off")
        bar = figure.colorbar(axes.imshow([[0, 1], [2, 3]]), label="value (1)")
    assert save(figure, tmp_path, "picture", alt=ALT)
    bar.set_label("")
    with pytest.raises(ArgumentError, match="panel 2 in figure picture"):
        save(figure, tmp_path, "picture", alt=ALT)


def test_a_folder_below_a_file_is_refused(figure: Figure, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("here")
    with pytest.raises(OutputError, match="a place that can be written to"):
        save(figure, tmp_path / "taken" / "figures", "loss", alt=ALT)


def test_a_disk_that_fills_up_leaves_older_files_whole(tmp_path: Path) -> None:
    older = save(simple("Older"), tmp_path, "loss", alt=ALT)
    before = {path: path.read_bytes() for path in (older.svg, older.png)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match=r"loss\.svg: a place that can be written to"):
            save(simple("Newer"), tmp_path, "loss", alt=ALT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(figure: Figure, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="choose a folder that you may write to"):
        save(figure, tmp_path, "loss", alt=ALT)
