"""The verbs that only list, explain, check or refuse: quick, without torch, and never with a traceback."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from coursekit import __version__, catalog, progress
from coursekit.cli import app
from coursekit.errors import ConfigError, Finding, StoppedError, UserError

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("torch", "torchvision", "torchmetrics", "lightning", "numpy", "matplotlib", "sklearn")
LIGHT = {
    "list": ["list"],
    "help": ["--help"],
    "hint": ["hint", "optimization", "O1"],
    "config error": ["run", "optimization", "nonsense.key=1"],
}
ATTENTION = "torch.nn.functional.scaled_dot_product_attention"
LESSONS = "coursekit.catalog.lessons"
PROGRAM = "from coursekit.cli import main; main()"


class Done(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def coursekit(*args: str, program: str = PROGRAM, **kwargs: Any) -> Done:
    """Run the program in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=False, **kwargs)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Done]]:
    """A function that runs the program in this process, where its parts can be replaced."""

    def run(*args: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["coursekit", *args])
        with pytest.raises(SystemExit) as ended:
            app.main()
        out, err = capfd.readouterr()
        return Done(int(ended.value.code or 0), str(out), str(err))

    yield run
    gc.unfreeze()


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A course of its own, so that the learner's progress is not touched."""
    shutil.copytree(ROOT / "lessons", tmp_path / "lessons", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setenv("COURSEKIT_ROOT", str(tmp_path))
    return tmp_path


def failing(error: BaseException) -> Callable[..., Any]:
    """Return a stand-in that raises."""

    def call(*_: object, **__: object) -> None:
        raise error

    return call


# Time and imports


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (LIGHT["list"], 0),
        (["list", "--json", "-"], 0),
        (LIGHT["help"], 0),
        (["--version"], 0),
        (["grade", "--help"], 0),
        (LIGHT["hint"], 0),
        (LIGHT["config error"], 2),
        (["frobnicate"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_a_light_verb_imports_nothing_heavy(args: list[str], code: int) -> None:
    assert heavy(args) == (code, [])


def test_a_heavy_import_would_be_seen() -> None:
    assert heavy(["--version"], first="import numpy") == (0, ["numpy"])


def heavy(args: list[str], first: str = "") -> tuple[int, list[str]]:
    """Return the exit code and which of the heavy packages a command has imported."""
    program = f"""if True:
        import sys
        {first}
        from coursekit.cli import main
        try:
            main()
        finally:
            print("\\nheavy:", *sorted(set({HEAVY}) & set(sys.modules)), file=sys.stderr)
    """
    done = coursekit(*args, program=program)
    return done.code, done.err.rpartition("heavy:")[2].split()


@pytest.mark.parametrize(
    ("runs", "most"),
    [pytest.param(3, 3.0, id="three times"), pytest.param(15, 2.0, id="twice", marks=pytest.mark.slow)],
)
def test_a_light_verb_takes_little_more_than_the_imports_it_needs(runs: int, most: float) -> None:
    programs = {"imports": ["import typer, pydantic, yaml"], **{name: [PROGRAM, *args] for name, args in LIGHT.items()}}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(runs):  # in turn, so that a busy moment meets all alike
        for name, command in programs.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", *command], capture_output=True, check=False)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    assert {name: time for name, time in medians.items() if time > most * medians["imports"]} == {}, medians


# What becomes of errors


def test_a_user_error_is_told_without_a_traceback(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LESSONS, failing(UserError("here", "a lesson", got="none", fix="add one")))
    assert here("list") == (2, "", "coursekit: here: a lesson. Got none. Fix: add one.\n")


def test_a_config_error_lists_its_lines(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = [Finding("lr", "a number", got="x", fix="write one"), Finding("a", "b", fix="c")]
    monkeypatch.setattr(LESSONS, failing(ConfigError("file", findings)))
    lines = "file: 2 settings to mend:\n  - lr: a number. Got x. Fix: write one.\n  - a: b. Fix: c.\n"
    assert here("list") == (2, "", f"coursekit: {lines}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_ends_like_a_stopped_program(
    here: Any, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    monkeypatch.setattr(LESSONS, failing(StoppedError(number)))
    done = here("list")
    assert (done.code, done.out) == (code, "")
    assert "everything up to here is saved, and the same command continues from it" in done.err


def test_ctrl_c_ends_with_130_and_a_word(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LESSONS, failing(KeyboardInterrupt()))
    assert here("list") == (130, "", "\ncoursekit: stopped; what was finished is kept\n")


def test_a_fault_of_ours_is_named_as_ours(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSEKIT_DEBUG", raising=False)
    monkeypatch.setattr(LESSONS, failing(ZeroDivisionError("by nought")))
    done = here("list")
    assert done.code == 3
    assert done.err == (
        "coursekit: this is a fault of coursekit itself, not yours (ZeroDivisionError: by nought). "
        "Fix: repeat the command with COURSEKIT_DEBUG=1 set, and report what it prints.\n"
    )


def test_a_fault_of_ours_shows_its_traceback_when_asked(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSEKIT_DEBUG", "1")
    monkeypatch.setattr(LESSONS, failing(ZeroDivisionError("by nought")))
    done = here("list")
    assert done.code == 3
    assert "Traceback (most recent call last)" in done.err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["list", "--jsn"], "No such option"),
        (["hint", "optimization"], "Missing argument 'exercise'"),
        (["hint", "optimization", "O1", "--level", "4"], "Invalid value for '--level'"),
        (["hint", "optimization", "O1", "--level", "one"], "Invalid value for '--level'"),
        (["list", "optimisation"], "Got 'optimisation'. Fix: did you mean `optimization`?"),
        (["hint", "optimization", "O99"], "lesson optimization: an exercise that exists. Got 'O99'."),
        (["list", "--json", "/dev/null/x"], "Got not a directory. Fix: choose a path whose parents are folders."),
        (["download", "minst"], "Fix:"),
        (["run", "optimization", "--quick", "--full"], "run: one profile. Got full, quick."),
        (["run", "optimization", "nonsense.key=1"], "nonsense.key: a setting that exists. Got 'nonsense.key'."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_ends_with_2_and_a_mend(here: Any, args: list[str], words: str) -> None:
    done = here(*args)
    assert (done.code, done.out) == (2, "")
    assert words in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_a_real_ctrl_c_ends_with_130() -> None:
    program = f"""if True:
        import time
        from coursekit import catalog
        catalog.lessons = lambda: [print("ready", flush=True), time.sleep(60)]
        {PROGRAM}
    """
    command = [sys.executable, "-c", program, "list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (130, b"\ncoursekit: stopped; what was finished is kept\n")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course whose list does not fit into a pipe."""
    top = tmp_path_factory.mktemp("large")
    text = (ROOT / "lessons" / "optimization" / "lesson.toml").read_text(encoding="utf-8")
    for number in range(1, 60):
        folder = top / "lessons" / f"lesson_{number}"
        folder.mkdir(parents=True)
        (folder / "lesson.toml").write_text(re.sub(r"^order = 1$", f"order = {number}", text, flags=re.MULTILINE))
    return top


@pytest.mark.parametrize("args", [["list"], ["list", "--json", "-"]], ids=["table", "json"])
def test_a_terminal_that_cannot_show_every_sign_gets_the_rest(course: Path, args: list[str]) -> None:
    file = course / "lessons" / "optimization" / "lesson.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("Optimization:", "Optimization \u2212"), encoding="utf-8")
    done = coursekit(*args, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.code, done.err) == (0, "")
    assert r"Optimization \u2212 from one gradient" in done.out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE and no head")
@pytest.mark.parametrize(
    ("args", "is_large", "code"), [("list", False, 0), ("--help", False, 141), ("list", True, 141)], ids=str
)
def test_a_reader_that_goes_away_is_no_error(large: Path, args: str, is_large: bool, code: int) -> None:
    root = large if is_large else ROOT
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, args],
        env=os.environ | {"COURSEKIT_ROOT": str(root), "PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == code


# The verbs


def test_help_names_every_verb(here: Any) -> None:
    done = here("--help")
    assert done.code == 0
    verbs = re.findall(r"^  (\w+) +[A-Z]", done.out.partition("Commands:")[2], re.MULTILINE)
    assert " ".join(verbs) == "list run hint grade watch explain reset verify new stubs class release doctor download"


def test_no_arguments_show_the_help(here: Any) -> None:
    done = here()
    assert "Usage: coursekit" in done.out + done.err


def test_version(here: Any) -> None:
    assert here("--version") == (0, f"coursekit {__version__}\n", "")


def test_list_is_the_catalogue_with_the_learners_progress(here: Any, course: Path) -> None:
    progress.record(course, "optimization", {"sgd_momentum": "pass", "rmsprop": "pass with note", "adamw": "timeout"})
    done = here("list", "--json", "-")
    assert (done.code, done.err) == (0, "")
    entries = json.loads(done.out)["lessons"]
    assert [one["id"] for one in entries] == [lesson.id for lesson in catalog.lessons()]
    lesson = catalog.lesson("optimization")
    entry = next(one for one in entries if one["id"] == lesson.id)
    assert {key: entry[key] for key in ("id", "title", "order")} == {
        "id": "optimization",
        "title": lesson.title,
        "order": 1,
    }
    for found, exercise in zip(entry["exercises"], lesson.exercises, strict=True):
        assert set(found) >= {"id", "points", "difficulty", "status"}
        assert (found["id"], found["points"]) == (exercise.id, exercise.points)
    statuses = {exercise["id"]: exercise["status"] for exercise in entry["exercises"]}
    assert statuses["sgd_momentum"] == "pass"
    assert set(statuses.values()) == {"pass", "pass with note", "timeout", "not attempted"}
    printed = here("list", "optimization")
    assert f"2 of {len(lesson.exercises)} exercises passed" in printed.out
    assert all(exercise.title in printed.out for exercise in lesson.exercises)


def test_list_writes_json_to_a_file(here: Any, course: Path) -> None:
    assert here("list", "--json", str(course / "list.json")) == (0, "", "")
    assert json.loads((course / "list.json").read_text(encoding="utf-8"))["lessons"][0]["id"] == "optimization"


@pytest.mark.parametrize("level", [1, 2, 3])
def test_hint_prints_the_hint_of_its_level_and_no_other(here: Any, level: int) -> None:
    exercise = catalog.lesson("optimization").exercises[0]
    done = here("hint", "optimization", exercise.id, "--level", str(level))
    assert (done.code, done.err) == (0, "")
    assert [hint in done.out for hint in exercise.hints] == [number == level for number in (1, 2, 3)]
    assert (f"--level {level + 1}" in done.out) == (level < 3)


def test_download_of_an_embedded_set_needs_nothing(here: Any) -> None:
    assert here("download", "digits") == (0, "digits: ships with scikit-learn, nothing to download\n", "")


# The doctor


def diagnosis(here: Any) -> tuple[int, dict[str, dict[str, str]]]:
    """Return the doctor's exit code and findings, after checking the shape of each."""
    done = here("doctor", "--json", "-")
    tree = json.loads(done.out)
    assert list(tree) == ["findings"]
    for finding in tree["findings"]:
        assert set(finding) == {"what", "state", "says", "fix"}
        assert finding["state"] in ("ok", "note", "broken")
        assert finding["what"]
        assert finding["says"]
        assert bool(finding["fix"]) == (finding["state"] != "ok")
    assert done.code == any(finding["state"] == "broken" for finding in tree["findings"])
    return done.code, {finding["what"]: finding for finding in tree["findings"]}


def test_doctor_looks_at_everything(here: Any) -> None:
    code, found = diagnosis(here)
    assert code == 0, found
    looks = {"python", "packages", "device", "fused optimizers", "fused attention", "compiler", "isolation", "disk"}
    assert looks <= set(found)
    assert {"digits", "mnist", "lessons"} <= set(found)
    printed = here("doctor")
    assert printed.code == 0
    assert all(what in printed.out for what in found)


def test_doctor_finds_a_package_that_is_missing(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    known = metadata.version

    def version(name: str) -> str:
        if name == "torchmetrics":
            raise PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(metadata, "version", version)
    code, found = diagnosis(here)
    assert code == 1
    assert "packages" not in found
    assert found["torchmetrics"]["says"] == "not installed"
    assert re.fullmatch(r"pip install 'torchmetrics[<>=.,\d]+'", found["torchmetrics"]["fix"])


def test_doctor_finds_a_package_of_another_version(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    known = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "1.0" if name == "torch" else known(name))
    code, found = diagnosis(here)
    assert (code, found["torch"]["state"]) == (1, "broken")
    assert re.fullmatch(r"1\.0, not [<>=.,\d]+", found["torch"]["says"])
    assert found["torch"]["fix"].startswith("pip install 'torch")


def test_doctor_finds_that_the_program_is_not_installed(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.requires", failing(PackageNotFoundError("coursekit")))
    code, found = diagnosis(here)
    assert (code, found["coursekit"]["says"]) == (1, "not installed")
    assert "make setup" in found["coursekit"]["fix"]


def test_doctor_survives_a_broken_torch(here: Any) -> None:
    program = f"import sys; sys.modules['torch'] = None; {PROGRAM}"
    code, found = diagnosis(lambda *args: coursekit(*args, program=program))
    assert code == 1
    assert found["torch"]["state"] == "broken"
    assert found["torch"]["says"].startswith("ModuleNotFoundError: import of torch halted")
    assert found["torch"]["fix"] == "install it again with `make setup`"
    assert found["digits"]["state"] == found["lessons"]["state"] == "ok"


def disk(_: object) -> Any:
    """Return a disk with a gigabyte left."""
    return SimpleNamespace(total=3e9, used=2e9, free=1e9)


@pytest.mark.parametrize(
    ("place", "value", "what", "state", "words"),
    [
        ("coursekit.cli.doctor._OLDEST", (99, 0), "python", "broken", "install Python 3.11"),
        ("torch.optim.AdamW", failing(RuntimeError("no\nway")), "fused optimizers", "note", "no Fix: set training"),
        (ATTENTION, failing(RuntimeError()), "fused attention", "note", "only the plain kernel works Fix: update"),
        ("shutil.which", lambda _: None, "compiler", "note", "cannot build CPU kernels Fix: install g++"),
        ("os.access", lambda *_: False, "folder", "broken", "cannot be written to Fix: go to a folder of your own"),
        ("shutil.disk_usage", disk, "disk", "note", "1.0 GB free here Fix: free some space"),
        ("coursekit.data.is_available", lambda _: True, "mnist", "ok", "downloaded"),
        (LESSONS, failing(UserError("here", "a folder", fix="go")), "lessons", "broken", "here: a folder. Fix: go."),
        (LESSONS, failing(OSError("odd")), "lessons", "broken", "OSError: odd Fix: install it again with `make setup`"),
    ],
)
def test_doctor_names_the_mend(
    here: Any, monkeypatch: pytest.MonkeyPatch, place: str, value: Any, what: str, state: str, words: str
) -> None:
    monkeypatch.setattr(place, value)
    _, found = diagnosis(here)
    assert found[what]["state"] == state
    assert words in f"{found[what]['says']} Fix: {found[what]['fix']}"


@pytest.mark.gpu
def test_doctor_on_a_gpu(here: Any) -> None:
    code, found = diagnosis(here)
    assert code == 0
    assert torch.cuda.get_device_name() in found["device"]["says"]
    assert found["bf16"]["state"] in ("ok", "note")
