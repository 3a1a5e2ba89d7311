"""One row for each submission: the record of a grading, and `gradebook.csv`. No torch here."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from coursekit.catalog import Lesson
from coursekit.errors import OutputError
from coursekit.files import output_error, write_atomically
from coursekit.grading.classroom.roster import Entry

FILE = "gradebook.csv"
REPORT = "report.json"
Status = Literal["graded", "not graded", "grader error"]

# Excel, LibreOffice and Google Sheets take a cell that starts so for a formula; the wide forms are Excel's in Japan.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_MOST_GRADEBOOKS = 100


@dataclass(frozen=True)
class Record:
    """What became of one submission.

    Args:
        student: their name.
        key: the name of their folder of results.
        file: that was graded, relative to the folder of submissions.
        report: the JSON of `coursekit grade`; empty when it was not graded.
        problem: why it was not graded; empty when it was.
        ours: the problem is a fault of the grader's, and not of the file.
        flags: what a person should look at.
        stray: the file holds nothing that the lesson asks for.
    """

    student: str
    key: str
    file: str
    report: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    ours: bool = False
    flags: tuple[str, ...] = ()
    stray: bool = False

    @classmethod
    def of(cls, entry: Entry, report: Mapping[str, Any] | None = None, problem: str = "", ours: bool = False) -> Record:
        """Make the record of an entry, with the report's own flags behind the entry's."""
        kept = _storable(report or {})
        flags = (*entry.flags, *(flag for flag in kept.get("flags", ()) if flag not in entry.flags))
        return cls(entry.student, entry.key, entry.file, kept, _storable(problem), ours, flags, entry.stray)

    @property
    def status(self) -> Status:
        """Whether it was graded, and whose fault it is when not."""
        return "graded" if not self.problem else "grader error" if self.ours else "not graded"

    @property
    def exercises(self) -> Sequence[Mapping[str, Any]]:
        """The entries of the exercises; none when it was not graded."""
        return self.report.get("exercises", ())

    @property
    def sha256(self) -> str:
        """Of the bytes that were graded; empty when they could not be read."""
        return self.report.get("submission", {}).get("sha256", "")

    @property
    def settled(self) -> bool:
        """Whether grading the same bytes again would change nothing: not so after a fault of ours."""
        verdicts = [part["verdict"] for part in self.exercises]
        return self.status == "graded" and bool(verdicts) and "grader error" not in verdicts

    def flagged(self, *flags: str) -> Record:
        """Return the record with more flags."""
        return replace(self, flags=(*self.flags, *flags))


def names(records: Sequence[Record]) -> dict[str, str]:
    """Return, by key, how each student is called among the others: with the file where the name is not theirs alone."""
    count = Counter(record.student for record in records)
    return {
        record.key: record.student if count[record.student] == 1 else f"{record.student} ({record.file})"
        for record in records
    }


def _storable(tree: Any) -> Any:
    """Return plain values without lone surrogates, which no file of ours could hold."""
    return json.loads(json.dumps(tree, ensure_ascii=False).encode("utf-8", "replace"))


# --------------------------------------------------------------------------------------------- CSV


def gradebook(records: Sequence[Record], lesson: Lesson) -> str:
    """Return the text of gradebook.csv: one row for each submission, points before verdicts."""
    ids = [exercise.id for exercise in lesson.exercises]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")  # as RFC 4180 has it
    columns = ["student", "file", "sha256", "score", "max_score", *ids, *(f"{id} verdict" for id in ids)]
    writer.writerow([*columns, "status", "flags", "problem", "folder"])
    for record in records:
        parts = {part["id"]: part for part in record.exercises}
        scores = [record.report["score"], record.report["max_score"]] if record.status == "graded" else ["", ""]
        points = [parts[id]["points"] if id in parts else "" for id in ids]
        verdicts = [parts[id]["verdict"] if id in parts else record.status for id in ids]
        told = [record.status, "; ".join(record.flags), record.problem, record.key]
        row = [record.student, record.file, record.sha256, *scores, *points, *verdicts, *told]
        writer.writerow([_cell(value) for value in row])
    # The mark at the head tells Excel that this is UTF-8.
    return "\ufeff" + stream.getvalue()


def _cell(value: object) -> object:
    """Return a value as a cell that no spreadsheet takes for a formula."""
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value


# ------------------------------------------------------------------------------------------ writing


def check_writable(path: Path) -> None:
    """Make sure that a gradebook can be replaced, before hours are spent on what goes into it.

    Raises:
        OutputError: it is read-only, no file, or open in a spreadsheet.
    """
    if path.is_dir():
        raise OutputError(str(path), "a gradebook that can be written", got="a folder", fix="move it, or choose --out")
    lock = path.with_name(f".~lock.{path.name}#")  # LibreOffice's
    if lock.exists():
        raise OutputError(
            str(path), "a gradebook that can be written", got=f"open in LibreOffice ({lock.name})", fix="close it there"
        )
    if not path.exists():
        return
    # Renaming over a read-only file would succeed, and so does opening it as root; whoever made it so meant it.
    if not path.stat().st_mode & 0o222:
        fix = "make it writable, move it, or choose another --out"
        raise OutputError(str(path), "a gradebook that can be written", got="a read-only file", fix=fix)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))  # fails on Windows while Excel has it open
    except OSError as error:
        raise output_error(path, error) from None


def write_gradebook(path: Path, text: str) -> Path:
    """Write the gradebook, or one with a number beside it when it cannot be replaced any more.

    Args:
        path: of gradebook.csv.
        text: see `gradebook`.

    Returns:
        The file that was written.

    Raises:
        OutputError: the folder cannot be written to.
    """
    choices = [path, *(path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(2, _MOST_GRADEBOOKS))]
    for choice in choices[:-1]:
        try:
            check_writable(choice)
            return write_atomically(choice, text)
        except OutputError:
            if choice is path or choice.exists():
                continue
            raise
    return write_atomically(choices[-1], text)
