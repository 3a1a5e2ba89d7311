"""Grading files of answers to one lesson, one after the other, with everything kept warm."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal

from coursekit.catalog import Exercise, Lesson
from coursekit.errors import IsolationError
from coursekit.grading.checks import collect
from coursekit.grading.isolation import Level
from coursekit.grading.judge import LEARNER, Judge, in_this_process, slow_imports
from coursekit.grading.learner import Bench
from coursekit.grading.runs import Candidate
from coursekit.grading.submission import Source, read_source
from coursekit.grading.verdicts import LessonReport, judge_exercise
from coursekit.grading.warm import Warm, confined

Isolation = Literal["auto", "strict", "in-process"]


class Benches:
    """Where the code of learners of one lesson runs.

    Args:
        lesson: from the catalogue.
        isolation: as of `Grader`.

    Raises:
        IsolationError: `strict` is asked for and not to be had.
    """

    def __init__(self, lesson: Lesson, isolation: Isolation) -> None:
        self.lesson = lesson
        self._strict = isolation == "strict"
        if self._strict and os.name != "posix":
            raise IsolationError("--isolation strict", "a machine with Linux", got=os.name, fix="grade on Linux")
        self._warm = Warm(lesson, slow_imports(lesson)) if isolation != "in-process" and os.name == "posix" else None

    @property
    def level(self) -> Level:
        """How well submissions are confined.

        Raises:
            IsolationError: not as well as was asked for.
        """
        found: Level = self._warm.level if self._warm else "in-process"
        if self._strict and found != "full":
            fix = "run `coursekit doctor` to see what is missing, or leave --isolation out"
            raise IsolationError("--isolation strict", "isolation: full", got=found, fix=fix)
        return found

    def __call__(self, candidate: Candidate, exercise: Exercise, seconds: float) -> Bench:
        """Return a bench for a learner's exercise."""
        if self._warm is None or not isinstance(candidate.submission, Source):
            return in_this_process(candidate, exercise, seconds)
        return confined(self._warm, self.lesson, candidate.submission, exercise, seconds)

    def close(self) -> None:
        """End the warm process."""
        if self._warm is not None:
            self._warm.close()


class Grader:
    """Grades submissions to one lesson.

        with Grader(lesson) as grader:
            report = grader.grade(Path("exercises.py"))

    Args:
        lesson: from the catalogue.
        isolation: `auto` confines submissions as well as this machine can, `strict` refuses to grade with less than
            the full set of layers, `in-process` runs them beside the checks, for code that you trust.
        seed: of the inputs, for every submission; None draws one that nobody can foresee.

    Raises:
        UserError: the lesson is not well formed, or `strict` is asked for and not to be had.
    """

    def __init__(self, lesson: Lesson, *, isolation: Isolation = "auto", seed: int | None = None) -> None:
        self.lesson = lesson
        self._seed = seed
        self._benches = Benches(lesson, isolation)  # first: it starts while the checks are read
        try:
            self._judge = Judge(lesson, collect(lesson), seed or 0, benches=self._benches)
            self.level: Level = self._benches.level
        except BaseException:
            self._benches.close()
            raise

    def grade(self, submission: Path, *, only: Collection[str] | None = None, seed: int | None = None) -> LessonReport:
        """Grade a file.

        Args:
            submission: the learner's file.
            only: ids of the exercises to grade; None grades all.
            seed: of the inputs; None takes the grader's.

        Raises:
            SubmissionError: the file cannot be read.
        """
        source = read_source(submission)
        seed = self._seed if seed is None else seed
        seed = secrets.randbits(32) if seed is None else seed
        if seed != self._judge.seed:
            self._judge = self._judge.with_seed(seed)
        candidate = Candidate(LEARNER, source)
        reports, flags = [], []
        try:
            for exercise in self.lesson.exercises:
                if only is not None and exercise.id not in only:
                    continue
                report = judge_exercise(exercise, self._judge.results(candidate, exercise))
                reports.append(replace(report, printed=self._judge.printed(candidate, exercise)))
                flags += self._judge.flags(candidate, exercise)
                self._judge.let_go(candidate, exercise)
        finally:
            self._judge.forget(candidate)
        found = tuple(dict.fromkeys(flags))
        return LessonReport(self.lesson.id, submission, source.sha256, tuple(reports), seed, self.level, found)

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the warm process."""
        self._benches.close()
