"""Grading one file, in a process of its own: what kills it is a verdict, and the other exercises are graded still.

Nothing here imports torch; the process that is started does.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from coursekit.catalog import Lesson
from coursekit.grading.checks import FILE
from coursekit.grading.journal import steps
from coursekit.grading.process import End, run
from coursekit.grading.submission import Submission, read
from coursekit.grading.text import labelled, printable
from coursekit.grading.verdicts import CheckResult, LessonReport, judge_exercise


def grade(lesson: Lesson, submission: Path, *, seed: int | None = None) -> LessonReport:
    """Grade a file.

    Args:
        lesson: from the catalogue.
        submission: the learner's file.
        seed: from which the inputs are drawn; None draws one that nobody can foresee.

    Raises:
        SubmissionError: the file cannot be read.
    """
    code = read(submission)
    seed = secrets.randbits(32) if seed is None else seed
    if code.problem and not code.statements:
        results = [CheckResult(exercise.id, "", 1.0, "fail", code.problem) for exercise in lesson.exercises]
    else:
        results = _all_results(lesson, code, seed)
    reports = [
        judge_exercise(exercise, [result for result in results if result.exercise == exercise.id])
        for exercise in lesson.exercises
    ]
    return LessonReport(lesson.id, submission, code.sha256, tuple(reports), seed)


def _all_results(lesson: Lesson, code: Submission, seed: int) -> list[CheckResult]:
    """Start processes until every exercise has a verdict; each of them settles at least one."""
    results: list[CheckResult] = []
    todo = [exercise.id for exercise in lesson.exercises]
    seconds = max((exercise.seconds for exercise in lesson.exercises), default=0.0)
    with tempfile.TemporaryDirectory(prefix="coursekit-") as name:
        folder = Path(name)
        # A copy, so that what is graded is what was hashed, and not what the file has become meanwhile.
        file = folder / "submission" / code.path.name
        file.parent.mkdir()
        file.write_text(code.text, encoding="utf-8", newline="")
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        while todo:
            journal = folder / f"journal-{len(todo)}"
            command = [*_pytest(lesson, folder), "--submission", str(file), "--grade-seed", str(seed)]
            command += ["--grade-only", ",".join(todo), "--grade-journal", str(journal)]
            end = run(command, folder=folder, environment=_environment(lesson), journal=journal, seconds=seconds)
            found, settled = _settle(steps(journal), todo, end)
            results += found
            todo = [exercise for exercise in todo if exercise not in settled]
    return results


def _pytest(lesson: Lesson, folder: Path) -> list[str]:
    """Return the command line of a pytest that knows nothing of the user's settings, plugins and folders."""
    # -P: a `torch.py` in the folder it runs in must not be found.
    python = [sys.executable, "-P", "-m", "pytest", str(lesson.folder / FILE), "-c", str(folder / "pytest.ini")]
    place = ["--rootdir", str(lesson.folder), "--import-mode=importlib", "--noconftest", "-p", "no:cacheprovider"]
    return [*python, *place, "--disable-plugin-autoload", "-p", "coursekit.grading.plugin", "-s", "-q"]


def _environment(lesson: Lesson) -> dict[str, str]:
    root = str(lesson.folder.parent.parent)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    kept.pop("PYTHONWARNINGS", None)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "COURSEKIT_ROOT": root, "PYTHONPATH": path}


def _settle(
    past: Sequence[Mapping[str, Any]], todo: Sequence[str], end: End
) -> tuple[list[CheckResult], Collection[str]]:
    """Return the exercises that are settled by what the process wrote before it ended, and their results."""
    plan = next((step["checks"] for step in past if step["step"] == "plan"), None)
    if plan is None:
        last = end.output.strip().splitlines()[-1:] or ["no output"]
        says = f"The checks could not be started, which is our fault: {printable(last[0])}"
        return [CheckResult(exercise, "", 1.0, "grader error", says) for exercise in todo], todo
    results = [CheckResult.from_json(step["result"]) for step in past if step["step"] == "result"]
    if past[-1]["step"] == "done":
        return results, todo
    # A file that ends the process when it is loaded would do so for every exercise.
    blamed = list(todo) if past[-1]["step"] in ("plan", "load") else [past[-1]["exercise"]]
    known = {result.check for result in results}
    whole = {exercise for exercise, *_ in plan} - {exercise for exercise, check, *_ in plan if check not in known}
    ended = [
        CheckResult(
            exercise,
            check,
            weight,
            "timeout" if end.cause == "time" else "crashed",
            labelled([("asked", asks), ("because", str(end))]),
        )
        for exercise, check, weight, asks in plan
        if exercise in blamed and check not in known
    ]
    settled = whole.union(blamed)
    return [result for result in results if result.exercise in settled] + ended, settled
