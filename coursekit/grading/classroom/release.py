"""The students' bundle: a course without answers, proven to be one before it stands where it was asked for. No torch.

A bundle is a course of its own: in it, `coursekit list`, `run`, `hint` and `grade` work as in the clone, though no
mistake is named, since naming takes the wrong answers.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coursekit import __version__
from coursekit.catalog import Lesson
from coursekit.errors import LessonError, OutputError
from coursekit.files import make_folder, output_error, write_atomically
from coursekit.grading.authoring.stubs import exercise_names, stub_source
from coursekit.grading.classroom.leaks import SECRET, Answers

STUBS, KEPT_STUBS = "exercises.py", "exercises.stub.py"  # the second is what `coursekit reset` takes the stubs from
_TEXTS = ("README.md", "lesson.toml")
_PICTURES = (".png", ".svg", ".jpg")
_AUTHORS = "equivalent"  # key of lesson.toml that quotes the solution
_IGNORE = ".venv/\n__pycache__/\n.coursekit/\n.pytest_cache/\nruns/\ndata/\n"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold: the same bundle gives the same bytes
_PATIENCE = 900.0  # seconds for one proof


@dataclass(frozen=True)
class Release:
    """A bundle that was made.

    Args:
        folder: where it stands.
        files: in it, relative, with slashes.
        left_out: files of the lessons' folders that are not in it, answers apart.
        archive: the zip; None when none was asked for.
    """

    folder: Path
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    archive: Path | None


def release(lessons: Sequence[Lesson], out: Path, *, archive: bool = False) -> Release:
    """Make the students' bundle of some lessons, and prove it.

    Proven is that no file holds code of an answer, that every stub is *not attempted*, and that the solution would
    pass in it. Until then it stands in a temporary folder: a bundle that is not proven is never seen.

    Args:
        lessons: from the catalogue.
        out: a folder that is new or empty.
        archive: also write `out`.zip.

    Raises:
        LessonError: an answer would be given away, or the bundle does not work; the message names the place.
        OutputError: `out` is not empty, or cannot be written.
    """
    _check(lessons, out, archive)
    make_folder(out.parent)
    try:
        stage = Path(tempfile.mkdtemp(dir=out.parent.resolve(), prefix=".release-"))
    except OSError as error:
        raise output_error(out, error) from None
    try:
        left_out = [name for lesson in lessons for name in _lay_out(lesson, stage)]
        _write_top(lessons, stage)
        for lesson in lessons:
            _prove_no_answer(lesson, stage)
            _prove_imports(lesson, stage)
            _prove_grading(lesson, stage)
        _sweep(stage)
        files = tuple(file.relative_to(stage).as_posix() for file in _files(stage))
        stage.chmod(0o755)  # temporary folders are for their owner alone
        if out.exists():
            out.rmdir()
        os.replace(stage, out)
    except OSError as error:
        raise output_error(out, error) from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return Release(out, files, tuple(left_out), _zip(out) if archive else None)


def _check(lessons: Sequence[Lesson], out: Path, archive: bool) -> None:
    ids = {lesson.id for lesson in lessons}
    for lesson in lessons:
        if missing := sorted(set(lesson.needs) - ids):
            fix = f"release {' '.join([*missing, *sorted(ids)])}"
            raise LessonError(f"lesson {lesson.id}", "the lessons that it needs beside it", got="none", fix=fix)
        if not (lesson.folder / "solution.py").is_file():
            fix = "release from the course itself, not from a bundle"
            raise LessonError(f"lesson {lesson.id}", "a file solution.py to make the stubs from", got="none", fix=fix)
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise OutputError(str(out), "a new or empty folder", got="one that is taken", fix="choose another --out")
    if archive and _archive(out).exists():
        raise OutputError(str(_archive(out)), "a zip that is not there yet", got="one", fix="delete it, or rename it")


# ------------------------------------------------------------------------------------------ laying out


def _lay_out(lesson: Lesson, stage: Path) -> list[str]:
    """Copy what students need of one lesson, with fresh stubs; return what was left out."""
    folder = stage / "lessons" / lesson.id
    folder.mkdir(parents=True)
    left_out = []
    for file in _files(lesson.folder):
        name = file.relative_to(lesson.folder).as_posix()
        if file.is_symlink() or not _wanted(name):
            left_out += [f"{lesson.id}/{name}"] if name not in (*SECRET, STUBS, KEPT_STUBS) else []
            continue
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.read_bytes())
    text = (lesson.folder / "lesson.toml").read_text(encoding="utf-8")
    (folder / "lesson.toml").write_text(_without_authors_notes(text, lesson), encoding="utf-8")
    for name in (STUBS, KEPT_STUBS):
        (folder / name).write_text(_stub(lesson), encoding="utf-8")
    if lesson.config_file.is_file():
        target = stage / "configs" / lesson.config_file.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(lesson.config_file.read_bytes())
    return left_out


def _wanted(name: str) -> bool:
    path = Path(name)
    if path.parent.name == "figures" and len(path.parts) == 2:
        return path.suffix in _PICTURES
    code = path.suffix == ".py" and name not in (*SECRET, STUBS, KEPT_STUBS)
    return len(path.parts) == 1 and (code or name in _TEXTS)


def _stub(lesson: Lesson) -> str:
    return stub_source((lesson.folder / "solution.py").read_text(encoding="utf-8"), exercise_names(lesson))


def _write_top(lessons: Sequence[Lesson], stage: Path) -> None:
    (stage / "lessons" / "__init__.py").write_text('"""The lessons, one folder each."""\n', encoding="utf-8")
    (stage / ".gitignore").write_text(_IGNORE, encoding="utf-8")
    (stage / "README.md").write_text(_readme(lessons), encoding="utf-8")


def _readme(lessons: Sequence[Lesson]) -> str:
    first = lessons[0]
    titles = "\n".join(f"- [{one.title}](lessons/{one.id}/README.md), about {one.minutes} minutes" for one in lessons)
    return f"""# Lessons

