"""`coursekit explain`: once an exercise passes, why it is right, what was ruled out, and other ways."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from coursekit.catalog import Exercise, Lesson

_WIDTH = 100


class Marked(NamedTuple):
    """What the mark of a known answer says: its kind, the name that it replaces, and its sentence."""

    kind: str
    replaces: str
    says: str


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("explain")(explain)


def explain(
    lesson: Annotated[str, typer.Argument(help="The lesson, such as optimization.")],
    exercise: Annotated[str, typer.Argument(help="The exercise, such as O1 or sgd_momentum.")],
) -> None:
    """Tell why your solution is right and what was ruled out; once it passes, and not before."""
    from coursekit import catalog, progress

    entry = catalog.lesson(lesson)
    chosen = entry.exercise(exercise)
    standing = progress.standings(catalog.root()).get(f"{entry.id}/{chosen.id}")
    if standing is None or not standing.passed:
        last = f"the last verdict is `{standing.verdict}`" if standing else "it was not graded yet"
        print(f"{chosen.code} {chosen.title}: the explanation gives the answer away, so it waits for a pass; {last}.")
        print(f"  grade it:  coursekit grade {entry.id}")
        print(f"  or a hint: coursekit hint {entry.id} {chosen.code}")
        raise typer.Exit(1)
    for line in _lines(entry, chosen):
        print(line)


def _lines(entry: Lesson, exercise: Exercise) -> Iterator[str]:
    yield f"{exercise.code} {exercise.title}"
    yield from _paragraph(exercise.explanation, "  ")
    yield f"  Source: {exercise.source}"
    marked = [*_marked(entry.folder / "wrong_answers.py"), *_marked(entry.folder / "alternatives.py")]
    headings = {
        "wrong": "Ruled out, each by a check:",
        "dialect": "Other conventions, which pass with a note:",
        "alternative": "Other ways to write it:",
    }
    for kind, heading in headings.items():
        says = [one.says for one in marked if one.kind == kind and one.replaces in exercise.names]
        if says:
            yield f"\n  {heading}"
            for one in says:
                yield from _paragraph(one, "  - ")


def _paragraph(text: str, lead: str) -> list[str]:
    later = " " * len(lead)
    return textwrap.wrap(text, _WIDTH, initial_indent=lead, subsequent_indent=later, break_long_words=False)


def _marked(file: Path) -> Iterator[Marked]:
    """Yield the marks in a file of known answers, without executing it; a students' bundle has no such file.

    Raises:
        LessonError: the file is not Python.
    """
    from coursekit.errors import LessonError

    if not file.is_file():
        return
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise LessonError(str(file), "valid Python", got=error, fix="mend it there") from None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for mark in node.decorator_list:
                found = _read_mark(mark)
                if found:
                    yield found


def _read_mark(mark: ast.expr) -> Marked | None:
    """Return what `@wrong("name", says="...")` says; None for any other decorator."""
    if not isinstance(mark, ast.Call) or not isinstance(mark.func, ast.Name):
        return None
    says = next((part.value for part in mark.keywords if part.arg == "says"), None)
    texts = [
        part.value for part in (*mark.args, says) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    if mark.func.id not in ("wrong", "dialect", "alternative") or len(texts) != 2:
        return None
    return Marked(mark.func.id, *texts)
