"""`coursekit list`: points, standing, and what to do next."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from coursekit import catalog, progress

from .conftest import Run

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course of its own."""
    (tmp_path / "lessons" / "optimization").mkdir(parents=True)
    shutil.copy(ROOT / "lessons" / "optimization" / "lesson.toml", tmp_path / "lessons" / "optimization")
    monkeypatch.setenv("COURSEKIT_ROOT", str(tmp_path))
    return tmp_path


def line_of(out: str, code: str) -> str:
    return next(" ".join(line.split()) for line in out.splitlines() if line.strip().startswith(f"{code} "))


def test_points_and_the_next_exercise(run: Run, root: Path) -> None:
    progress.record(root, "optimization", {"sgd_momentum": "pass", "rmsprop": "fail"}, points={"rmsprop": 2.25})
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert "1 of 8 exercises passed, 8.25 of 100 points" in out
    assert line_of(out, "O1").endswith("6 of 6 points 10 min pass")  # older records hold no points
    assert line_of(out, "O2").endswith("2.25 of 6 points 10 min fail")
    assert "Next: O2 One step of RMSprop, about 10 min." in out
    assert "coursekit hint optimization O2" in out


def test_what_passed_before_is_said(run: Run, root: Path) -> None:
    for verdict in ("pass", "fail"):
        progress.record(root, "optimization", {"adamw": verdict}, points={"adamw": 12 if verdict == "pass" else 3})
    out = run("list", "optimization")[1]
    assert line_of(out, "O3").endswith("3 of 12 points 20 min fail (passed before)")


def test_json_has_points_and_the_best(run: Run, root: Path) -> None:
    progress.record(root, "optimization", {"adamw": "pass with note"}, points={"adamw": 12})
    progress.record(root, "optimization", {"adamw": "fail"}, points={"adamw": 3})
    tree = json.loads(run("list", "--json", "-")[1])
    entries = {entry["id"]: entry for entry in tree["lessons"][0]["exercises"]}
    assert {key: entries["adamw"][key] for key in ("status", "best", "earned", "points")} == {
        "status": "fail",
        "best": "pass with note",
        "earned": 3,
        "points": 12,
    }
    assert entries["rmsprop"]["status"] == entries["rmsprop"]["best"] == "not attempted"


def test_all_done(run: Run, root: Path) -> None:
    progress.record(root, "optimization", {one.id: "pass" for one in catalog.lesson("optimization").exercises})
    out = run("list")[1]
    assert "8 of 8 exercises passed, 100 of 100 points" in out
    assert "Every exercise listed here passes." in out


def test_points_of_an_older_lesson_never_exceed_those_of_the_newer(run: Run, root: Path) -> None:
    progress.record(root, "optimization", {"sgd_momentum": "pass"}, points={"sgd_momentum": 60})
    assert "6 of 100 points" in run("list")[1]


def test_a_damaged_record_is_told(run: Run, root: Path) -> None:
    (root / progress.FOLDER).mkdir()
    (root / progress.FOLDER / "progress.json").write_text("{")
    code, out, err = run("list")
    assert (code, "0 of 8 exercises passed" in out) == (0, True)
    assert "progress.json cannot be read, so your standing is not shown" in err
