"""Where one process grades submission after submission: the same for a process of this machine and of a cluster.

Nothing here imports torch before a `Desk` is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from coursekit import __version__, catalog
from coursekit.catalog import Lesson
from coursekit.errors import LessonError, SubmissionError, UserError
from coursekit.grading.isolation import CONFINED, LEVELS

if TYPE_CHECKING:
    from coursekit.grading.grader import Grader

_LEARNERS = ("exercises.py", "exercises.stub.py")  # no part of how others are graded


@dataclass(frozen=True)
class Setting:
    """What all submissions of a class are graded with.

    Args:
        lesson: its id.
        checks: digest of the lesson's files and of this version of the grader (see `checks_digest`).
        seed: of the inputs, the same for the whole class.
        isolation: `auto` or `strict`.
        trusted: submissions may run with less confinement than strangers' code needs.
    """

    lesson: str
    checks: str
    seed: int
    isolation: Literal["auto", "strict"] = "auto"
    trusted: bool = False

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels of isolation that are enough."""
        if self.isolation == "strict":
            return LEVELS[:1]
        return LEVELS if self.trusted else CONFINED

    def accept(self, level: str, where: str = "this machine") -> None:
        """Refuse a level of isolation that is too weak for strangers' code.

        Raises:
            UserError: it is.
        """
        if level not in self.levels:
            raise UserError(
                "class",
                f"isolation of at least {self.levels[-1]}, since submissions run as programs of this account",
                got=f"{level} on {where}",
                fix="see `coursekit doctor` for what is missing; with --trust-submissions they are graded all the same",
            )


@dataclass(frozen=True)
class Job:
    """One submission to grade: the key of its record, its file name and its bytes."""

    key: str
    name: str
    raw: bytes


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Args:
        key: of its record.
        report: the JSON of `coursekit grade`; empty when it was not graded.
        problem: why not.
        ours: the problem is a fault of the grader's.
    """

    key: str
    report: dict[str, Any]
    problem: str = ""
    ours: bool = False

    @classmethod
    def gave_up(cls, key: str, reason: str) -> Outcome:
        """Return the outcome of a submission on which the grader itself failed, twice."""
        says = f"The grader itself failed on this submission, twice: {reason}. Grade it by hand, or repeat the command."
        return cls(key, {}, says, ours=True)


def checks_digest(lesson: Lesson) -> str:
    """Return a digest of everything of ours that a grade depends on: the lesson's own files, and our version."""
    digest = hashlib.sha256(__version__.encode())
    files = [*lesson.folder.glob("*.py"), lesson.folder / "lesson.toml"]
    for file in sorted(file for file in files if file.name not in _LEARNERS):
        raw = file.read_bytes()
        digest.update(f"\0{file.name}\0{len(raw)}\0".encode() + raw)
    return digest.hexdigest()


class Desk:
    """One warm grader.

    Args:
        setting: of the class.

    Raises:
        LessonError: the lesson here is not the one that the class is graded with.
        UserError: the isolation here is too weak.
    """

    def __init__(self, setting: Setting) -> None:
        lesson = catalog.lesson(setting.lesson)
        if checks_digest(lesson) != setting.checks:
            raise LessonError(
                f"lesson {lesson.id}",
                "the same lesson and the same coursekit on every machine",
                got=f"others in {lesson.folder}",
                fix="bring both to one version, and set COURSEKIT_ROOT there",
            )
        from coursekit.grading.grader import Grader

        self.setting = setting
        self._grader: Grader = Grader(lesson, isolation=setting.isolation, seed=setting.seed)
        try:
            setting.accept(self._grader.level, os.uname().nodename if hasattr(os, "uname") else "this machine")
        except UserError:
            self.close()
            raise

    @property
    def level(self) -> str:
        """How submissions are confined here."""
        return self._grader.level

    def grade(self, job: Job) -> Outcome:
        """Grade one submission: the bytes that were read once, and nothing that the file has become since."""
        with tempfile.TemporaryDirectory(prefix="coursekit-class-") as folder:
            file = Path(folder) / job.name
            file.write_bytes(job.raw)
            try:
                report = self._grader.grade(file, seed=self.setting.seed).to_json()
            except SubmissionError as error:
                return Outcome(job.key, {}, str(error).replace(str(file), job.name))
        report["isolation"] = report["isolation"] or self.level
        # Out as text and in again, for the same plain values from every kind of worker.
        return Outcome(job.key, json.loads(json.dumps(report, allow_nan=False)))

    def close(self) -> None:
        """End the warm grader."""
        self._grader.close()

    def __enter__(self) -> Desk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
