"""Laying out exercises: a skeleton that works at once, for the author to overwrite.

Files that exist only grow at their end: not one byte before is changed. Nothing here imports torch.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import os
import re
from contextlib import suppress
from pathlib import Path
from string import Template

from coursekit import catalog
from coursekit.catalog import Lesson
from coursekit.errors import LessonError, UserError
from coursekit.files import make_folder, write_atomically
from coursekit.grading.authoring import skeleton
from coursekit.grading.authoring.stubs import exercise_names, stub_of, stub_source, worked

_NAME = re.compile(r"[a-z][a-z0-9_]{2,39}")
# Names that the files of every lesson use themselves.
_TAKEN = {*dir(builtins), *keyword.kwlist, *keyword.softkwlist}
_TAKEN |= {"torch", "pytest", "close", "same", "holds", "raises", "learner", "rng", "probes", "alternative", "wrong"}


def new_exercise(lesson_id: str, name: str) -> tuple[Path, ...]:
    """Lay out an exercise, in a new lesson or at the end of an old one.

    Args:
        lesson_id: of the lesson; its folder is made when there is none.
        name: of the exercise, and of the function that it asks for.

    Returns:
        The files that were written or that grew.

    Raises:
        LessonError: a name cannot be used or is taken, or a file of the lesson is not well formed.
        OutputError: a file cannot be written; then all are as before.
    """
    top = _root()
    _check_name("lesson", lesson_id)
    _check_name("exercise", name)
    if name in _TAKEN:
        raise LessonError("exercise", "a name of its own", got=name, fix="choose another name")
    known = catalog.lessons() if any((top / "lessons").glob("*/lesson.toml")) else ()
    found = next((entry for entry in known if entry.id == lesson_id), None)
    texts = _grown(found, name) if found else _fresh(top, lesson_id, name, 1 + max((e.order for e in known), default=0))
    _write_all(texts)
    return tuple(texts)


def new_stubs(lesson: Lesson) -> Path:
    """Make `exercises.py` from the solution again.

    Args:
        lesson: from the catalogue.

    Returns:
        The file.

    Raises:
        LessonError: there is a learner's work in the file, or the solution is missing or not well formed.
        OutputError: the file cannot be written.
    """
    file = lesson.folder / "exercises.py"
    text = stub_source(_read(lesson.folder / "solution.py"), exercise_names(lesson))
    if file.is_file():
        work = worked(_read(file))
        if work:
            fix = f"keep that elsewhere and delete it here, or see `coursekit stubs {lesson.id} --print`"
            raise LessonError(str(file), "stubs alone, nothing that someone wrote", got=work, fix=fix)
    return write_atomically(file, text)


def _root() -> Path:
    try:
        return catalog.root()
    except LessonError:
        named = os.environ.get("COURSEKIT_ROOT")  # a course without a lesson, so far
        if named and Path(named).is_dir():
            return Path(named)
        raise


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        expected = "3 to 40 small letters, digits and _, a letter first"
        raise LessonError(what, expected, got=repr(name), fix="choose such a name, as in sequences/scaled_attention")


def _fresh(top: Path, lesson_id: str, name: str, order: int) -> dict[Path, str]:
    """Return the files of a new lesson."""
    folder = top / "lessons" / lesson_id
    if folder.exists():
        expected = "a lesson with a lesson.toml, or no folder yet"
        raise LessonError(str(folder), expected, got="a folder without one", fix="choose another name, or remove it")
    words = {"lesson": lesson_id, "name": name, "code": f"{lesson_id[0].upper()}1", "order": str(order)}
    texts = {folder / file: Template(text).substitute(words) for file, text in skeleton.LESSON.items()}
    for file, text in skeleton.EXERCISE.items():
        gap = "" if file == "lesson.toml" else "\n"
        texts[folder / file] += gap + Template(text).substitute(words)
    solution = texts[folder / "solution.py"]
    texts[folder / "exercises.py"] = stub_source(solution, {name: words["code"]})
    profiles = top / "configs" / f"{lesson_id}.yaml"
    if not profiles.exists():
        texts[profiles] = Template(skeleton.PROFILES).substitute(words)
    package = top / "lessons" / "__init__.py"
    if not package.exists():
        texts[package] = '"""The lessons, one folder each."""\n'
    return texts


def _grown(lesson: Lesson, name: str) -> dict[Path, str]:
    """Return the files of a lesson with one exercise more."""
    if any(name in (exercise.id, *exercise.names) for exercise in lesson.exercises):
        fix = f"choose another name; `coursekit list {lesson.id}` shows all"
        raise LessonError(f"lesson {lesson.id}", "an exercise that is new", got=name, fix=fix)
    words = {"lesson": lesson.id, "name": name, "code": _next_code(lesson), "order": str(lesson.order)}
    texts: dict[Path, str] = {}
    for file, template in skeleton.EXERCISE.items():
        path = lesson.folder / file
        texts[path] = _appended(path, Template(template).substitute(words), name)
    path = lesson.folder / "exercises.py"
    solution = texts[lesson.folder / "solution.py"]
    if path.is_file():
        texts[path] = _appended(path, f"\n{stub_of(solution, name, words['code'])}\n", name)
    else:
        texts[path] = stub_source(solution, {**exercise_names(lesson), name: words["code"]})
    return texts


def _next_code(lesson: Lesson) -> str:
    codes = [exercise.code for exercise in lesson.exercises] or [f"{lesson.id[0].upper()}0"]
    return f"{codes[-1][0]}{1 + max(int(code[1:]) for code in codes)}"


def _appended(path: Path, more: str, name: str) -> str:
    """Return the text of a file with a part more, and the imports that the part needs."""
    text = _read(path) if path.is_file() else skeleton_of(path)
    if path.suffix == ".py":
        bound = _bound(text, path)
        if taken := sorted({name, *_bound(more, path)} & bound):
            fix = "choose another name for the exercise"
            raise LessonError(str(path), "a name that is not used yet", got=taken[0], fix=fix)
        lines = [line for one, line in skeleton.IMPORTS[path.name].items() if one not in bound]
        # What stands above is not touched, so what is missing is imported here.
        more = "\n" + "".join(f"{line}  # noqa: E402\n" for line in lines) + ("\n" if lines else "") + more
    gap = "" if text.endswith("\n") or not text else "\n"
    return text + gap + more


def skeleton_of(path: Path) -> str:
    """Return the first lines of a file that a lesson does not have yet."""
    text = skeleton.LESSON.get(path.name, "")
    return Template(text).safe_substitute(lesson=path.parent.name, order="")


def _bound(text: str, path: Path) -> set[str]:
    """Return the names that a file's top level binds."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise LessonError(str(path), "valid Python", got=error, fix="mend it first; nothing was written") from None
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        else:
            names |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    return names


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")  # not `read_text`, which would change line ends
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "other bytes"
        raise LessonError(str(path), "a file of UTF-8 text", got=reason.lower(), fix="mend it first") from None


def _write_all(texts: dict[Path, str]) -> None:
    """Write all files or none; lesson.toml comes last, so that an exercise is listed when it is whole."""
    before = {path: path.read_bytes() if path.is_file() else None for path in texts}
    made = [folder for folder in {path.parent for path in texts} if not folder.exists()]
    done: list[Path] = []
    try:
        for path in sorted(texts, key=lambda path: path.name == "lesson.toml"):
            make_folder(path.parent)
            # A link stays one: what it names is what grows.
            write_atomically(path.resolve(), texts[path])
            done.append(path)
    except UserError:
        for path in reversed(done):
            old = before[path]
            with suppress(OSError, UserError):
                write_atomically(path.resolve(), old) if old is not None else path.unlink()
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise
