"""Pytest's items as checks of a lesson: what the plugin needs torch for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from coursekit.errors import UserError
from coursekit.grading.checks import Check, check_of, lesson_in
from coursekit.grading.journal import Journal
from coursekit.grading.judge import Judge
from coursekit.grading.runs import Candidate
from coursekit.grading.submission import read


class Grading:
    """Grades the checks of one pytest session.

    Args:
        items: every collected test that carries the `exercise` marker.
        submission: the learner's file; None takes `exercises.py` beside the checks.
        seed: from which all inputs are drawn.
        journal: told of every step.
        debugging: set no time limit, and name no mistakes.

    Raises:
        UserError: a check, a lesson or the learner's file is not as it should be.
    """

    def __init__(
        self, items: Sequence[pytest.Item], submission: Path | None, seed: int, journal: Journal, *, debugging: bool
    ) -> None:
        self._journal = journal
        self._checks: dict[pytest.Item, Check] = {}
        self._judges: dict[Path, tuple[Judge, Candidate]] = {}
        folders: dict[Path, list[pytest.Item]] = defaultdict(list)
        for item in items:
            folders[item.path.parent].append(item)
        for folder, members in folders.items():
            lesson = lesson_in(folder)
            checks = [check_of(item, lesson) for item in members]
            self._checks.update(zip(members, checks, strict=True))
            learner = Candidate("learner", read(submission or folder / "exercises.py"))
            self._judges[folder] = (Judge(lesson, checks, seed, self._hear, debugging=debugging), learner)
        plan = [[check.exercise.id, check.name, check.weight, check.asks] for check in self._checks.values()]
        journal.write("plan", checks=plan)

    def exercise_of(self, item: pytest.Item) -> str:
        """Return the id of the exercise that an item belongs to."""
        return self._checks[item].exercise.id

    def grade(self, item: pytest.Item) -> dict[str, Any]:
        """Grade one check; return its record, made of plain values, so that it can go to another process."""
        judge, learner = self._judges[item.path.parent]
        exercise = self._checks[item].exercise
        result = judge.result(learner, self._checks[item]).to_json()
        self._journal.write("result", exercise=exercise.id, result=result)
        return {
            "folder": str(judge.lesson.folder),
            "path": str(learner.submission.path),
            "sha256": learner.submission.sha256,
            "weight": sum(check.weight for check in judge.checks(exercise)),
            "result": result,
        }

    def error(self, item: pytest.Item) -> BaseException | None:
        """Return the error behind a failed check, for a debugger: the learner's own where there is one."""
        judge, learner = self._judges[item.path.parent]
        attempt = judge.attempt(learner, self._checks[item])
        return attempt.error or attempt.failure

    def finish(self) -> None:
        """Note in the journal that nothing was cut short."""
        self._journal.write("done")

    def _hear(self, step: str, exercise: str, check: str) -> None:
        self._journal.write(step, exercise=exercise, check=check)


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
    journal = Journal(Path(option.grade_journal) if option.grade_journal else None)
    try:
        return Grading(items, submission, option.grade_seed, journal, debugging=option.usepdb)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
