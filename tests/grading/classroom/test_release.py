"""The students' bundle: a course that works, in which no answer is left; and a wheel without lessons."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from coursekit import catalog
from coursekit.cli import app
from coursekit.errors import LessonError, OutputError
from coursekit.grading.authoring.stubs import exercise_names, stub_source
from coursekit.grading.classroom import release as module
from coursekit.grading.classroom.release import release

from ..conftest import TOML

ROOT = Path(__file__).resolve().parents[3]
SECRET = ("solution.py", "alternatives.py", "wrong_answers.py")


@pytest.fixture
def verdicts(monkeypatch):
    """In the place of grading in the bundle: what must come; to be changed by the test."""

    class Verdicts:
        stub = "not attempted"
        solution = "pass"

        def __call__(self, lesson, stage, file):
            text = file.read_text()
            mine = self.stub if "raise NotImplementedError" in text else self.solution
            assert not [name for name in SECRET if list(stage.rglob(name))]
            assert stage not in file.parents
            return {exercise.id: mine for exercise in lesson.exercises}

    made = Verdicts()
    monkeypatch.setattr(module, "_verdicts", made)
    return made


@pytest.fixture
def real(tmp_path, monkeypatch):
    """A copy of the real course, as the only one."""
    for name in ("lessons", "configs"):
        shutil.copytree(ROOT / name, tmp_path / "course" / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("COURSEKIT_ROOT", str(tmp_path / "course"))
    return tmp_path / "course" / "lessons" / "optimization"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_bundle_holds_what_students_need_and_no_answer(real, tmp_path, verdicts):
    (real / "VERIFIED.md").write_text("adamw_step: 1 - betas[0] -> 1 + betas[0]")
    (real / "weights.pt").write_bytes(b"\x80")
    (real / "__pycache__").mkdir()
    (real / "__pycache__" / "solution.cpython-311.pyc").write_bytes(b"x")
    (real / ".solution.py.swp").write_bytes(b"x")
    (real / "notes.py").symlink_to(real / "solution.py")
    (real / "exercises.py").write_text("# an author's trial")
    lesson = catalog.lesson("optimization")
    made = release([lesson], tmp_path / "bundle")
    bundle = tmp_path / "bundle"
    parts = {*("README.md", "__init__.py", "config.py", "exercises.py", "exercises.stub.py", "lesson.py")}
    parts |= {
        "lesson.toml",
        "probes.py",
        "test_exercises.py",
        *(f"figures/{p.name}" for p in (real / "figures").iterdir()),
    }
    wanted = {f"lessons/optimization/{name}" for name in parts}
    wanted |= {"README.md", ".gitignore", "lessons/__init__.py", "configs/optimization.yaml"}
    assert files(bundle) == set(made.files) == wanted
    assert made.left_out == ("optimization/VERIFIED.md", "optimization/notes.py", "optimization/weights.pt")
    stub = stub_source((real / "solution.py").read_text(encoding="utf-8"), exercise_names(lesson))
    for name in ("exercises.py", "exercises.stub.py"):
        assert (bundle / "lessons" / "optimization" / name).read_text(encoding="utf-8") == stub
    assert bundle.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".release")] == []


def test_notes_on_mutants_are_taken_out(real, tmp_path, verdicts):
    before = tomllib.loads((real / "lesson.toml").read_text(encoding="utf-8"))
    assert any("equivalent" in exercise for exercise in before["exercises"]), "the test would see nothing"
    release([catalog.lesson("optimization")], tmp_path / "bundle")
    text = (tmp_path / "bundle" / "lessons" / "optimization" / "lesson.toml").read_text(encoding="utf-8")
    for exercise in before["exercises"]:
        exercise.pop("equivalent", None)
    assert tomllib.loads(text) == before
    assert "mutant" not in text


@pytest.mark.parametrize(
    "notes",
    ["equivalent = []", 'equivalent = [{ mutant = "]]", because = "[" }]', "  equivalent=[\n\n  # ]\n{a=1},\n]\n"],
    ids=["empty", "brackets", "lines"],
)
def test_notes_are_taken_out_however_they_are_written(course, notes):
    text = TOML.replace('source = "arithmetic"', f'source = "arithmetic"\n{notes}')
    assert text.count(notes) == 2
    assert tomllib.loads(module._without_authors_notes(text, course.lesson)) == tomllib.loads(TOML)


def test_notes_that_cannot_be_taken_out_are_told(course):
    text = f"{TOML}\n[[exercises.equivalent]]\nmutant = 'x'\n"
    with pytest.raises(LessonError, match=r"lesson\.toml: notes that can be taken out"):
        module._without_authors_notes(text, course.lesson)


def hide_in_the_lesson(folder):
    text = (folder / "solution.py").read_text(encoding="utf-8")
    body = text[text.index("def rmsprop_step") : text.index("def adamw_step")]
    with (folder / "lesson.py").open("a", encoding="utf-8") as file:
        file.write("\n\n" + body.replace("rmsprop_step", "reference"))


def hide_in_the_text(folder):
    lines = (folder / "alternatives.py").read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("def adamw_in_pytorch_order"))
    with (folder / "README.md").open("a", encoding="utf-8") as file:
        file.write("\n```\n" + "\n".join(lines[start + 1 : start + 7]) + "\n```\n")


def hide_in_a_hint(folder):
    text = (folder / "lesson.toml").read_text(encoding="utf-8")
    lines = (folder / "solution.py").read_text(encoding="utf-8").splitlines()
    end = next(n for n, line in enumerate(lines) if line.startswith("def adamw_step"))
    body = [line.strip() for line in lines[:end] if line.strip()][-2:]  # of rmsprop_step
    hint = "\\n".join(line.replace('"', '\\"') for line in body)
    (folder / "lesson.toml").write_text(text.replace('source = "', f'source = "{hint} ', 1), encoding="utf-8")


def hide_in_the_configuration(folder):
    lines = (folder / "solution.py").read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if "math.cos" in line)
    with (folder.parent.parent / "configs" / "optimization.yaml").open("a", encoding="utf-8") as file:
        file.write("\n".join(f"# {line}" for line in lines[start - 3 : start + 1]))


@pytest.mark.parametrize(
    ("hide", "place"),
    [
        (hide_in_the_lesson, r"lessons/optimization/lesson\.py, line \d+: code of rmsprop_step in solution\.py"),
        (hide_in_the_text, r"README\.md, line \d+: code of adamw_in_pytorch_order in alternatives\.py"),
        (hide_in_a_hint, r"lesson\.toml, line \d+: code of \w+ in solution\.py"),
        (hide_in_the_configuration, r"configs/optimization\.yaml, line \d+: code of \w+ in solution\.py"),
    ],
    ids=["lesson", "text", "hint", "configuration"],
)
def test_an_answer_that_leaks_stops_the_release(real, tmp_path, verdicts, hide, place):
    hide(real)
    with pytest.raises(LessonError, match=rf"no code of the answers in the bundle\. Got .*{place}"):
        release([catalog.lesson("optimization")], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["course"]


@pytest.mark.parametrize(
    ("stub", "solution", "words"),
    [
        ("fail", "pass", r"not attempted for every exercise of exercises\.py, .* Got double: fail, average: fail\."),
        ("not attempted", "timeout", r"pass for every exercise of solution\.py, .* Got double: timeout"),
    ],
    ids=["stub", "solution"],
)
def test_a_bundle_that_does_not_grade_is_refused(course, tmp_path, verdicts, stub, solution, words):
    verdicts.stub, verdicts.solution = stub, solution
    with pytest.raises(LessonError, match=words):
        release([course.lesson], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    "line",
    [
        "from lessons.toy.solution import double",
        "from lessons.toy import probes, solution",
        "import lessons.toy.wrong_answers",
        "from . import solution",
        "from .alternatives import by_shift",
        "def f():\n    from lessons.toy.solution import double",
    ],
)
def test_an_import_of_what_students_lack_is_refused(course, tmp_path, verdicts, line):
    course.write("probes.py", f"{line}\n")
    with pytest.raises(LessonError, match=r"lessons/toy/probes\.py, line \d: imports that students have too"):
        release([course.lesson], tmp_path / "bundle")


def test_the_real_grader_proves_the_bundle(course, tmp_path, monkeypatch, capsys):
    """Not a stand-in: stubs and solution are graded in the bundle, which is left as it was."""
    bundle = tmp_path / "bundle"
    monkeypatch.setattr(sys, "argv", ["coursekit", "release", "toy", "toy", "--out", str(bundle), "--zip"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code in (0, None)
    assert "every stub is not attempted; every solution passes in it" in capsys.readouterr().out
    assert not list(bundle.rglob("__pycache__"))
    assert not list(bundle.rglob(".coursekit"))
    assert (tmp_path / "bundle.zip").is_file()
    course.write("test_exercises.py", "import no_such_module")
    words = r"release toy: .*(?:a bundle that can be graded|not attempted for every exercise)"
    with pytest.raises(LessonError, match=words):
        release([course.lesson], tmp_path / "other")


def test_the_same_lessons_make_the_same_zip(course, tmp_path, verdicts):
    first = release([course.lesson], tmp_path / "one" / "bundle", archive=True).archive
    for file in course.folder.iterdir():
        if file.is_file():
            os.utime(file, (1, 1))
            file.chmod(0o600)
    second = release([course.lesson], tmp_path / "two" / "bundle", archive=True).archive
    assert first is not None
    assert second is not None
    assert hashlib.sha256(first.read_bytes()).digest() == hashlib.sha256(second.read_bytes()).digest()
    with zipfile.ZipFile(first) as archive:
        names = archive.namelist()
        assert {name.removeprefix("bundle/") for name in names} == files(tmp_path / "one" / "bundle")
        assert not [name for name in names if Path(name).name in SECRET]


# Where it is written


@pytest.mark.parametrize(
    "take", [lambda out: (out.mkdir(), (out / "x").touch()), lambda out: out.touch()], ids=["folder", "file"]
)
def test_a_place_that_is_taken_is_refused(course, tmp_path, take):
    take(tmp_path / "bundle")
    with pytest.raises(OutputError, match="a new or empty folder"):
        release([course.lesson], tmp_path / "bundle")


def test_an_empty_folder_is_taken(course, tmp_path, verdicts):
    (tmp_path / "bundle").mkdir()
    assert "README.md" in release([course.lesson], tmp_path / "bundle").files


def test_a_zip_that_is_there_is_kept(course, tmp_path):
    (tmp_path / "bundle.zip").write_text("mine")
    with pytest.raises(OutputError, match=r"a zip that is not there yet"):
        release([course.lesson], tmp_path / "bundle", archive=True)
    assert (tmp_path / "bundle.zip").read_text() == "mine"


def test_a_lesson_comes_with_those_that_it_needs(course, tmp_path):
    second = course.lesson.model_copy(update={"id": "second", "needs": ("toy",)})
    with pytest.raises(LessonError, match="Fix: release toy second"):
        release([second], tmp_path / "bundle")


def test_a_bundle_is_not_released_again(course, tmp_path):
    (course.folder / "solution.py").unlink()
    with pytest.raises(LessonError, match="release from the course itself"):
        release([course.lesson], tmp_path / "bundle")


# The wheel


def test_the_wheel_holds_the_program_and_no_lesson():
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    targets = tree["tool"]["hatch"]["build"]["targets"]
    assert set(targets) == {"wheel"}
    assert targets["wheel"] == {"packages": ["coursekit"]}
    inside = [path.name for path in (ROOT / "coursekit").rglob("*.py")]
    assert len(inside) > 50
    assert not set(inside) & {*SECRET, "exercises.py", "test_exercises.py"}


@pytest.mark.slow
def test_lesson_1_runs_in_its_bundle(tmp_path):
    """The experiment and the grading, as a student has them: no file of answers anywhere up the tree."""
    release([catalog.lesson("optimization")], tmp_path / "bundle")
    environment = {**os.environ, "COURSEKIT_ROOT": str(tmp_path / "bundle")}

    def coursekit(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "coursekit", *args]
        return subprocess.run(
            command, cwd=tmp_path / "bundle", env=environment, capture_output=True, text=True, check=False
        )

    done = coursekit("run", "optimization", "training.epochs=4", "seeds=[0]", "--quiet", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    done = coursekit("grade", "optimization", "--json", "-")
    assert done.returncode == 1, done.stderr
    assert {part["verdict"] for part in json.loads(done.stdout)["exercises"]} == {"not attempted"}
    assert coursekit("hint", "optimization", "O1").returncode == 0