{titles}

You need Python 3.11 or newer and `coursekit` {__version__}, from where your teacher says. Then, in this folder:

```
coursekit doctor               # what works on this machine
coursekit list                 # the exercises, and how far you are
coursekit run {first.id}     # the experiment, before you write a line
coursekit grade {first.id}   # your verdicts
coursekit hint {first.id} {first.exercises[0].code if first.exercises else ""}
```

Write your code in `lessons/{first.id}/exercises.py`, and hand in that file. `exercises.stub.py` beside it is how it
began; `coursekit reset` takes it from there.
"""


def _without_authors_notes(text: str, lesson: Lesson) -> str:
    """Return lesson.toml without the notes on mutants, which quote the solution line by line."""
    kept: list[str] = []
    lines = iter(text.splitlines(keepends=True))
    for line in lines:
        if not re.match(rf"\s*{_AUTHORS}\s*=", line):
            kept.append(line)
            continue
        entry = line
        while not _is_toml(entry):
            entry += next(lines)  # the whole file is TOML, so the entry ends
    stripped = "".join(kept)
    if tomllib.loads(stripped) != _without(tomllib.loads(text)):
        fix = f"write each `{_AUTHORS} = [...]` on lines of its own"
        raise LessonError(f"{lesson.folder / 'lesson.toml'}", "notes that can be taken out", got="others", fix=fix)
    return stripped


def _is_toml(text: str) -> bool:
    try:
        return bool(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return False


def _without(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without(value) for key, value in tree.items() if key != _AUTHORS}
    return [_without(value) for value in tree] if isinstance(tree, list) else tree


# --------------------------------------------------------------------------------------------- proofs


def _prove_no_answer(lesson: Lesson, stage: Path) -> None:
    """Refuse a bundle in which any file is, or holds, an answer of this lesson."""
    files = _files(stage)
    for file in files:
        if file.name in SECRET:
            where = file.relative_to(stage).as_posix()
            raise LessonError(f"release: {where}", "no file of answers", got=file.name, fix="take it out")
    answers = {name: lesson.folder / name for name in SECRET}
    texts = {name: file.read_text(encoding="utf-8") for name, file in answers.items() if file.is_file()}
    leaks = Answers(texts, _stub(lesson)).leaks_in(files)
    if leaks:
        shown = "; ".join(str(leak).replace(f"{stage}{os.sep}", "") for leak in leaks[:5])
        more = f" and {len(leaks) - 5} more" if len(leaks) > 5 else ""
        raise LessonError(
            f"release {lesson.id}", "no code of the answers in the bundle", got=shown + more, fix="take it out there"
        )


def _prove_imports(lesson: Lesson, stage: Path) -> None:
    """Refuse a bundle whose own files import one that is not in it."""
    folder, package = stage / "lessons" / lesson.id, f"lessons.{lesson.id}"
    for file in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for name in _imported(node, package):
                own = name.removeprefix(f"{package}.") if name.startswith(f"{package}.") else ""
                if own and not (folder / f"{own.partition('.')[0]}.py").is_file():
                    where = f"{file.relative_to(stage).as_posix()}, line {getattr(node, 'lineno', 1)}"
                    fix = "import it where only the course's own tests do"
                    raise LessonError(where, "imports that students have too", got=name, fix=fix)


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """Yield the dotted names of what a statement imports, where these may be modules of the lesson."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = ".".join(filter(None, [package, node.module])) if node.level == 1 else node.module or ""
        # `from lessons.x import probes` names a module; `from lessons.x.config import Config` does not.
        yield from (f"{module}.{alias.name}" for alias in node.names) if module == package else (module,)


