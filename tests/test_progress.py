"""How far the learner is: kept between gradings, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from coursekit import progress
from coursekit.errors import OutputError


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


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"verdicts": 3}', b"{}", b"[" * 100_000],
    ids=["empty", "cut short", "list", "null", "not text", "number", "no verdicts", "deep"],
)
def test_a_damaged_record_counts_as_none_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / progress.FOLDER).mkdir()
    (tmp_path / progress.FOLDER / "progress.json").write_bytes(content)
    assert progress.read(tmp_path) == {}
    progress.record(tmp_path, "sums", {"add": "pass"})
    assert progress.read(tmp_path) == {"sums/add": "pass"}


def test_what_is_no_verdict_is_left_out(tmp_path: Path) -> None:
    (tmp_path / progress.FOLDER).mkdir()
    (tmp_path / progress.FOLDER / "progress.json").write_text('{"verdicts": {"a/b": 3, "a/c": "pass"}}')
    assert progress.read(tmp_path) == {"a/c": "pass"}


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / progress.FOLDER).write_text("in the way")
    with pytest.raises(OutputError, match="Got file exists"):
        progress.record(tmp_path, "sums", {"add": "pass"})
