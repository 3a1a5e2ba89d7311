"""Files are written whole or not at all: on a full disk, in a folder that refuses, after Ctrl-C."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursekit.errors import OutputError
from coursekit.files import make_folder, write_atomically, write_json


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file that stands already."""
    path = tmp_path / "result.json"
    path.write_text("old")
    return path


def refuse(number: int) -> Any:
    """Return a stand-in for a system call that the operating system refuses."""

    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(("content", "written"), [("é\n", b"\xc3\xa9\n"), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_text_and_bytes_are_written(tmp_path: Path, content: str | bytes, written: bytes) -> None:
    path = write_atomically(tmp_path / "file", content)
    assert path.read_bytes() == written
    assert os.listdir(tmp_path) == ["file"]


def test_an_older_file_is_replaced(old: Path) -> None:
    write_atomically(old, "new")
    assert old.read_text() == "new"
    assert os.listdir(old.parent) == ["result.json"]


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_atomically(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_name_as_long_as_the_file_system_allows_is_written(tmp_path: Path) -> None:
    assert write_atomically(tmp_path / ("x" * 255), "new").read_text() == "new"


def test_a_reader_never_meets_half_a_file(old: Path) -> None:
    contents = {letter * 100_000 for letter in "ab"} | {"old"}
    seen: set[str] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(old.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        for letter in "ab":
            write_atomically(old, letter * 100_000)
    stop.set()
    reader.join()
    assert seen <= contents


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free some disk space, then repeat the command; nothing written before is lost"),
        (errno.EDQUOT, "free some of your disk quota"),
        (errno.EROFS, "choose a folder on a writable disk"),
        (errno.EACCES, "choose a folder that you may write to"),
        (errno.EPERM, "choose a folder that you may write to"),
        (errno.EIO, "choose another place"),
    ],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "tempfile.mkstemp", "os.chmod"])
def test_a_refusal_leaves_the_old_file_and_nothing_else(
    old: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, fix: str
) -> None:
    monkeypatch.setattr(call, refuse(number))
    reason = os.strerror(number).lower()
    with pytest.raises(OutputError) as caught:
        write_atomically(old, "new")
    assert str(caught.value).startswith(f"{old}: a place that can be written to. Got {reason}. Fix: {fix}")
    assert old.read_text() == "old"
    assert os.listdir(old.parent) == ["result.json"]


def test_ctrl_c_leaves_the_old_file_and_nothing_else(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(old, "new")
    assert old.read_text() == "old"
    assert os.listdir(old.parent) == ["result.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_real_bound_on_size_leaves_the_old_file_and_nothing_else(old: Path) -> None:
    code = """if True:
        import resource, sys
        from pathlib import Path
        from coursekit.errors import OutputError
        from coursekit.files import write_atomically
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        path = Path(sys.argv[1])
        write_atomically(path, b"x" * (1 << 16))
        try:
            write_atomically(path, b"y" * ((1 << 16) + 1))
        except OutputError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", code, old], capture_output=True, text=True, check=True)
    assert done.stdout == f"{old}: a place that can be written to. Got file too large. Fix: choose another place.\n"
    assert old.read_bytes() == b"x" * (1 << 16)
    assert os.listdir(old.parent) == ["result.json"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("result.json/inner", "got not a directory. fix: choose a path whose parents are folders"),
        ("absent/inner", "got no such file or directory. fix: create its folder first"),
        ("folder", "got is a directory. fix: choose a path that is not taken by a folder"),
        ("x" * 256, "got file name too long. fix: choose a shorter path"),
        ("a\x00b", "fix: choose another place"),
    ],
    ids=["below a file", "no folder", "a folder", "long name", "null byte"],
)
def test_a_place_that_cannot_hold_a_file_is_refused(old: Path, place: str, words: str) -> None:
    (old.parent / "folder").mkdir()
    with pytest.raises(OutputError) as caught:
        write_atomically(old.parent / place, "new")
    assert words in str(caught.value).lower()
    assert sorted(os.listdir(old.parent)) == ["folder", "result.json"]
    assert old.read_text() == "old"


# JSON


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.recursive(plain, st.lists, max_leaves=8))
def test_json_is_read_back_the_same(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = write_json(tmp_path_factory.getbasetemp() / "value.json", value)
    assert json.loads(path.read_text(encoding="utf-8")) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_word_for_what_is_not_finite(old: Path, value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(old, {"loss": value})
    assert old.read_text() == "old"


# Folders


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a" / "b")
    assert os.listdir(folder) == []
    (folder / "file").write_text("")
    assert os.listdir(make_folder(folder)) == ["file"]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("result.json", "got file exists. fix: choose a path that is not taken by a file"),
        ("result.json/inner", "got not a directory. fix: choose a path whose parents are folders"),
        ("a\x00b", "embedded null"),
    ],
    ids=["a file", "below a file", "null byte"],
)
def test_a_place_that_cannot_hold_a_folder_is_refused(old: Path, place: str, words: str) -> None:
    with pytest.raises(OutputError) as caught:
        make_folder(old.parent / place)
    assert words in str(caught.value).lower()


def test_a_folder_that_refuses_files_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkstemp", refuse(errno.EROFS))
    with pytest.raises(OutputError, match=r"Got read-only file system\. Fix: choose a folder on a writable disk\."):
        make_folder(tmp_path)
