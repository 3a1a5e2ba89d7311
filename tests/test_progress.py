"""How far the learner is: kept between gradings, and never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coursekit import progress
from coursekit.errors import OutputError
from coursekit.progress import FOLDER, Standing


def file_of(root: Path) -> Path:
    (root / FOLDER).mkdir(exist_ok=True)
    return root / FOLDER / "progress.json"


def test_verdicts_are_kept_and_the_last_one_counts(tmp_path: Path) -> None:
    progress.record(tmp_path, "sums", {"add": "fail", "subtract": "pass"})
    progress.record(tmp_path, "sums", {"add": "pass with note"})
    progress.record(tmp_path, "products", {"add": "timeout"})
    assert progress.read(tmp_path) == {
        "sums/add": "pass with note",
        "sums/subtract": "pass",
        "products/add": "timeout",
    }


def test_nothing_graded_yet_is_an_empty_record(tmp_path: Path) -> None:
    assert progress.read(tmp_path) == {}
    assert not progress.is_damaged(tmp_path)


@pytest.mark.parametrize(
    ("verdicts", "best"),
    [
        (["fail", "pass"], "pass"),
        (["pass", "fail"], "pass"),
        (["pass with note", "fail"], "pass with note"),
        (["pass with note", "pass", "pass with note"], "pass"),
        (["not attempted", "fail"], "fail"),
    ],
    ids=", ".join,
)
def test_the_best_verdict_is_remembered(tmp_path: Path, verdicts: list[str], best: str) -> None:
    for verdict in verdicts:
        progress.record(tmp_path, "sums", {"add": verdict})
    standing = progress.standings(tmp_path)["sums/add"]
    assert (standing.verdict, standing.best, standing.passed) == (verdicts[-1], best, best.startswith("pass"))


def test_points_file_and_time_are_kept(tmp_path: Path) -> None:
    progress.record(tmp_path, "sums", {"add": "fail", "sub": "pass"}, points={"add": 1.5}, sha256="ab" * 32)
    found = progress.standings(tmp_path)
    assert (found["sums/add"].points, found["sums/sub"].points, found["sums/add"].sha256) == (1.5, None, "ab" * 32)
    assert found["sums/add"].time.endswith("+00:00")


def test_what_an_update_of_the_lessons_removed_is_kept(tmp_path: Path) -> None:
    progress.record(tmp_path, "sums", {"gone": "pass"})
    progress.record(tmp_path, "sums", {"add": "pass"})
    assert progress.read(tmp_path) == {"sums/gone": "pass", "sums/add": "pass"}


def test_the_record_of_an_older_version_is_understood(tmp_path: Path) -> None:
    file_of(tmp_path).write_text('{"verdicts": {"a/b": "fail", "a/c": "pass", "a/d": 3}}')
    assert progress.standings(tmp_path) == {"a/b": Standing("fail", "fail"), "a/c": Standing("pass", "pass")}
    progress.record(tmp_path, "a", {"b": "pass"})
    assert progress.read(tmp_path) == {"a/b": "pass", "a/c": "pass"}


def test_what_a_newer_version_wrote_is_kept(tmp_path: Path) -> None:
    file_of(tmp_path).write_text('{"exercises": {"a/b": {"shape": "unknown"}, "a/c": {"verdict": "pass"}}, "extra": 1}')
    assert progress.read(tmp_path) == {"a/c": "pass"}
    progress.record(tmp_path, "a", {"d": "fail"})
    tree = json.loads(file_of(tmp_path).read_text())
    assert (tree["extra"], tree["exercises"]["a/b"]) == (1, {"shape": "unknown"})


@pytest.mark.parametrize(
    "entry",
    [{"verdict": 3}, {"best": "pass"}, "pass", None, {"verdict": "pass", "best": 3, "points": True, "time": []}],
    ids=["number", "no verdict", "text", "null", "odd parts"],
)
def test_odd_entries_are_not_shown(tmp_path: Path, entry: object) -> None:
    file_of(tmp_path).write_text(json.dumps({"exercises": {"a/b": entry}}))
    found = progress.standings(tmp_path)
    assert found == ({"a/b": Standing("pass", "pass")} if isinstance(entry, dict) and len(entry) > 1 else {})


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"verdicts": 3}', b'{"exercises": []}', b"{}", b"[" * 100_000],
    ids=["empty", "cut short", "list", "null", "not text", "number", "no table", "no verdicts", "deep"],
)
def test_a_damaged_record_is_set_aside_and_told(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    file_of(tmp_path).write_bytes(content)
    assert progress.is_damaged(tmp_path)
    assert progress.read(tmp_path) == {}
    progress.record(tmp_path, "sums", {"add": "pass"})
    assert progress.read(tmp_path) == {"sums/add": "pass"}
    assert (tmp_path / FOLDER / "progress.json.broken").read_bytes() == content
    assert "could not be read; it is kept as progress.json.broken" in capsys.readouterr().err


def test_a_second_damaged_record_does_not_replace_the_first(tmp_path: Path) -> None:
    told: list[str] = []
    for content in ("first", "second"):
        file_of(tmp_path).write_text(content)
        progress.record(tmp_path, "sums", {"add": "pass"}, tell=told.append)
    assert (tmp_path / FOLDER / "progress.json.broken").read_text() == "first"
    assert (tmp_path / FOLDER / "progress.json.broken-2").read_text() == "second"
    assert len(told) == 2


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(OutputError, match="Got file exists"):
        progress.record(tmp_path, "sums", {"add": "pass"})


# Two terminals at once

WRITER = """
import sys, time
from pathlib import Path
from coursekit import progress

