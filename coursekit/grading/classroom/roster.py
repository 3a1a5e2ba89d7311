"""Who handed in what: a folder of submissions, one file or one folder for each student. No torch here."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coursekit.catalog import Lesson
from coursekit.errors import SubmissionError
from coursekit.grading.classroom.similarity import NOT_PYTHON
from coursekit.grading.submission import Submission, read
from coursekit.grading.text import printable

RUN_FILE = "run.json"  # marks, beside a gradebook, a folder of results
_PYTHON = ".py"
_PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
_NOT_CODE = {".ipynb": "a notebook", ".pdf": "a PDF", ".docx": "a Word file", ".txt": "a text file", ".pyc": "bytecode"}
_IMPORTS = (ast.Import, ast.ImportFrom)
_SKIPPED = ("__pycache__", "__MACOSX")
# A bundle in a zip in a folder is five deep; more is a whole home folder.
_DEEPEST = 6
_MOST_ENTRIES = 5000
# What Moodle appends to the student's name and number.
_MOODLE = re.compile(r"_assignsubmission_(?:file|onlinetext)_?$")
# Names of our own files, and those that Windows keeps for devices.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?|gradebook.*|summary.*|run\.json|", re.IGNORECASE)
_LONGEST_KEY = 80  # characters, so that the paths of results stay below every system's limit


@dataclass(frozen=True)
class Entry:
    """What one student handed in.

    Args:
        student: the name, as the file or folder has it.
        key: the name of their folder of results, of its own in any case and on any system.
        file: relative to the folder of submissions, with slashes; of the folder or file where nothing was found.
        code: what was read; None when it cannot be graded.
        problem: why it cannot be graded, for people; empty when it can.
        flags: what a person should look at.
        stray: it holds nothing that the lesson asks for.
    """

    student: str
    key: str
    file: str
    code: Submission | None
    problem: str = ""
    flags: tuple[str, ...] = ()
    stray: bool = False

    @property
    def raw(self) -> bytes:
        """The bytes that were read."""
        if self.code is None:
            return b""
        # The mark at the head is all that `read` takes away when it decodes.
        text = self.code.text.encode()
        return text if hashlib.sha256(text).hexdigest() == self.code.sha256 else b"\xef\xbb\xbf" + text


@dataclass(frozen=True)
class Roster:
    """All that was handed in.

    Args:
        entries: one for each student, in the order of their files.
        left_out: names in the folder that are no submissions, such as `readme.txt`.
    """

    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]


def read_folder(folder: Path, lesson: Lesson, *, skip: Collection[Path] = (), others: Sequence[Lesson] = ()) -> Roster:
    """Find and read every submission in a folder.

    A student is a file `ann.py`, or a folder `ann/` that holds one: `exercises.py`, however deep an archive put it,
    or its only Python file.

    Args:
        folder: of submissions.
        lesson: that was asked for.
        skip: folders that are not looked into, such as that of the results.
        others: lessons that a stray submission may belong to.

    Raises:
        SubmissionError: there is no such folder, or nothing in it.
    """
    found, left_out = [], []
    for path in _listed(folder):
        kind = _kind(path, skip)
        if kind == "submission":
            found.append((path, *_locate(path, lesson)))
        elif kind == "left out":
            left_out.append(path.name)
    if not found:
        came = f"nothing but {printable(', '.join(left_out[:5]), 200)}" if left_out else "an empty folder"
        fix = "put one <student>.py, or one folder <student>/ with exercises.py, for each student into it"
        raise SubmissionError(str(folder), "submissions", got=came, fix=fix)
    students = [_student(path) for path, _, _ in found]
    keys = _keys(students)
    namesakes = _namesakes(students, [path.name for path, _, _ in found])
    entries = [
        _entry(folder, lesson, others, student, key, file, problem, alike)
        for student, key, alike, (_, file, problem) in zip(students, keys, namesakes, found, strict=True)
    ]
    return Roster(tuple(entries), tuple(left_out))


def _listed(folder: Path) -> list[Path]:
    """Return what a folder holds, hidden things apart, in the order of the names."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in _SKIPPED)
    except (OSError, ValueError) as error:
        packed = folder.suffix.lower() in _PACKED
        fix = "unpack it, and name the folder" if packed else "name the folder that holds the submissions"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SubmissionError(str(folder), "a folder of submissions", got=reason.lower(), fix=fix) from None


def _kind(path: Path, skip: Collection[Path]) -> str:
    if path.is_symlink():
        return "submission"  # refused when it is read, by name
    if path.is_dir():
        if path.resolve() in [other.resolve() for other in skip]:
            return "results"
        return "left out" if (path / RUN_FILE).is_file() and (path / "gradebook.csv").is_file() else "submission"
    suffix = path.suffix.lower()
    return "submission" if suffix == _PYTHON or suffix in _PACKED or suffix == ".ipynb" else "left out"


