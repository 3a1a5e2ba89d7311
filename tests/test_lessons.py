"""Every lesson on disk: complete, provable, runnable, and true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coursekit import catalog
from coursekit.config import resolve
from coursekit.grading.stubs import drift
from coursekit.grading.verify import verify

ROOT = Path(__file__).resolve().parent.parent
LESSONS = [entry.id for entry in catalog.lessons()]
PARTS = [
    "README.md",
    "alternatives.py",
    "config.py",
    "exercises.py",
    "lesson.py",
    "lesson.toml",
    "solution.py",
    "test_exercises.py",
    "wrong_answers.py",
]


def test_the_catalogue_is_what_lies_on_disk():
    folders = {path.name for path in (ROOT / "lessons").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(LESSONS) == folders
    assert LESSONS, "zero lessons are never fine"


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_has_all_its_parts(name):
    entry = catalog.lesson(name)
    missing = [part for part in PARTS if not (entry.folder / part).is_file()]
    assert not missing
    assert entry.config_file.is_file()


@pytest.mark.parametrize("name", LESSONS)
def test_every_picture_in_the_text_is_there(name):
    folder = catalog.lesson(name).folder
    text = (folder / "README.md").read_text(encoding="utf-8")
    named = [part.partition(")")[0] for part in text.split("](")[1:] if part.startswith("figures/")]
    assert named, "a lesson shows what it found"
    assert [picture for picture in named if not (folder / picture).is_file()] == []
    assert {f"figures/{path.name}" for path in (folder / "figures").iterdir()} == set(named)


@pytest.mark.parametrize("name", LESSONS)
def test_the_stubs_follow_the_solution(name):
    """Names, signatures and docstrings; the bodies are the learner's."""
    entry = catalog.lesson(name)
    names = [part for exercise in entry.exercises for part in exercise.names]
    stubs = (entry.folder / "exercises.py").read_text(encoding="utf-8")
    solution = (entry.folder / "solution.py").read_text(encoding="utf-8")
    assert drift(stubs, solution, names) == []


@pytest.mark.parametrize("name", LESSONS)
def test_the_graders_prove_themselves(name):
    """Stubs, solutions, alternatives, dialects and wrong answers each get their verdict; on more seeds when slow."""
    proof = verify(catalog.lesson(name), seeds=[0])
    assert [row for row in proof.rows if not row.ok] == []
    assert proof.findings == ()
    assert {row.kind for row in proof.rows} >= {"stub", "solution", "alternative", "wrong"}


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_the_graders_prove_themselves_on_many_seeds(name):
    proof = verify(catalog.lesson(name), seeds=range(1, 21))
    assert [row for row in proof.rows if not row.ok] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
@pytest.mark.parametrize("seeds", [[0, 1, 2], [3, 4, 5], [6, 7, 8]], ids=str)
def test_every_claim_holds(name, seeds, tmp_path):
    """The quick profile on three times three seeds: what holds for one choice of seeds alone teaches nothing."""
    chosen = f"seeds={json.dumps(seeds)}"
    command = [sys.executable, "-m", "coursekit", "run", name, "--quick", "--out", str(tmp_path), "--quiet", chosen]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["claims"]
    assert [claim for claim in result["claims"] if not claim["holds"]] == []


@pytest.mark.parametrize("name", LESSONS)
def test_the_configuration_reads_well(name):
    entry = catalog.lesson(name)
    config = resolve(catalog.load(entry, "config").Config, entry.config_file, "quick")
    assert config.training  # pyright: ignore[reportAttributeAccessIssue]
    assert len(config.seeds) >= 3, "a claim over seeds needs seeds"  # pyright: ignore[reportAttributeAccessIssue]
