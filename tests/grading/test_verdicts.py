"""Verdicts of checks, exercises and lessons, put together."""

from __future__ import annotations

import json
from itertools import combinations_with_replacement
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coursekit.catalog import Exercise
from coursekit.grading.verdicts import (
    VERDICTS,
    CheckResult,
    Diagnosis,
    ExerciseReport,
    LessonReport,
    judge_exercise,
)

EXERCISE = Exercise(
    id="double",
    code="T1",
    title="Doubling",
    names=("double",),
    points=6,
    difficulty=1,
    minutes=1,
    hints=("a", "b", "c"),
    source="arithmetic",
    explanation="Doubling adds a number to itself.",
)


def results(*verdicts: str) -> list[CheckResult]:
    return [CheckResult("double", f"test_{n}", 1.0, word, f"message {n}") for n, word in enumerate(verdicts)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdicts", "expected", "points", "message"),
    [
        (["pass", "pass"], "pass", 6, "2 checks passed."),
        (["pass"], "pass", 6, "1 check passed."),
        (["pass", "fail", "fail"], "fail", 2, "message 1"),
        (["not attempted"] * 2, "not attempted", 0, "message 0"),
        (["not attempted", "pass"], "fail", 3, "message 0"),
        (["not attempted", "fail"], "fail", 0, "message 1"),
        (["fail", "timeout", "pass"], "timeout", 2, "message 1"),
        (["pass", "crashed", "timeout"], "crashed", 2, "message 1"),
        (["skipped", "skipped"], "skipped", 0, "message 0"),
        (["skipped", "pass"], "pass", 6, "1 check passed."),
        (["skipped", "pass", "fail"], "fail", 3, "message 2"),
        (["grader error", "pass"], "grader error", 6, "message 0"),
        (["grader error", "fail"], "fail", 3, "message 1"),
        (["grader error", "not attempted"], "not attempted", 0, "message 1"),
        (["grader error"], "grader error", 6, "message 0"),
        (["pass with note", "pass"], "pass with note", 6, "message 0"),
        (["pass with note", "timeout"], "timeout", 3, "message 1"),
        ([], "grader error", 6, "No check was run for this exercise."),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_an_exercise(verdicts, expected, points, message):
    report = judge_exercise(EXERCISE, results(*verdicts))
    assert (report.verdict, report.points, report.message) == (expected, points, message)
    assert report.max_points == (0 if expected == "skipped" else 6)


def test_points_follow_weights_of_all_checks_even_of_those_not_run():
    checks = [CheckResult("double", "a", 1.0, "pass"), CheckResult("double", "b", 2.0, "fail")]
    assert judge_exercise(EXERCISE, checks).points == 2
    assert judge_exercise(EXERCISE, checks[:1], weight=3.0).points == 2


@given(st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=6))
def test_points_stay_in_range_and_only_a_clean_run_passes(verdicts: list[str]):
    report = judge_exercise(EXERCISE, results(*verdicts))
    assert 0 <= report.points <= report.max_points
    assert report.verdict in VERDICTS
    if report.passed:
        assert set(verdicts) <= {"pass", "pass with note", "skipped"}


def lesson(*verdicts: str) -> LessonReport:
    parts = [ExerciseReport(f"e{n}", word, 1, 2, "", None, 0.1) for n, word in enumerate(verdicts)]  # type: ignore[arg-type]
    return LessonReport("toy", Path("mine.py"), "0" * 64, tuple(parts), 7)


def test_exit_codes_of_every_pair():
    for pair in combinations_with_replacement(VERDICTS, 2):
        code = lesson(*pair).exit_code
        if "grader error" in pair:
            assert code == 3
        elif set(pair) <= {"pass", "pass with note", "skipped"} and pair != ("skipped", "skipped"):
            assert code == 0
        else:
            assert code == 1, pair
    assert lesson().exit_code == 1


def test_the_json_of_a_lesson():
    diagnosis = Diagnosis("squares", "You squared.", "wrong")
    parts = (
        ExerciseReport("double", "fail", 1.5, 4, "why", diagnosis, 0.25),
        ExerciseReport("average", "pass", 2, 2, "1 check passed.", None, 0.5),
    )
    tree = LessonReport("toy", Path("mine.py"), "ab" * 32, parts, 7, "full", ("It reads files.",)).to_json()
    assert json.loads(json.dumps(tree)) == {
        "lesson": "toy",
        "submission": {"path": "mine.py", "sha256": "ab" * 32},
        "score": 3.5,
        "max_score": 6,
        "exercises": [
            {
                "id": "double",
                "verdict": "fail",
                "points": 1.5,
                "max_points": 4,
                "message": "why",
                "diagnosis": {"id": "squares", "says": "You squared."},
                "seconds": 0.25,
                "printed": "",
            },
            {
                "id": "average",
                "verdict": "pass",
                "points": 2,
                "max_points": 2,
                "message": "1 check passed.",
                "diagnosis": None,
                "seconds": 0.5,
                "printed": "",
            },
        ],
        "seed": 7,
        "isolation": "full",
        "flags": ["It reads files."],
    }


def test_results_survive_json():
    for diagnosis in (None, Diagnosis("squares", "You squared.", "dialect")):
        result = CheckResult("double", "test_a", 2.0, "fail", "why", 0.1, diagnosis)
        assert CheckResult.from_json(json.loads(json.dumps(result.to_json()))) == result
