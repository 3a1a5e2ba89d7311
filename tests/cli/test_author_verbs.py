"""The author's verbs as they are typed: verify, new, stubs."""

from __future__ import annotations

import gc
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from coursekit import catalog
from coursekit.cli import app
from coursekit.cli.verify import _progress

PROGRAM = (
    "import sys; from coursekit.cli import main\ntry: main()\nfinally: print('torch' in sys.modules, file=sys.stderr)"
)


class Done(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    """A function that runs the program in this process, in a course that holds one skeleton, `series`."""
    monkeypatch.setenv("COURSEKIT_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "lessons"}
    path = list(sys.path)

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "lessons"]:
            del sys.modules[name]
        catalog._lessons.cache_clear()

    def run(*args: str) -> Done:
        catalog._lessons.cache_clear()
        monkeypatch.setattr(sys, "argv", ["coursekit", *args])
        with pytest.raises(SystemExit) as ended:
            app.main()
        out, err = capfd.readouterr()
        return Done(int(ended.value.code or 0), str(out), str(err))

    forget()
    assert run("new", "series/root_of_squares").code == 0
    yield run
    forget()
    sys.modules.update(kept)
    sys.path[:] = path
    gc.unfreeze()


def finished(folder: Path) -> None:
    """Write what the skeleton of `series` leaves to its author."""
    for file in folder.glob("*.*"):
        file.write_text(file.read_text().replace("TODO ", "").replace("TODO: ", ""))
    more = '\n\n@{0}("root_of_squares", says="{1}")\ndef {2}(x):\n    return {3}\n'
    right = more.format("alternative", "a power", "by_a_power", "x.square().mean() ** 0.5")
    wrong = [("the largest", "largest", "x.max()"), ("twice", "twice", "2 * x.square().mean().sqrt()")]
    wrong += [("no square", "no_square", "x.abs().mean()")]
    with (folder / "alternatives.py").open("a") as file:
        file.write(right)
    with (folder / "wrong_answers.py").open("a") as file:
        file.writelines(more.format("wrong", f"You took {says}.", name, code) for says, name, code in wrong)
    solution = folder / "solution.py"
    exercises = folder / "exercises.py"
    stub = solution.read_text().replace("return torch.sqrt(torch.mean(x**2))", 'raise NotImplementedError("S1")')
    exercises.write_text(stub)


def test_new_says_what_it_wrote_and_what_is_next(here: Any) -> None:
    done = here("new", "series/second_root")
    assert done.code == 0
    assert "lessons/series/solution.py\n" in done.out
    assert "`coursekit verify series --exercise second_root` says what is still missing" in done.out
    listed = json.loads(here("list", "--json", "-").out)["lessons"]
    assert [one["code"] for one in listed[0]["exercises"]] == ["S1", "S2"]


def test_verify_says_what_is_missing_and_fails(here: Any) -> None:
    done = here("verify", "series", "--seeds", "1")
    assert done.code == 1
    assert "MISSING still to be written in lessons/series/lesson.toml, line 1: the title of series" in done.out
    assert "MISSING root_of_squares has 2 of kind wrong, and needs 5" in done.out
    assert "13 of 13 mutants die (100.0 %), 0 live without a reason." in done.out
    assert "23 of 23 rows as they must be" in done.out
    assert done.err == ""


def test_a_finished_lesson_is_proved_and_published(here: Any, tmp_path: Path) -> None:
    finished(tmp_path / "lessons" / "series")
    done = here("verify", "series", "--seeds", "2", "--publish")
    assert (done.code, done.out.count("\n")) == (0, 2), done.out
    page = (tmp_path / "lessons" / "series" / "VERIFIED.md").read_text()
    assert "the seeds 0 to 1" in page
    assert f"written: {tmp_path / 'lessons' / 'series' / 'VERIFIED.md'}" in done.err


def test_an_unfinished_lesson_is_not_published(here: Any, tmp_path: Path) -> None:
    done = here("verify", "series", "--seeds", "1", "--publish")
    assert done.code == 2
    assert "verify series --publish: a proof without a gap. Got the rows and findings above." in done.err
    assert "MISSING" in done.out
    assert not (tmp_path / "lessons" / "series" / "VERIFIED.md").exists()


def test_verify_as_json(here: Any) -> None:
    done = here("verify", "--seeds", "1", "--no-mutants", "--json", "-")
    tree = json.loads(done.out)
    assert (done.code, set(tree)) == (1, {"rows", "summary"})
    assert {"ok", "rows", "failed", "findings", "kinds", "mutants"} == set(tree["summary"])
    assert tree["summary"]["kinds"] == {"stub": 1, "solution": 1, "alternative": 1, "wrong": 7}
    keys = {"lesson", "exercise", "submission", "kind", "expected", "verdict", "diagnosis", "ok"}
    assert {frozenset(row) for row in tree["rows"]} == {frozenset(keys)}
    mutants = json.loads(here("verify", "series", "--seeds", "1", "--json", "-").out)["summary"]["mutants"]
    assert (mutants["killed"], mutants["total"], mutants["survivors"]) == (13, 13, [])
    assert sum(one["total"] for one in mutants["operators"].values()) == 13


def test_a_row_that_is_not_ok_is_printed(here: Any, tmp_path: Path) -> None:
    file = tmp_path / "lessons" / "series" / "test_exercises.py"
    file.write_text(file.read_text().replace("where=", "rtol=10, where="))
    done = here("verify", "series", "--exercise", "S1", "--seeds", "1")
    assert done.code == 1
    assert "NOT OK  series/root_of_squares  wrong null-zeros: expected fail, got pass, diagnosed as nothing" in done.out
    lives = r"^NOT OK  series/root_of_squares  mutant root_of_squares: .*: expected fail, got pass$"
    assert re.search(lives, done.out, re.MULTILINE)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["new", "series"], r"new: a lesson and an exercise, LESSON/EXERCISE. Got 'series'. Fix: write both"),
        (["new", "a/b/c"], "new: a lesson and an exercise"),
        (["new", "series/root_of_squares"], "an exercise that is new. Got root_of_squares"),
        (["stubs", "serie"], "did you mean `series`?"),
        (["verify", "--exercise", "S1"], "verify --exercise: a lesson too. Got none"),
        (["verify", "series", "--exercise", "S9"], "an exercise that exists. Got 'S9'"),
        (["verify", "series", "--publish", "--no-mutants"], "verify --publish: the whole proof. Got a part of it"),
        (["verify", "series", "--publish", "--exercise", "S1"], "verify --publish: the whole proof"),
        (["verify", "series", "--seeds", "0"], "Invalid value for '--seeds'"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_told(here: Any, args: list[str], words: str) -> None:
    done = here(*args)
    assert (done.code, done.out) == (2, "")
    assert words in " ".join(done.err.split())


def test_stubs_are_printed_or_written(here: Any, tmp_path: Path) -> None:
    file = tmp_path / "lessons" / "series" / "exercises.py"
    whole = file.read_text()
    assert here("stubs", "series", "--print") == (0, whole, "")
    file.unlink()
    assert here("stubs", "series") == (0, f"written: {file}\n", "")
    assert file.read_text() == whole
    file.write_text(whole.replace("raise NotImplementedError", "return 0  # "))
    done = here("stubs", "series")
    assert (done.code, done.out) == (2, "")
    assert "Got work in root_of_squares." in done.err
    (tmp_path / "lessons" / "series" / "solution.py").unlink()
    assert "a file solution.py. Got none" in here("stubs", "series").err


@pytest.mark.parametrize("args", [["new", "series/third_root"], ["stubs", "series", "--print"]], ids=["new", "stubs"])
def test_laying_out_imports_no_torch(here: Any, args: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *args], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "False\n")


def test_progress_counts_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    _progress("series")(1, 2, "root")
    assert stream.getvalue() == ""
    monkeypatch.setattr(stream, "isatty", lambda: True)
    tell = _progress("series")
    tell(1, 2, "root")
    assert stream.getvalue().startswith("\rseries/root: 1 of 2 rows")
    tell(2, 2, "root")
    assert stream.getvalue().endswith(f"\r{' ' * 72}\r")
