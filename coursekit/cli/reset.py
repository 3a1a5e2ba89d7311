"""`coursekit reset`: an exercise back to its stub, with a copy of what was there."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from coursekit.catalog import Lesson


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("reset")(reset)


def reset(
    lesson: Annotated[str, typer.Argument(help="The lesson, such as optimization.")],
    exercise: Annotated[str | None, typer.Argument(help="The exercise, such as O1 or sgd_momentum.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole file: every exercise of the lesson.")] = False,
) -> None:
    """Put an exercise back to its stub; the file as it was is kept, and the rest of it stays as it is."""
    from coursekit import catalog, progress
    from coursekit.errors import ArgumentError
    from coursekit.files import write_atomically

    entry = catalog.lesson(lesson)
    if (exercise is None) == (not everything):
        fix = f"name one, such as {entry.exercises[0].code}, or write --all"
        raise ArgumentError("reset", "an exercise or --all", got="both" if everything else "neither", fix=fix)
    chosen = entry.exercises if exercise is None else (entry.exercise(exercise),)
    # A learner may have put a link there; what it points to is what they edit.
    file = (entry.folder / "exercises.py").resolve()
    stubs = _stubs(entry)
    before = _read(file, whole=everything)
    after = stubs if everything else _without(entry, before.decode(), chosen[0].names, stubs, file)
    if before == after.encode():
        print(f"{file} holds the stub already; nothing was changed.")
        return
    backup = _keep(catalog.root(), entry.id, before) if file.exists() else None
    write_atomically(file, after.encode())
    progress.record(catalog.root(), entry.id, {one.id: "not attempted" for one in chosen})
    what = "every exercise" if everything else f"{chosen[0].code} {chosen[0].id}"
    print(f"{what}: back to the stub in {file}")
    if backup is not None:
        copy = "copy" if os.name == "nt" else "cp"
        print(f"Your file as it was: {backup}")
        print(f"To undo: {copy} {shlex.quote(str(backup))} {shlex.quote(str(file))}")


def _stubs(entry: Lesson) -> str:
    """Return the text of all stubs: from the solution, or from the copy that a students' bundle has."""
    from coursekit.errors import LessonError
    from coursekit.grading.authoring.stubs import exercise_names, stub_source

    solution, kept = entry.folder / "solution.py", entry.folder / "exercises.stub.py"
    if solution.is_file():
        return stub_source(solution.read_text(encoding="utf-8"), exercise_names(entry))
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    fix = f"copy {kept.name} from your bundle into {entry.folder}"
    raise LessonError(f"lesson {entry.id}", "a file exercises.stub.py", got="none", fix=fix)


def _read(file: Path, *, whole: bool) -> bytes:
    from coursekit.errors import SubmissionError

    if whole and not file.exists():
        return b""
    try:
        content = file.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SubmissionError(str(file), "a readable file", got=reason, fix="reset the whole file with --all") from None
    try:
        content.decode()
    except UnicodeDecodeError as error:
        if not whole:
            got = f"{error.reason} at byte {error.start}"
            fix = "save it as UTF-8, or reset the whole file with --all"
            raise SubmissionError(str(file), "UTF-8 text", got=got, fix=fix) from None
    return content


def _without(entry: Lesson, text: str, names: tuple[str, ...], stubs: str, file: Path) -> str:
    from coursekit.errors import LessonError
    from coursekit.grading.authoring.restore import definition, restored

    for name in names:
        stub = definition(stubs, name)
        if not stub:
            raise LessonError(f"lesson {entry.id}", f"a stub of {name}", got="none", fix="ask for a new bundle")
        text = restored(text, name, stub, str(file))
    return text


def _keep(root: Path, lesson: str, content: bytes) -> Path:
    """Write the old file into the backups, under a name that is not taken."""
    from datetime import datetime

    from coursekit import progress
    from coursekit.files import make_folder, write_atomically

    folder = make_folder(root / progress.FOLDER / "backups" / lesson)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    names = (f"{stamp}{number}-exercises.py" for number in ("", *(f"-{n}" for n in range(2, 1000))))
    free = next(folder / name for name in names if not (folder / name).exists())
    return write_atomically(free, content)
