"""Reading a learner's file."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

import pytest

from coursekit.errors import SubmissionError
from coursekit.grading.submission import MAX_BYTES, parse, read


def test_a_file_is_read_and_hashed(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_bytes("\ufeffx = 'é'\r\ny = 2\r\n".encode())
    found = read(file)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (found.problem, [one.line for one in found.statements]) == ("", [1, 2])
    assert (found.line(1), found.line(9)) == ("x = 'é'", "")


def test_at_most_256_kib(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_bytes(b"#" * MAX_BYTES)
    assert read(file).problem == ""
    file.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SubmissionError, match=r"at most 256 KiB\. Got more\. Fix: hand in the code alone"):
        read(file)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda file: None, "a readable file. Got no such file or directory"),
        (lambda file: file.mkdir(), "a regular file"),
        (lambda file: os.mkfifo(file), "a regular file. Got something else"),
        (lambda file: file.symlink_to(__file__), "a regular file. Got a symbolic link"),
        (lambda file: file.write_bytes(b"x = '\xe9'"), "UTF-8 text. Got invalid continuation byte at byte 5"),
    ],
    ids=["missing", "folder", "pipe", "link", "latin-1"],
)
def test_what_cannot_be_graded_is_refused(tmp_path: Path, make, words):
    file = tmp_path / "mine.py"
    make(file)
    with pytest.raises(SubmissionError, match=words):
        read(file)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ndef f(:\n    pass", "mine.py, line 2: invalid syntax: `def f(:`."),
        ("x = (", "line 1: '(' was never closed"),
        ("x = 1\n  y = 2", "line 2: unexpected indent"),
        ("x = \x00", "null bytes"),
        ("-" * 100_000 + "1", "is not Python"),
    ],
    ids=["syntax", "bracket", "indent", "null", "bomb"],
)
def test_what_is_not_python_is_told_by_line(text, words):
    found = parse(text, Path("mine.py"))
    assert not found.statements
    assert words in found.problem


def test_a_statement_that_cannot_be_compiled_leaves_the_others():
    found = parse("x = 1\nreturn 2\ny = 3", Path("mine.py"))
    assert [one.line for one in found.statements] == [1, 3]
    assert "line 2: 'return' outside function" in found.problem


def test_future_imports_reach_every_statement():
    found = parse("from __future__ import annotations\ndef f(x: Undefined): ...", Path("mine.py"))
    names: dict[str, object] = {}
    for statement in found.statements:
        exec(statement.code, names)
    assert names["f"].__annotations__ == {"x": "Undefined"}  # type: ignore[attr-defined]


def test_a_doubtful_escape_is_no_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse(r'x = "\d" is 1', Path("mine.py")).problem == ""


def test_stubs_are_known_by_their_text():
    text = '''
def a(x):
    """Doc."""
    raise NotImplementedError("T1")
def b(x):
    raise NotImplementedError
def c(x):
    y = x
    raise NotImplementedError
def d(x):
    raise ValueError
class E:
    """Doc."""
    def f(self): raise NotImplementedError
class G:
    def f(self): raise NotImplementedError
    def g(self): return 1
class H:
    pass
'''
    assert parse(text, Path("mine.py")).stubs == {"a", "b", "E"}
