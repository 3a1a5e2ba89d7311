"""`coursekit explain`: after a pass, and not before."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coursekit import catalog, progress
from coursekit.cli import app

ROOT = Path(__file__).parent.parent.parent
LESSON = ROOT / "lessons" / "optimization"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the program in this process; return its exit code and what it printed, in one line."""

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["coursekit", *args])
        with pytest.raises(SystemExit) as ended:
            app.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), " ".join(out.split()), " ".join(err.split())

    return call


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course of its own."""
    made = tmp_path / "lessons" / "optimization"
    made.mkdir(parents=True)
    for name in ("lesson.toml", "wrong_answers.py", "alternatives.py"):
        shutil.copy(LESSON / name, made)
    monkeypatch.setenv("COURSEKIT_ROOT", str(tmp_path))
    return made


def passed(folder: Path, *verdicts: str, exercise: str = "adamw") -> None:
    for verdict in verdicts:
        progress.record(folder.parent.parent, "optimization", {exercise: verdict})


def test_after_a_pass_all_is_told(run: Run, folder: Path) -> None:
    passed(folder, "pass")
    code, out, err = run("explain", "optimization", "O3")
    exercise = catalog.lesson("optimization").exercise("O3")
    assert (code, err) == (0, "")
    assert " ".join(exercise.explanation.split()) in out
    assert exercise.source in out
    assert "Ruled out, each by a check: - The bias correction is missing" in out
    assert "Other conventions, which pass with a note: - Your decay shrinks the weight after the step" in out
    assert "Other ways to write it: - PyTorch's own order" in out
    assert "momentum" not in out  # of another exercise


def test_every_sentence_of_the_known_answers_is_found(run: Run, folder: Path) -> None:
    """As many as the marks in the files, counted in another way."""
    told = 0
    for exercise in catalog.lesson("optimization").exercises:
        passed(folder, "pass", exercise=exercise.id)
        told += run("explain", "optimization", exercise.code)[1].count(" - ")
    texts = [(folder / f"{name}.py").read_text() for name in ("wrong_answers", "alternatives")]
    marks = [line for text in texts for line in text.splitlines() if line.startswith(("@wrong(", "@dialect(", "@alt"))]
    assert told == len(marks) > 100


@pytest.mark.parametrize("verdicts", [["pass with note"], ["pass", "fail"]], ids=["with a note", "it passed before"])
def test_a_pass_is_a_pass(run: Run, folder: Path, verdicts: list[str]) -> None:
    passed(folder, *verdicts)
    assert run("explain", "optimization", "O3")[0] == 0


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [([], "it was not graded yet"), (["fail"], "the last verdict is `fail`"), (["not attempted"], "`not attempted`")],
    ids=["never", "fail", "stub"],
)
def test_before_a_pass_it_refuses_kindly(run: Run, folder: Path, verdicts: list[str], words: str) -> None:
    passed(folder, *verdicts)
    code, out, err = run("explain", "optimization", "O3")
    assert (code, err) == (1, "")
    assert words in out
    assert "coursekit hint optimization O3" in out
    assert catalog.lesson("optimization").exercise("O3").explanation[:30] not in out


def test_a_students_bundle_has_no_known_answers(run: Run, folder: Path) -> None:
    for name in ("wrong_answers", "alternatives"):
        (folder / f"{name}.py").unlink()
    passed(folder, "pass")
    code, out, err = run("explain", "optimization", "O3")
    assert (code, err) == (0, "")
    assert "Ruled out, each" not in out


def test_known_answers_that_are_not_python_are_told(run: Run, folder: Path) -> None:
    (folder / "wrong_answers.py").write_text("def (")
    passed(folder, "pass")
    code, _, err = run("explain", "optimization", "O3")
    assert code == 2
    assert "wrong_answers.py: valid Python." in err


@pytest.mark.parametrize("verb", ["explain", "reset", "hint"])
def test_nothing_heavy_is_imported(folder: Path, verb: str) -> None:
    passed(folder, "pass")
    for name in ("solution.py", "exercises.py"):
        shutil.copy(LESSON / name, folder)
    program = """if True:
        import sys
        from coursekit.cli import main
        try:
            main()
        finally:
            print("heavy:", *sorted({"torch", "numpy", "watchfiles"} & set(sys.modules)))
    """
    command = [sys.executable, "-c", program, verb, "optimization", "O3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "heavy:"
