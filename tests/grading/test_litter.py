"""Folders in which somebody else has made what they liked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coursekit.grading.litter import larger, remove

MEBIBYTE = 2**20


def nested(folder: Path, depth: int) -> None:
    """Make folders within folders, deeper than a path may be long."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)


def test_what_is_deeper_than_any_path_is_removed(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    nested(folder, 3000)
    assert larger(str(folder), 2**40)
    remove(str(folder))
    assert not folder.exists()


def test_locked_folders_are_removed_and_links_are_not_followed(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other"
    (folder / "a" / "b" / "c").mkdir(parents=True)
    other.mkdir()
    (other / "kept").write_text("x")
    (folder / "a" / "b" / "file").write_text("x")
    (folder / "link").symlink_to(other)
    (folder / "a" / "link").symlink_to(other)
    (folder / "a" / ".moved-0").mkdir()
    os.mkfifo(folder / "a" / "pipe")
    other.chmod(0o711)
    for place in ("a/b/file", "a/b/c", "a/b", "a"):
        (folder / place).chmod(0)
    remove(str(folder))
    assert not folder.exists()
    assert (other / "kept").read_text() == "x"
    assert other.stat().st_mode & 0o777 == 0o711


def test_names_that_are_taken_do_no_harm(tmp_path):
    """The names that folders get while they are brought up may be there already."""
    folder = tmp_path / "folder"
    for number in range(5):
        (folder / f".moved-{number}" / f".moved-{number + 1}" / "x").mkdir(parents=True)
        (folder / f".moved-{number}" / "full").mkdir()
        (folder / f".moved-{number}" / "full" / "file").write_text("x")
    remove(str(folder))
    assert not folder.exists()


def test_a_folder_that_is_gone_is_no_error(tmp_path):
    remove(str(tmp_path / "none"))
    assert not larger(str(tmp_path / "none"), 0)


@pytest.mark.parametrize(
    ("make", "most", "expected"),
    [
        pytest.param(lambda folder: None, 0, False, id="empty"),
        pytest.param(lambda folder: (folder / "a").write_bytes(bytes(MEBIBYTE)), MEBIBYTE, False, id="just-as-much"),
        pytest.param(lambda folder: (folder / "a").write_bytes(bytes(MEBIBYTE)), MEBIBYTE - 1, True, id="a-byte-more"),
        pytest.param(lambda folder: [(folder / str(n)).touch() for n in range(300)], MEBIBYTE, True, id="many-empty"),
        pytest.param(lambda folder: (folder / "a").symlink_to("/"), MEBIBYTE, False, id="link-to-everything"),
        pytest.param(lambda folder: nested(folder, 100), MEBIBYTE, False, id="nested"),
    ],
)
def test_how_much_lies_in_a_folder(tmp_path, make, most, expected):
    make(tmp_path)
    assert larger(str(tmp_path), most) is expected
