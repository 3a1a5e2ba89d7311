"""What `coursekit new` lays out works at once, and leaves what was there alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coursekit import catalog
from coursekit.config import resolve
from coursekit.errors import LessonError, OutputError
from coursekit.grading.authoring import scaffold
from coursekit.grading.authoring.scaffold import new_exercise, new_stubs
from coursekit.grading.authoring.stubs import exercise_names, stub_source
from coursekit.grading.proof.verify import verify

from ..conftest import SOLUTION

ROOT = Path(__file__).resolve().parents[3]
GROWS = ["alternatives.py", "exercises.py", "lesson.toml", "solution.py", "test_exercises.py", "wrong_answers.py"]


@pytest.fixture
def empty(course):
    """A course that has the toy lesson, with stubs."""
    course.write("exercises.py", stub_source(SOLUTION, exercise_names(course.lesson)))
    catalog._lessons.cache_clear()
    yield course
    catalog._lessons.cache_clear()


def made(lesson: str, name: str) -> tuple[Path, ...]:
    files = new_exercise(lesson, name)
    catalog._lessons.cache_clear()
    return files


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and "__pycache__" not in str(file)}


def test_a_new_lesson_is_complete_and_only_words_are_missing(empty):
    files = made("series", "root_of_squares")
    folder = empty.root / "lessons" / "series"
    parts = ["README.md", "__init__.py", "config.py", "lesson.py", "probes.py"]
    assert {file.name for file in files if file.parent == folder} == {*parts, *GROWS}
    assert empty.root / "configs" / "series.yaml" in files
    entry = catalog.lesson("series")
    assert (entry.order, [one.code for one in entry.exercises]) == (2, ["S1"])
    proof = verify(entry, (0,))
    assert [row for row in proof.rows if not row.ok] == []
    assert {row.kind for row in proof.rows} == {"stub", "solution", "alternative", "wrong", "mutant"}
    words = [one for one in proof.findings if not one.startswith("still to be written in lessons/series/")]
    assert words == [
        "root_of_squares has 1 of kind alternative, and needs 2: write more in lessons/series/alternatives.py",
        "root_of_squares has 2 of kind wrong, and needs 5: write more in lessons/series/wrong_answers.py",
    ]
    missing = "\n".join(proof.findings)
    for wanted in ("README.md, line 3", "lesson.toml, line 4: measure how long", "paper and equation", "the idea in"):
        assert wanted in missing


def test_an_exercise_is_appended_and_nothing_else_changes(empty):
    work = (empty.folder / "exercises.py").read_text() + "\n\ndef _my_own(x):  # half-done\n    return x\n"
    (empty.folder / "exercises.py").write_text(work)
    before = contents(empty.root)
    files = made("toy", "third")
    after = contents(empty.root)
    assert sorted(file.name for file in files) == GROWS
    assert set(after) == set(before)
    for file, old in before.items():
        assert after[file].startswith(old)
        assert (after[file] != old) == (file in files)
    assert [one.code for one in catalog.lesson("toy").exercises] == ["T1", "T2", "T3"]
    proof = verify(catalog.lesson("toy"), (0,), exercise="T3")
    assert [row for row in proof.rows if not row.ok] == []
    assert not [one for one in proof.findings if "exercises.py" in one and "test_exercises" not in one]


def test_what_the_parts_need_is_imported_once(empty):
    """The toy's alternatives import no torch."""
    made("toy", "third")
    made("toy", "fourth")
    text = (empty.folder / "alternatives.py").read_text()
    assert text.count("import torch  # noqa: E402") == 1
    assert text.count("from coursekit.grading.answers import alternative") == 1


def test_an_odd_end_of_a_file_is_no_trouble(empty):
    file = empty.folder / "solution.py"
    file.write_bytes(file.read_bytes().rstrip(b"\n"))
    made("toy", "third")
    assert verify(catalog.lesson("toy"), (0,), exercise="T3").rows[1].verdict == "pass"


