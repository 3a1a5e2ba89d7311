"""Pytest's items as checks of a lesson: what the plugin needs torch for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from coursekit.errors import UserError
from coursekit.grading.checks import Check, check_of, lesson_in
from coursekit.grading.grader import Benches, Isolation
from coursekit.grading.isolation import Level
from coursekit.grading.judge import LEARNER, Judge
from coursekit.grading.runs import Candidate
from coursekit.grading.submission import read_source


class Grading:
    """Grades the checks of one pytest session.

    Args:
        items: every collected test that carries the `exercise` marker.
        submission: the learner's file; None takes `exercises.py` beside the checks.
        seed: from which all inputs are drawn.
        isolation: as of `Grader`.
        debugging: set no time limit, and name no mistakes.

    Raises:
        UserError: a check, a lesson or the learner's file is not as it should be.
    """

    def __init__(
        self, items: Sequence[pytest.Item], submission: Path | None, seed: int, isolation: Isolation, *, debugging: bool
    ) -> None:
        self._checks: dict[pytest.Item, Check] = {}
        self._judges: dict[Path, tuple[Judge, Candidate]] = {}
        self._benches: list[Benches] = []
        self._levels: dict[Path, Level] = {}
        folders: dict[Path, list[pytest.Item]] = defaultdict(list)
        for item in items:
            folders[item.path.parent].append(item)
        try:
            for folder, members in folders.items():
                lesson = lesson_in(folder)
                checks = [check_of(item, lesson) for item in members]
                self._checks.update(zip(members, checks, strict=True))
                learner = Candidate(LEARNER, read_source(submission or folder / "exercises.py"))
                self._benches.append(Benches(lesson, isolation))
                judge = Judge(lesson, checks, seed, benches=self._benches[-1], debugging=debugging)
                self._levels[folder] = self._benches[-1].level  # refused, where it must be, before any of it runs
                self._judges[folder] = (judge, learner)
        except BaseException:
            self.close()
            raise

    def exercise_of(self, item: pytest.Item) -> str:
        """Return the id of the exercise that an item belongs to."""
        return self._checks[item].exercise.id

    def grade(self, item: pytest.Item) -> dict[str, Any]:
        """Grade one check; return its record, made of plain values, so that it can go to another process."""
        folder = item.path.parent
        judge, learner = self._judges[folder]
        exercise = self._checks[item].exercise
        result = judge.result(learner, self._checks[item]).to_json()
        return {
            "folder": str(judge.lesson.folder),
            "path": str(learner.submission.path),
            "sha256": learner.submission.sha256,
            "weight": sum(check.weight for check in judge.checks(exercise)),
            "isolation": self._levels[folder],
            "printed": judge.printed(learner, exercise),
            "result": result,
        }

    def error(self, item: pytest.Item) -> BaseException | None:
        """Return the error behind a failed check, for a debugger: the learner's own where there is one."""
        judge, learner = self._judges[item.path.parent]
        attempt = judge.attempt(learner, self._checks[item])
        return attempt.error or attempt.failure

    def close(self) -> None:
        """End every process that runs learners' code."""
        for judge, learner in self._judges.values():
            judge.forget(learner)
        for benches in self._benches:
            benches.close()


def grading_of(items: Sequence[pytest.Item], config: pytest.Config) -> Grading:
    """Return the grading of a session, by its command line.

    Raises:
        pytest.UsageError: something is not as it should be; pytest prints it without a traceback.
    """
    option = config.option
    folders = {item.path.parent for item in items}
    for name, value in (("--submission", option.submission), ("--grade-json", option.grade_json)):
        if value and len(folders) > 1:
            raise pytest.UsageError(f"{name}: one lesson. Got {len(folders)}. Fix: name one lesson's folder.")
    submission = Path(option.submission) if option.submission else None
    # A debugger stops where the error is, and that must be this process.
    isolation: Isolation = "in-process" if option.in_process or option.usepdb else option.isolation
    try:
        return Grading(items, submission, option.grade_seed, isolation, debugging=option.usepdb)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
