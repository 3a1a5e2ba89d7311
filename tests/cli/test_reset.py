"""`coursekit reset`: back to the stub, nothing lost."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coursekit import catalog, progress

from .conftest import Run

ROOT = Path(__file__).parent.parent.parent
LESSON = ROOT / "lessons" / "optimization"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course of its own, in which the learner has solved everything."""
    made = tmp_path / "lessons" / "optimization"
    made.mkdir(parents=True)
    for name in ("lesson.toml", "solution.py"):
        shutil.copy(LESSON / name, made)
    shutil.copy(LESSON / "solution.py", made / "exercises.py")
    monkeypatch.setenv("COURSEKIT_ROOT", str(tmp_path))
    return made


def body_of(text: str, name: str) -> str:
    return text[text.index(f"def {name}(") :].partition("\n\n\n")[0]


def test_an_exercise_goes_back_and_the_rest_stays(run: Run, folder: Path) -> None:
    file, root = folder / "exercises.py", folder.parent.parent
    before = file.read_bytes()
    progress.record(root, "optimization", {"adamw": "pass", "rmsprop": "pass"})
    code, out, err = run("reset", "optimization", "O3")
    assert (code, err) == (0, "")
    after = file.read_text()
    assert body_of(after, "adamw_step").endswith('raise NotImplementedError("O3: write adamw_step")')
    assert after.replace(body_of(after, "adamw_step"), body_of(before.decode(), "adamw_step")).encode() == before
    standings = progress.standings(root)
    assert (standings["optimization/adamw"].verdict, standings["optimization/adamw"].best) == ("not attempted", "pass")
    assert standings["optimization/rmsprop"].verdict == "pass"
    (backup,) = (root / progress.FOLDER / "backups" / "optimization").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-exercises\.py", backup.name)
    assert backup.read_bytes() == before
    assert str(backup) in out
    shutil.copy(backup, file)  # as the printed command does
    assert file.read_bytes() == before


def test_an_exercise_of_two_names(run: Run, folder: Path) -> None:
    assert run("reset", "optimization", "accumulation")[0] == 0
    after = (folder / "exercises.py").read_text()
    for name in ("train_accumulated", "one_cycle"):
        assert f'raise NotImplementedError("O8: write {name}")' in body_of(after, name)


def test_a_class(run: Run, folder: Path) -> None:
    assert run("reset", "optimization", "O4")[0] == 0
    after = (folder / "exercises.py").read_text()
    assert 'raise NotImplementedError("O4: write MyAdamW.step")' in after
    assert "def adamw_step(" in after


def test_every_exercise_ends_as_its_stub(run: Run, folder: Path) -> None:
    for exercise in catalog.lesson("optimization").exercises:
        assert run("reset", "optimization", exercise.code)[0] == 0
    after = (folder / "exercises.py").read_text()
    names = [name for exercise in catalog.lesson("optimization").exercises for name in exercise.names]
    assert len(re.findall("raise NotImplementedError", after)) == len(names) + 1  # MyAdamW has two methods
    backups = list((folder.parent.parent / progress.FOLDER / "backups" / "optimization").iterdir())
    assert len(backups) == len(catalog.lesson("optimization").exercises)  # in one second, too


def test_a_stub_is_left_alone(run: Run, folder: Path) -> None:
    run("reset", "optimization", "O3")
    code, out, _ = run("reset", "optimization", "O3")
    assert code == 0
    assert "holds the stub already; nothing was changed" in out
    assert len(list((folder.parent.parent / progress.FOLDER / "backups" / "optimization").iterdir())) == 1


def test_the_whole_file(run: Run, folder: Path) -> None:
    (folder / "exercises.py").write_bytes(b"\xff not text \x00")
    code, out, _ = run("reset", "optimization", "--all")
    assert (code, "every exercise: back to the stub" in out) == (0, True)
    assert "O1: write sgd_momentum_step" in (folder / "exercises.py").read_text()
    (backup,) = (folder.parent.parent / progress.FOLDER / "backups" / "optimization").iterdir()
    assert backup.read_bytes() == b"\xff not text \x00"


def test_a_file_that_is_gone_comes_back(run: Run, folder: Path) -> None:
    (folder / "exercises.py").unlink()
    code, out, _ = run("reset", "optimization", "--all")
    assert (code, "To undo" in out) == (0, False)
    assert (folder / "exercises.py").is_file()


def test_a_students_bundle_has_the_stubs_in_a_file(run: Run, folder: Path) -> None:
    shutil.copy(LESSON / "exercises.py", folder / "exercises.stub.py")
    (folder / "solution.py").unlink()
    assert run("reset", "optimization", "O1")[0] == 0
    after = (folder / "exercises.py").read_text()
    assert "O1: write sgd_momentum_step" in after
    assert "O2: write rmsprop_step" not in after


def test_a_file_that_is_not_python(run: Run, folder: Path) -> None:
    file = folder / "exercises.py"
    file.write_text(file.read_text().replace("beta1, beta2 = betas", "beta1, beta2 = = betas"))
    assert run("reset", "optimization", "O3")[0] == 0
    compile(file.read_text(), "exercises.py", "exec")


def break_definition(folder: Path) -> None:
    file = folder / "exercises.py"
    file.write_text(file.read_text().replace("def adamw_step(", "df adamw_step("))


@pytest.mark.parametrize(
    ("spoil", "args", "words"),
    [
        (lambda folder: None, ["optimization"], "reset: an exercise or --all. Got neither. Fix: name one, such as O1"),
        (lambda folder: None, ["optimization", "O1", "--all"], "reset: an exercise or --all. Got both."),
        (lambda folder: None, ["optimization", "O99"], "an exercise that exists. Got 'O99'."),
        (lambda folder: None, ["optimisation", "O1"], "a lesson that exists. Got 'optimisation'."),
        (break_definition, ["optimization", "O3"], "one definition of adamw_step. Got 0 lines"),
        (
            lambda folder: (folder / "exercises.py").unlink(),
            ["optimization", "O3"],
            "Fix: reset the whole file with --all.",
        ),
        (
            lambda folder: (folder / "exercises.py").write_bytes(b"\xff"),
            ["optimization", "O3"],
            "UTF-8 text. Got invalid start byte at byte 0. Fix: save it as UTF-8, or reset the whole file with --all.",
        ),
        (
            lambda folder: (folder / "solution.py").unlink(),
            ["optimization", "O3"],
            "a file exercises.stub.py. Got none.",
        ),
        (
            lambda folder: (
                (folder / "solution.py").unlink(),
                (folder / "exercises.stub.py").write_text("x = 1\n"),
            ),
            ["optimization", "O3"],
            "a stub of adamw_step. Got none. Fix: ask for a new bundle.",
        ),
    ],
    ids=["nothing", "both", "exercise", "lesson", "not to be told", "gone", "binary", "no stubs", "old stubs"],
)
def test_what_cannot_be_reset_is_told(
    run: Run, folder: Path, spoil: Callable[[Path], Any], args: list[str], words: str
) -> None:
    spoil(folder)
    file = folder / "exercises.py"
    before = file.read_bytes() if file.exists() else None
    code, out, err = run("reset", *args)
    assert (code, out) == (2, "")
    assert words in err
    assert (file.read_bytes() if file.exists() else None) == before