def test_a_first_lesson_in_an_empty_course(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSEKIT_ROOT", str(tmp_path))
    made("series", "root_of_squares")
    assert [entry.order for entry in catalog.lessons()] == [1]
    assert (tmp_path / "lessons" / "__init__.py").is_file()
    catalog._lessons.cache_clear()


def test_the_settings_of_a_new_lesson_read_well(empty):
    made("series", "root_of_squares")
    entry = catalog.lesson("series")
    for profile in ("quick", "full", "gpu"):
        resolve(catalog.load(entry, "config").Config, entry.config_file, profile)


@pytest.mark.slow
def test_a_new_lesson_runs_and_pytest_grades_it(empty):
    made("series", "root_of_squares")
    given = os.environ | {"COURSEKIT_ROOT": str(empty.root), "PYTHONPATH": f"{empty.root}{os.pathsep}{ROOT}"}
    program = [sys.executable, "-m", "coursekit", "run", "series", "training.epochs=8", "--quiet", "--check"]
    done = subprocess.run(program, cwd=empty.root, env=given, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[-300:]) == (0, done.stderr[-300:])
    program = [sys.executable, "-m", "pytest", "lessons/series", "-q"]
    done = subprocess.run(program, cwd=empty.root, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not attempted" in done.stdout


@pytest.mark.parametrize(
    ("lesson", "name", "words"),
    [
        ("Series", "third", r"lesson: 3 to 40 small letters, digits and _, a letter first\. Got 'Series'\."),
        ("../up", "third", r"lesson: 3 to 40 small letters"),
        ("series", "a-b", r"exercise: 3 to 40 small letters"),
        ("series", "ab", r"exercise: 3 to 40 small letters"),
        ("series", "x" * 41, r"exercise: 3 to 40 small letters"),
        ("import", "third", r"lesson: 3 to 40 small letters"),
        ("series", "sum", r"exercise: a name of its own\. Got sum\. Fix: choose another name"),
        ("series", "torch", r"exercise: a name of its own\. Got torch"),
        ("toy", "double", r"lesson toy: an exercise that is new\. Got double\. Fix: choose another name; `"),
        ("toy", "math", r"solution\.py: a name that is not used yet\. Got math\."),
    ],
)  # fmt: skip
def test_names_that_cannot_be_used(empty, lesson, name, words):
    before = contents(empty.root)
    with pytest.raises(LessonError, match=words):
        new_exercise(lesson, name)
    assert contents(empty.root) == before


@pytest.mark.parametrize("file", ["exercises.py", "solution.py", "wrong_answers.py"])
def test_a_file_that_is_no_python_stops_all(empty, file):
    (empty.folder / file).write_text("def f(:\n")
    before = contents(empty.root)
    with pytest.raises(LessonError, match=rf"{file}: valid Python.*nothing was written"):
        new_exercise("toy", "third")
    assert contents(empty.root) == before


def test_a_file_that_is_no_text_stops_all(empty):
    (empty.folder / "solution.py").write_bytes(b"\xff\xfe")
    with pytest.raises(LessonError, match=r"solution\.py: a file of UTF-8 text\. Got other bytes"):
        new_exercise("toy", "third")


def test_a_learners_function_of_that_name_is_not_doubled(empty):
    file = empty.folder / "exercises.py"
    file.write_text(file.read_text() + "\n\ndef third(x):\n    return x\n")
    with pytest.raises(LessonError, match=r"exercises\.py: a name that is not used yet\. Got third"):
        new_exercise("toy", "third")


def test_a_folder_that_is_no_lesson_is_left_alone(empty):
    (empty.root / "lessons" / "series").mkdir()
    with pytest.raises(LessonError, match=r"a lesson with a lesson\.toml, or no folder yet\. Got a folder without one"):
        new_exercise("series", "third")


@pytest.mark.parametrize("lesson", ["toy", "series"])
def test_a_write_that_fails_leaves_all_as_it_was(empty, monkeypatch, lesson):
    before = contents(empty.root)
    write = scaffold.write_atomically

    def fails(path: Path, content: str | bytes) -> Path:
        if path.name == "test_exercises.py" and isinstance(content, str):
            raise OutputError(str(path), "a place that can be written to", got="no space left", fix="free some")
        return write(path, content)

    monkeypatch.setattr(scaffold, "write_atomically", fails)
    with pytest.raises(OutputError, match="no space left"):
        new_exercise(lesson, "third")
    assert contents(empty.root) == before
    assert not (empty.root / "lessons" / "series").exists()


def test_stubs_are_made_again_and_never_over_work(empty):
    file = empty.folder / "exercises.py"
    whole = file.read_text()
    file.write_text(whole.replace("Return 2x", "Return x twice"))
    assert new_stubs(empty.lesson) == file
    assert file.read_text() == whole
    file.write_text(whole.replace('raise NotImplementedError("T1: write double")', "return 2 * x"))
    with pytest.raises(LessonError, match=r"stubs alone, nothing that someone wrote\. Got work in double\. Fix: keep"):
        new_stubs(empty.lesson)
    assert "return 2 * x" in file.read_text()
    file.unlink()
    new_stubs(empty.lesson)
    assert file.read_text() == whole
