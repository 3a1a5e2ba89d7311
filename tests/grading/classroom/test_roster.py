"""Who handed in what: every shape in which submissions arrive is read, or refused by name."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from coursekit.errors import SubmissionError
from coursekit.grading.classroom import roster
from coursekit.grading.classroom.roster import Entry, read_folder

from ..conftest import RIGHT_DOUBLE


@pytest.fixture
def hand_in(course, tmp_path):
    """A function that writes submissions, path to text or bytes, and reads the folder."""

    class HandIn:
        left_out: tuple[str, ...] = ()

        def __call__(self, files=(), others=(), skip=()) -> dict[str, Entry]:
            folder = tmp_path / "submissions"
            folder.mkdir(exist_ok=True)
            for name, text in dict(files).items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(text if isinstance(text, bytes) else text.encode())
            found = read_folder(folder, course.lesson, skip=[folder / name for name in skip], others=others)
            self.left_out = found.left_out
            return {entry.key: entry for entry in found.entries}

    return HandIn()


@pytest.mark.parametrize(
    ("files", "file"),
    [
        (["ann.py"], "ann.py"),
        (["ann/exercises.py"], "ann/exercises.py"),
        (["ann/answer.py"], "ann/answer.py"),
        (["ann/exercises.py", "ann/scratch.py"], "ann/exercises.py"),
        (["ann/sub/exercises.py", "ann/scratch.py"], "ann/sub/exercises.py"),
        (["ann/bundle/lessons/toy/exercises.py", "ann/bundle/lessons/toy/probes.py"], None),
        (["ann/lessons/toy/exercises.py", "ann/lessons/other/exercises.py"], "ann/lessons/toy/exercises.py"),
        (["ann/.hidden/exercises.py", "ann/__MACOSX/exercises.py", "ann/a.py"], "ann/a.py"),
        (["ann_assignsubmission_file_/exercises.py"], "ann_assignsubmission_file_/exercises.py"),
    ],
    ids=str,
)
def test_a_submission_is_found_in_any_shape(hand_in, files, file):
    entries = hand_in(files=dict.fromkeys(files, RIGHT_DOUBLE))
    assert list(entries) == ["ann"]
    assert (entries["ann"].file, entries["ann"].problem) == (file or files[0], "")
    assert entries["ann"].raw == RIGHT_DOUBLE.encode()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["ann/a.py", "ann/b.py"], "Several Python files, and it is not clear which to grade: a.py, b.py."),
        (["ann/x/exercises.py", "ann/y/exercises.py"], "which to grade: x/exercises.py, y/exercises.py."),
        (["ann/notes.txt"], "No Python file in the folder. notes.txt is a text file: only Python files are graded."),
        (["ann/data.csv"], "No Python file in the folder."),
        (["ann/work.zip"], "work.zip is an archive: archives are not opened here. Unpack it"),
        (["ann.zip"], "ann.zip is an archive: archives are not opened here. Unpack it"),
        (["ann.ipynb"], "ann.ipynb is a notebook: only Python files are graded."),
    ],
    ids=str,
)
def test_what_is_not_clear_is_told(hand_in, files, words):
    entry = hand_in(files=dict.fromkeys(files, "x"))["ann"]
    assert entry.code is None
    assert words in entry.problem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\x00", "UTF-8 text. Got invalid start byte at byte 0. Fix: save the file as UTF-8."),
        ("é".encode("latin-1"), "UTF-8 text"),
        (b"#" * (300 * 1024), "at most 256 KiB. Got more"),
    ],
    ids=["binary", "latin-1", "large"],
)
def test_a_file_that_cannot_be_read_does_not_stop_the_others(hand_in, content, words):
    entries = hand_in(files={"ann.py": content, "bob.py": RIGHT_DOUBLE})
    assert words in entries["ann"].problem
    assert entries["bob"].problem == ""


def test_links_pipes_and_empty_folders_are_told(hand_in, tmp_path):
    folder = tmp_path / "submissions"
    folder.mkdir()
    (folder / "secret.py").write_text("x = 1")
    (folder / "file.py").symlink_to(folder / "secret.py")
    (folder / "folder").symlink_to("/etc")
    (folder / "inside").mkdir()
    (folder / "inside" / "exercises.py").symlink_to(folder / "secret.py")
    (folder / "nothing").mkdir()
    (folder / "named.py").mkdir()
    os.mkfifo(folder / "pipe.py")
    with (folder / "big.py").open("wb") as file:
        file.truncate(2**30)
    problems = {key: entry.problem for key, entry in hand_in().items()}
    assert problems.pop("secret") == ""
    expected = {
        "file": "a symbolic link",
        "folder": "a symbolic link",
        "inside": "a symbolic link",
        "nothing": "No Python file",
        "named": "No Python file",
        "pipe": "a regular file",
        "big": "at most 256 KiB",
    }
    assert set(problems) == set(expected)
    assert [key for key, words in expected.items() if words not in problems[key]] == []


def test_a_folder_without_end_is_told(hand_in, monkeypatch):
    monkeypatch.setattr(roster, "_MOST_ENTRIES", 3)
    entry = hand_in(files={f"ann/{n}.txt": "x" for n in range(9)})["ann"]
    assert "holds more than 3 files. Hand in exercises.py alone" in entry.problem


def test_namesakes_are_both_kept_under_keys_of_their_own(hand_in):
    entries = hand_in(files={"ann.py": "x = 1", "ann/exercises.py": "x = 2", "Ann.txt.py": "", "ANN/a.py": "x = 3"})
    assert {entry.file: key for key, entry in entries.items()} == {
        "ANN/a.py": "ANN",
        "Ann.txt.py": "Ann.txt",
        "ann/exercises.py": "ann-2",
        "ann.py": "ann-3",
    }
    assert entries["ann-3"].flags[:2] == (
        "another submission has this name: ANN",
        "another submission has this name: ann",
    )


@pytest.mark.parametrize(
    ("file", "student", "key"),
    [
        ("Ann Lee.py", "Ann Lee", "Ann_Lee"),
        ("=cmd|' C calc'!A0.py", "=cmd|' C calc'!A0", "cmd_C_calc_A0"),
        ("a\tb\nc.py", "a�b c", "a_b_c"),
        ("Zoë.py", "Zoë", "Zoë"),
        (unicodedata.normalize("NFD", "Zoë") + ".py", "Zoë", "Zoë"),
        ("---.py", "---", "---"),
        ("con.py", "con", "student-con"),
        ("nul.txt.py", "nul.txt", "student-nul.txt"),
        ("gradebook.csv.py", "gradebook.csv", "student-gradebook.csv"),
        ("run.json.py", "run.json", "student-run.json"),
        ("!!!.py", "!!!", "student"),
        ("x" * 200 + ".py", "x" * 200, "x" * 80),
        ("\u202eevil.py", "�evil", "evil"),
        (os.fsdecode(b"caf\xe9.py"), "caf�", "caf"),
    ],
    ids=ascii,
)
def test_names_become_folders_that_every_system_takes(hand_in, file, student, key):
    (made,) = hand_in(files={file: "double = 1"}).values()
    assert made.student == student
    assert made.key == key


def test_what_is_no_submission_is_named_and_left_out(hand_in):
    files = {"ann.py": "", "readme.txt": "", "roster.csv": "", ".DS_Store": "", "out/ann/x.py": ""}
    files |= {"old/run.json": "{}", "old/gradebook.csv": "", "__pycache__/x.py": ""}
    assert list(hand_in(files=files, skip=["out"])) == ["ann"]
    assert hand_in.left_out == ("old", "readme.txt", "roster.csv")


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (RIGHT_DOUBLE, ()),
        ("from functools import partial\ndouble = partial(max)", ()),
        ("if True:\n    def average(x): ...", ()),
        ("from mine import double", ()),
        ("def adamw(): ...", ("it defines none of the functions of lesson toy",)),
        ("", ("it defines none of the functions of lesson toy",)),
        ("def other(): ...", ("it defines none of the functions of lesson toy; it looks like lesson second",)),
        ("def (", ("it is not Python as a whole: see its feedback",)),
        ("(" * 5000, ("it is not Python as a whole: see its feedback",)),
    ],
    ids=range(9),
)
def test_a_submission_for_another_lesson_is_flagged(hand_in, course, text, flags):
    exercise = course.lesson.exercises[0].model_copy(update={"names": ("other",)})
    second = course.lesson.model_copy(update={"id": "second", "exercises": (exercise,)})
    entry = hand_in(files={"ann.py": text}, others=[second])["ann"]
    assert (entry.flags, entry.stray, entry.problem) == (flags, bool(flags), "")


def test_the_mark_at_the_head_of_a_file_belongs_to_its_bytes(hand_in):
    raw = b"\xef\xbb\xbf" + RIGHT_DOUBLE.encode()
    assert hand_in(files={"ann.py": raw})["ann"].raw == raw


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, r"a folder of submissions\. Got no such file or directory\. Fix: name the folder"),
        (lambda path: path.write_text(""), r"a folder of submissions\. Got not a directory\."),
        (lambda path: path.mkdir(), r"submissions\. Got an empty folder\. Fix: put one <student>\.py"),
        (lambda path: (path.mkdir(), (path / "a.txt").touch()), r"submissions\. Got nothing but a\.txt\."),
    ],
    ids=["missing", "a file", "empty", "nothing to grade"],
)
def test_a_folder_without_submissions_is_refused(course, tmp_path, make, words):
    path = tmp_path / "there"
    make(path)
    with pytest.raises(SubmissionError, match=words):
        read_folder(path, course.lesson)


def test_an_archive_instead_of_a_folder_is_told_apart(course, tmp_path):
    path = Path(tmp_path / "all.zip")
    path.touch()
    with pytest.raises(SubmissionError, match="Fix: unpack it, and name the folder"):
        read_folder(path, course.lesson)
