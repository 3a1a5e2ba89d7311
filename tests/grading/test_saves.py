"""Saves of a file, as editors make them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coursekit.grading import saves
from coursekit.grading.saves import Saves, changed_exercises

LESSON: Any = SimpleNamespace(
    exercises=(SimpleNamespace(id="one", names=("one",)), SimpleNamespace(id="two", names=("two", "Two")))
)
CODE = """import math

def one(x):
    return helper(x)

def two(x):
    return 2

class Two:
    pass

def helper(x):
    return x
"""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("return 2", "return 3", ["two"]),
        ("pass", "x = 1", ["two"]),
        ("helper(x)\n", "helper(-x)\n", ["one"]),
        ("return helper(x)\n\ndef two(x):\n    return 2", "return 1\n\ndef two(x):\n    return 3", ["one", "two"]),
        ("return 2", "return 2  # two", []),
        ("return x", "return -x", []),
        ("import math", "import cmath", []),
        ("return 2", "return (2", []),
        ("def two(x):\n    return 2\n\n", "", ["two"]),
    ],
    ids=["one", "class", "other", "both", "comment", "helper", "import", "not Python", "removed"],
)
def test_what_a_save_changed(old, new, expected):
    assert old in CODE
    assert changed_exercises(LESSON, CODE.encode(), CODE.replace(old, new).encode()) == expected


@pytest.mark.parametrize("before", [None, b"(", b"\xff\x00"], ids=["gone", "not Python", "binary"])
def test_what_a_save_changed_where_it_cannot_be_told(before):
    assert changed_exercises(LESSON, before, CODE.encode()) in ([], ["one", "two"])


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], bytes | None]]]:
    """A file that is watched, and a function that waits for its next content."""
    file = tmp_path / "mine.py"
    file.write_text("first = 1\n")
    found: Iterator[bytes | None] = iter(Saves(file))
    assert next(found) == b"first = 1\n"
    yield file, lambda: next(found)
    found.close()  # type: ignore[attr-defined]


def later(*steps: Callable[[], object], seconds: float = 0.1) -> threading.Thread:
    """Do something in a moment, and again, from another thread."""

    def act() -> None:
        for step in steps:
            time.sleep(seconds)
            step()

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def replaced(file: Path, text: str) -> None:
    other = file.with_name("mine.py~")
    other.write_text(text)
    other.replace(file)


@pytest.mark.parametrize("polling", [False, True], ids=["told", "looking"])
@pytest.mark.parametrize("save", [Path.write_text, replaced], ids=["in place", "by rename"])
def test_a_save_is_seen_soon(watched, monkeypatch, save, polling):
    file, wait = watched
    if polling:
        monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")
    for text in ("second = 2\n", "third = 3\n"):
        thread = later(lambda text=text: save(file, text))
        started = time.perf_counter()
        assert wait() == text.encode()
        assert time.perf_counter() - started < 1.0
        thread.join()


def test_a_file_in_pieces_comes_whole(watched):
    file, wait = watched
    thread = later(
        lambda: file.write_text(""),
        lambda: file.write_text("x = (1,\n"),
        lambda: file.write_text("x = (1,\n2)\n"),
        seconds=0.05,
    )
    assert wait() == b"x = (1,\n2)\n"
    thread.join()


def test_a_save_that_changes_nothing_is_none(watched):
    file, wait = watched
    thread = later(lambda: file.write_text("first = 1\n"), lambda: file.write_text("second = 2\n"))
    assert wait() == b"second = 2\n"
    thread.join()


def test_what_is_not_python_comes_too(watched):
    file, wait = watched
    thread = later(lambda: file.write_text("x = (\n"))
    assert wait() == b"x = (\n"
    thread.join()


def test_a_file_that_vanishes_and_comes_back(watched):
    file, wait = watched
    thread = later(file.unlink)
    assert wait() is None
    thread.join()
    thread = later(lambda: file.write_text("first = 1\n"))
    assert wait() == b"first = 1\n"
    thread.join()


def test_a_rename_in_two_steps_is_no_vanishing(watched):
    """Some editors move the old file away before they write the new one."""
    file, wait = watched
    thread = later(lambda: file.rename(file.with_suffix(".bak")), lambda: file.write_text("second = 2\n"), seconds=0.05)
    assert wait() == b"second = 2\n"
    thread.join()


def test_a_newer_save_is_known_before_it_is_read(watched):
    file, _ = watched
    found = Saves(file)
    contents = iter(found)
    assert next(contents) == b"first = 1\n"
    assert not found.pending()
    file.write_text("second = 2\n")
    assert found.pending()
    file.write_text("first = 1\n")  # back again: but whoever asked has stopped meanwhile
    assert next(contents) == b"first = 1\n"
    assert not found.pending()
    file.unlink()
    assert found.pending()


def test_a_system_that_watches_no_more_files(tmp_path, monkeypatch):
    monkeypatch.setattr(saves, "_LOOK", 0.05)

    def full(*args: object, **kwargs: object) -> Iterator[None]:
        raise OSError(28, "OS file watch limit reached")

    monkeypatch.setattr("watchfiles.watch", full)
    file = tmp_path / "mine.py"
    file.write_text("first = 1\n")
    found = iter(Saves(file))
    assert next(found) == b"first = 1\n"
    thread = later(lambda: file.write_text("second = 2\n"))
    assert next(found) == b"second = 2\n"
    thread.join()