def _locate(path: Path, lesson: Lesson) -> tuple[Path, str]:
    """Return the file to grade and an empty text, or where the search ended and why."""
    if not path.is_dir() or path.is_symlink():
        return path, _unfit(path)
    try:
        files = list(_walk(path))
    except OSError as error:
        return path, f"The folder cannot be read: {(error.strerror or str(error)).lower()}."
    if len(files) >= _MOST_ENTRIES:
        return path, f"The folder holds more than {_MOST_ENTRIES} files. Hand in exercises.py alone."
    named = _shallowest([file for file in files if file.name.lower() == "exercises.py"])
    of_lesson = [file for file in named if file.parent.name == lesson.id]
    python = _shallowest([file for file in files if file.suffix.lower() == _PYTHON])
    for choice in (named, of_lesson, [] if named else python):
        if len(choice) == 1:
            return choice[0], ""
    if several := named or python:
        shown = ", ".join(file.relative_to(path).as_posix() for file in several[:5])
        return path, f"Several Python files, and it is not clear which to grade: {shown}."
    unfit = next((reason for file in files if (reason := _unfit(file))), "")
    return path, f"No Python file in the folder. {unfit}".strip()


def _unfit(path: Path) -> str:
    """Return why a file that is no Python cannot be graded; empty for all others."""
    suffix = path.suffix.lower()
    if suffix in _PACKED:
        return f"{path.name} is an archive: archives are not opened here. Unpack it, then repeat the command."
    if suffix in _NOT_CODE:
        return f"{path.name} is {_NOT_CODE[suffix]}: only Python files are graded."
    return ""


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, links included and never followed, at most so many and so deep."""
    count = 0
    level = [folder]
    for _ in range(_DEEPEST):
        below = []
        for place in level:
            for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
                if entry.name.startswith(".") or entry.name in _SKIPPED:
                    continue
                count += 1
                if count > _MOST_ENTRIES:
                    return
                if entry.is_dir(follow_symlinks=False):
                    below.append(Path(entry.path))
                else:
                    yield Path(entry.path)
        level = below


def _shallowest(files: Sequence[Path]) -> list[Path]:
    least = min((len(file.parts) for file in files), default=0)
    return [file for file in files if len(file.parts) == least]


def _entry(
    folder: Path,
    lesson: Lesson,
    others: Sequence[Lesson],
    student: str,
    key: str,
    file: Path,
    problem: str,
    namesakes: Sequence[str],
) -> Entry:
    relative = printable(file.relative_to(folder).as_posix(), 300)
    flags = [f"another submission has this name: {name}" for name in namesakes]
    code, stray = None, ""
    if not problem:
        try:
            code = read(file)
        except SubmissionError as error:
            came = f" Got {error.got}." if error.got else ""
            problem = f"{printable(file.name)}: {error.expected}.{came} Fix: {error.fix}."
        else:
            stray = _stray(code, lesson, others)
    flags += [stray] if stray else []
    return Entry(student, key, relative, code, printable(problem, 1000), tuple(flags), bool(stray))


def _stray(code: Submission, lesson: Lesson, others: Sequence[Lesson]) -> str:
    """Return a flag when a file holds nothing that the lesson asks for; else an empty text."""
    names = _defined(code.text)
    if names is None:
        return "it is not Python as a whole: see its feedback"
    if names & {name for exercise in lesson.exercises for name in exercise.names}:
        return ""
    fits = {other.id: len(names & {n for one in other.exercises for n in one.names}) for other in others}
    best = max(fits, key=lambda id: fits[id], default="")
    guess = f"; it looks like lesson {best}" if best and fits[best] else ""
    return f"it defines none of the functions of lesson {lesson.id}{guess}"


def _defined(text: str) -> set[str] | None:
    """Return every name that a file's top level may define; None for what is not Python."""
    try:
        body = ast.parse(text).body
    except NOT_PYTHON:
        return None
    # Generous: also `adamw_step = partial(...)`, and what is defined under an `if` or imported.
    walked = [part for node in body for part in ast.walk(node)]
    names = {part.name for part in walked if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    names |= {part.id for part in walked if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    return names | {alias.asname or alias.name for part in walked if isinstance(part, _IMPORTS) for alias in part.names}


# ------------------------------------------------------------------------------------------- names


def _student(path: Path) -> str:
    name = path.name
    if not path.is_dir() or name.lower().endswith(_PYTHON):
        name = path.stem
    name = _MOODLE.sub("", unicodedata.normalize("NFC", name)).strip()
    # Names that are no Unicode come from the disk as lone surrogates, which no file of ours may hold.
    return printable(name, 200).replace("\n", " ") or "unnamed"


def _keys(students: Sequence[str]) -> list[str]:
    """Return a folder name for each student; no two are equal, even where a system does not tell case apart."""
    taken: set[str] = set()
    keys = []
    for student in students:
        plain = re.sub(r"[^\w.@+-]+", "_", student).strip("._")[:_LONGEST_KEY]
        plain = f"student-{plain}".rstrip("-") if _RESERVED.fullmatch(plain) else plain
        key, number = plain, 1
        while key.casefold() in taken:
            number += 1
            key = f"{plain}-{number}"
        taken.add(key.casefold())
        keys.append(key)
    return keys


def _namesakes(students: Sequence[str], files: Sequence[str]) -> list[list[str]]:
    """Return, for each student, the files of the others with the same name, whatever the case."""
    alike: dict[str, list[str]] = {}
    for student, file in zip(students, files, strict=True):
        alike.setdefault(student.casefold(), []).append(file)
    return [
        [printable(other) for other in alike[student.casefold()] if other != file]
        for student, file in zip(students, files, strict=True)
    ]
