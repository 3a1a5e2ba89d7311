"""The gradebook: a row for each submission, no cell a formula, and a file that is never lost."""

from __future__ import annotations

import csv
import io

import pytest

from coursekit.errors import OutputError
from coursekit.grading.classroom.gradebook import Record, check_writable, gradebook, names, write_gradebook

from .records import graded, part


def rows(records, lesson):
    text = gradebook(records, lesson)
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text[1:])))


def test_a_row_holds_points_and_verdicts(course):
    record = graded("ann", part("double"), part("average", "fail", 0.5, 2), flags=("one", "two"))
    (row,) = rows([record], course.lesson)
    assert row == {
        "student": "ann",
        "file": "ann.py",
        "sha256": "0" * 64,
        "score": "4.5",
        "max_score": "6",
        "double": "4",
        "average": "0.5",
        "double verdict": "pass",
        "average verdict": "fail",
        "status": "graded",
        "flags": "one; two",
        "problem": "",
        "folder": "ann",
    }


@pytest.mark.parametrize(("ours", "status"), [(False, "not graded"), (True, "grader error")])
def test_what_was_not_graded_has_no_score(course, ours, status):
    (row,) = rows([Record("ann", "ann", "ann.py", problem="No.", ours=ours)], course.lesson)
    assert (row["score"], row["double"], row["double verdict"], row["status"]) == ("", "", status, status)
    assert row["problem"] == "No."


@pytest.mark.parametrize("start", [*"=+-@\t\r\n＝＋－＠", "  =", " @"])
def test_no_cell_is_a_formula(course, start):
    evil = f"{start}HYPERLINK(1)"
    record = Record(evil, "ann", evil, problem=evil, flags=(evil,))
    (row,) = rows([record], course.lesson)
    for column in ("student", "file", "problem", "flags"):
        assert row[column] == f"'{evil}"


def test_commas_quotes_and_lines_stay_in_their_cell(course):
    name = 'a,"b";\nc\u2028d'
    (row,) = rows([Record(name, "a", "a.py", problem="x")], course.lesson)
    assert row["student"] == name


def test_a_name_that_is_not_alone_is_told_with_its_file():
    records = [Record("ann", "ann", "ann.py"), Record("ann", "ann-2", "ann/x.py"), Record("bob", "bob", "bob.py")]
    assert names(records) == {"ann": "ann (ann.py)", "ann-2": "ann (ann/x.py)", "bob": "bob"}


def test_a_report_with_lone_surrogates_can_be_stored(course):
    from coursekit.grading.classroom.roster import Entry

    record = Record.of(Entry("ann", "ann", "ann.py", None), {"message": "\udc80"}, "\ud800")
    assert (record.report["message"], record.problem) == ("?", "?")


@pytest.mark.parametrize(
    ("record", "settled"),
    [
        (graded("ann", part("double", "fail", 0, 4)), True),
        (graded("ann", part("double", "grader error", 4, 4)), False),
        (graded("ann"), False),
        (Record("ann", "ann", "ann.py", problem="No."), False),
    ],
    ids=["graded", "our fault", "nothing graded", "not graded"],
)
def test_only_what_was_graded_is_settled(record, settled):
    assert record.settled is settled


# Writing


def read_only(path):
    path.write_text("old")
    path.chmod(0o444)


def open_in_libreoffice(path):
    path.write_text("old")
    path.with_name(f".~lock.{path.name}#").touch()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (read_only, r"gradebook\.csv: .*Got a read-only file\. Fix: make it writable"),
        (open_in_libreoffice, r"gradebook\.csv: .*Got open in LibreOffice .* Fix: close it there"),
        (lambda path: path.mkdir(), r"gradebook\.csv: .*Got a folder\."),
    ],
    ids=["read-only", "open", "a folder"],
)
def test_a_gradebook_that_cannot_be_replaced(tmp_path, spoil, words):
    path = tmp_path / "gradebook.csv"
    spoil(path)
    with pytest.raises(OutputError, match=words):
        check_writable(path)
    spoiled = path.read_text() if path.is_file() else None
    assert write_gradebook(path, "new") == tmp_path / "gradebook-2.csv"
    assert (tmp_path / "gradebook-2.csv").read_text() == "new"
    assert (path.read_text() if path.is_file() else None) == spoiled
    (tmp_path / "gradebook-2.csv").chmod(0o444)
    assert write_gradebook(path, "newer").name == "gradebook-3.csv"


def test_an_ordinary_gradebook_is_replaced(tmp_path):
    path = tmp_path / "gradebook.csv"
    check_writable(path)
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"
    assert write_gradebook(path, "new") == path
    assert path.read_text() == "new"


def test_a_folder_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="create its folder first"):
        write_gradebook(tmp_path / "gone" / "gradebook.csv", "new")