def _prove_grading(lesson: Lesson, stage: Path) -> None:
    """Grade stubs and solution in the bundle, as a student would."""
    with tempfile.TemporaryDirectory(prefix="coursekit-release-") as name:
        stubs = stage / "lessons" / lesson.id / STUBS
        for source, wanted in ((stubs, "not attempted"), (lesson.folder / "solution.py", "pass")):
            # Outside of the bundle, so that no answer is ever in it.
            file = Path(name) / STUBS
            shutil.copyfile(source, file)
            verdicts = _verdicts(lesson, stage, file)
            wrong = {id: verdict for id, verdict in verdicts.items() if verdict != wanted}
            if wrong or len(verdicts) != len(lesson.exercises):
                shown = ", ".join(f"{id}: {verdict}" for id, verdict in wrong.items()) or f"{len(verdicts)} verdicts"
                raise LessonError(
                    f"release {lesson.id}",
                    f"{wanted} for every exercise of {source.name}, graded in the bundle",
                    got=shown,
                    fix=f"see `coursekit verify {lesson.id}`",
                )


def _verdicts(lesson: Lesson, stage: Path, file: Path) -> dict[str, str]:
    command = [sys.executable, "-m", "coursekit", "grade", lesson.id, "--submission", str(file), "--json", "-"]
    environment = {**os.environ, "COURSEKIT_ROOT": str(stage), "PYTHONDONTWRITEBYTECODE": "1"}
    where, fix = f"release {lesson.id}", "mend what it names"
    try:
        done = subprocess.run(
            command, cwd=stage, env=environment, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        got = f"nothing within {_PATIENCE:.0f} s"
        raise LessonError(where, "a bundle that can be graded", got=got, fix="look for checks that hang") from None
    try:
        return {part["id"]: part["verdict"] for part in json.loads(done.stdout)["exercises"]}
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no verdicts"])[-1].removeprefix("coursekit: ")
        raise LessonError(where, "a bundle that can be graded", got=last, fix=fix) from None


# ------------------------------------------------------------------------------------------------ files


def _files(folder: Path) -> list[Path]:
    """Return the files below a folder that belong to it, in the order of their paths; no caches, nothing hidden but
    .gitignore."""
    found = []
    for file in folder.rglob("*"):
        parts = file.relative_to(folder).parts
        hidden = any(part.startswith(".") and part != ".gitignore" for part in parts)
        if not hidden and "__pycache__" not in parts and (file.is_symlink() or file.is_file()):
            found.append(file)
    return sorted(found, key=lambda file: file.relative_to(folder).parts)


def _sweep(stage: Path) -> None:
    """Delete what grading has left behind."""
    kept = set(_files(stage))
    for path in sorted(stage.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in kept:
            path.unlink()


def _archive(out: Path) -> Path:
    return out.with_name(f"{out.name}.zip")


def _zip(out: Path) -> Path:
    """Write the folder as a zip whose bytes depend on the files alone."""
    with tempfile.TemporaryFile() as stream:
        with zipfile.ZipFile(stream, "w") as archive:
            for file in _files(out):
                entry = zipfile.ZipInfo(f"{out.name}/{file.relative_to(out).as_posix()}", _ZIP_TIME)
                entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o644 << 16, 3
                archive.writestr(entry, file.read_bytes(), compresslevel=9)
        stream.seek(0)
        return write_atomically(_archive(out), stream.read())
