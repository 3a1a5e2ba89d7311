"""What lessons and exercises exist: read from `lessons/<topic>/lesson.toml`, without importing torch."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Literal

from pydantic import Field, ValidationError

from coursekit.config import Settings, findings_of, nearest
from coursekit.errors import ConfigError, Finding, LessonError


class Equivalent(Settings):
    """A machine-made change of the solution that no check can notice, since it changes nothing that is asked for."""

    mutant: str = Field(min_length=3, description="the id of the mutant, as `coursekit verify` prints it")
    because: str = Field(min_length=20, description="why the changed solution is still right, in a sentence")


class Exercise(Settings):
    """One exercise, as its lesson's `lesson.toml` describes it."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="a name in snake case")
    code: str = Field(pattern=r"^[A-Z][0-9]+$", description="the short label, such as O1")
    title: str = Field(min_length=3, description="a short title")
    names: tuple[str, ...] = Field(min_length=1, description="the functions and classes to write")
    points: int = Field(gt=0, description="a whole number above 0")
    difficulty: int = Field(ge=1, le=4, description="a number of stars from 1 to 4")
    minutes: int = Field(gt=0, description="the minutes a learner needs")
    seconds: float = Field(default=10.0, gt=0, description="the seconds that one check may take")
    hints: tuple[str, str, str] = Field(description="three hints of rising strength")
    source: str = Field(min_length=5, description="paper and equation, or the PyTorch function it equals")
    explanation: str = Field(min_length=20, description="what is shown after success")
    forbids: tuple[str, ...] = Field(default=(), description="dotted names that would do the work")
    equivalent: tuple[Equivalent, ...] = Field(default=(), description="mutants that are right too, with reasons")


class Lesson(Settings):
    """One lesson: its entry in the catalogue and its folder."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="the folder's name")
    title: str = Field(min_length=3, description="a short title")
    order: int = Field(gt=0, description="the place in the course, from 1")
    needs: tuple[str, ...] = Field(default=(), description="ids of lessons to do first")
    minutes: int = Field(gt=0, description="the minutes a learner needs")
    tier: Literal["core", "next", "wave2"] = Field(default="core", description="core, next or wave2")
    goal: str = Field(min_length=10, description="what a learner can do afterwards")
    exercises: tuple[Exercise, ...] = Field(description="the exercises, in their order")
    folder: Path = Field(exclude=True, description="where the lesson lies")

    def exercise(self, name: str) -> Exercise:
        """Return the exercise with this id or code (`sgd_momentum` or `O1`, in any case).

        Raises:
            LessonError: there is none; the message names the nearest.
        """
        for exercise in self.exercises:
            if name.lower() in (exercise.id, exercise.code.lower()):
                return exercise
        known = [exercise.id for exercise in self.exercises]
        raise LessonError(
            f"lesson {self.id}",
            "an exercise that exists",
            got=repr(name),
            fix=_suggest(name, known, f"coursekit list {self.id}"),
        )

    @property
    def config_file(self) -> Path:
        """The file of profiles, `configs/<lesson>.yaml` beside the lessons."""
        return self.folder.parent.parent / "configs" / f"{self.id}.yaml"


def root() -> Path:
    """Return the folder that holds `lessons/`: `$COURSEKIT_ROOT`, or the nearest one upwards, or the clone's.

    Raises:
        LessonError: no lessons were found.
    """
    named = os.environ.get("COURSEKIT_ROOT")
    if named:
        candidates: tuple[Path, ...] = (Path(named),)
    else:
        here = Path.cwd()
        candidates = (here, *here.parents, Path(__file__).resolve().parent.parent)
    for candidate in candidates:
        if any((candidate / "lessons").glob("*/lesson.toml")):
            return candidate
    raise LessonError(
        "lessons",
        "a folder `lessons` with a lesson.toml in it",
        got=f"none at or above {candidates[0]}",
        fix="go to your clone of the course, or set COURSEKIT_ROOT to it",
    )


def lessons() -> tuple[Lesson, ...]:
    """Return every lesson on disk, in course order.

    Raises:
        ConfigError: a lesson.toml is not well formed; every finding is named.
    """
    return _lessons(root())


def lesson(name: str) -> Lesson:
    """Return one lesson by its id.

    Raises:
        LessonError: there is none; the message names the nearest.
    """
    known = lessons()
    for entry in known:
        if entry.id == name.lower():
            return entry
    fix = _suggest(name, [entry.id for entry in known], "coursekit list")
    raise LessonError("lesson", "a lesson that exists", got=repr(name), fix=fix)


def load(entry: Lesson, part: str) -> ModuleType:
    """Import one file of a lesson.

    Args:
        entry: the lesson.
        part: the file's name without `.py`: `config`, `lesson`, `solution`, `probes`, ...

    Raises:
        LessonError: the lesson has no such file.
    """
    if not (entry.folder / f"{part}.py").is_file():
        raise LessonError(f"lesson {entry.id}", f"a file {part}.py", got="none", fix=f"add {entry.folder / part}.py")
    top = str(entry.folder.parent.parent)
    if top not in sys.path:
        sys.path.insert(0, top)
    return importlib.import_module(f"lessons.{entry.id}.{part}")


@cache
def _lessons(top: Path) -> tuple[Lesson, ...]:
    found = sorted(_read_all(top), key=lambda entry: entry.order)
    findings = []
    for first, second in pairwise(found):
        if first.order == second.order:
            findings.append(Finding(f"{second.id}.order", "an order of its own", got=second.order, fix="change one"))
    for entry in found:
        if entry.id != entry.folder.name:
            findings.append(Finding(f"{entry.id}.id", "the folder's name", got=entry.folder.name, fix="leave id out"))
        for name in sorted(set(entry.needs) - {other.id for other in found}):
            findings.append(Finding(f"{entry.id}.needs", "lessons that exist", got=name, fix="mend the name"))
        codes = [exercise.id for exercise in entry.exercises] + [exercise.code for exercise in entry.exercises]
        for name in sorted({name for name in codes if codes.count(name) > 1}):
            findings.append(Finding(f"{entry.id}.exercises", "ids and codes used once", got=name, fix="rename one"))
    if findings:
        raise ConfigError("lessons", findings)
    return tuple(found)


def _read_all(top: Path) -> Iterator[Lesson]:
    for file in (top / "lessons").glob("*/lesson.toml"):
        try:
            tree = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(str(file), [Finding("text", "readable TOML", got=error, fix="mend it there")]) from None
        tree = {"id": file.parent.name, **tree, "folder": str(file.parent)}
        try:
            # Through JSON, where strict means what it says: lists become tuples, but true is no number.
            yield Lesson.model_validate_json(json.dumps(tree, default=str), strict=True)
        except ValidationError as error:
            raise ConfigError(str(file), list(findings_of(error, Lesson))) from None


def _suggest(name: str, known: list[str], command: str) -> str:
    guess = nearest(name, known)
    return f"did you mean `{guess}`? `{command}` shows all" if guess else f"`{command}` shows all"