root, name, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for number in range(count):
    progress.record(root, name, {f"exercise_{number}": "pass"}, sha256=name)
"""


def writer(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    """200 records each, at once; a third process is killed meanwhile."""
    count = 200
    runs = [writer(tmp_path, "one", count), writer(tmp_path, "two", count), writer(tmp_path, "killed", 10**6)]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("go\n")
        run.stdin.flush()
    time.sleep(0.3)
    runs[2].kill()
    errors = [run.communicate(timeout=60)[1] for run in runs]
    assert [run.returncode for run in runs[:2]] == [0, 0]
    assert errors[:2] == ["", ""]
    found = progress.read(tmp_path)
    assert all(found[f"{name}/exercise_{n}"] == "pass" for name in ("one", "two") for n in range(count))
    kept = [name for name in os.listdir(tmp_path / FOLDER) if not name.startswith(".")]
    assert sorted(kept) == ["progress.json", "progress.lock"]


HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the holder of the lock is written for POSIX")
def test_a_lock_that_is_never_released_is_told_and_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.2)
    lock = file_of(tmp_path).with_suffix(".lock")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        told: list[str] = []
        progress.record(tmp_path, "sums", {"add": "pass"}, tell=told.append)
        assert holder.poll() is None
        holder.kill()
    assert progress.read(tmp_path) == {"sums/add": "pass"}
    assert told == [
        f"{lock} cannot be locked (another program has held it for 0.2 s); your progress is written without it"
    ]
    progress.record(tmp_path, "sums", {"add": "fail"}, tell=told.append)  # what died holds nothing
    assert len(told) == 1


def test_patience_is_short() -> None:
    assert progress.PATIENCE <= 2


def test_a_lock_that_cannot_be_opened_is_told_and_passed(tmp_path: Path) -> None:
    lock = file_of(tmp_path).with_suffix(".lock")
    lock.mkdir()
    told: list[str] = []
    progress.record(tmp_path, "sums", {"add": "pass"}, tell=told.append)
    assert progress.read(tmp_path) == {"sums/add": "pass"}
    assert told == [f"{lock} cannot be locked (is a directory); your progress is written without it"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_lock_of_someone_else_is_used(tmp_path: Path) -> None:
    lock = file_of(tmp_path).with_suffix(".lock")
    lock.touch(mode=0o444)
    told: list[str] = []
    progress.record(tmp_path, "sums", {"add": "pass"}, tell=told.append)
    assert told == []
