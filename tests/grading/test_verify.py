"""Proof of a lesson's checks: holes that are planted here must be found."""

from __future__ import annotations

import json

import pytest
import torch

from coursekit.errors import ArgumentError, LessonError
from coursekit.grading.nulls import null_answers
from coursekit.grading.stubs import exercise_names, stub_source
from coursekit.grading.verify import verify

from .conftest import CHECKS, SOLUTION, WRONG

HOLE = '''

@pytest.mark.exercise("double")
def test_hole(learner, rng):
    """Nothing."""
    learner.double(torch.ones(2))
'''
WRONG_ALTERNATIVE = """
from coursekit.grading.answers import alternative


@alternative("double", says="no")
def no(x):
    return 4 * x
"""


@pytest.fixture
def whole(course):
    """The toy lesson with its stubs: nothing is missing in it."""
    course.write("exercises.py", stub_source(SOLUTION, exercise_names(course.lesson)))
    return course


def bad(verification) -> set[tuple[str, str, str]]:
    return {(row.exercise, row.submission, row.verdict) for row in verification.rows if not row.ok}


def test_a_whole_lesson_is_proved(whole):
    found = verify(whole.lesson, seeds=(0, 1))
    assert found.findings == ()
    assert bad(found) == set()
    assert found.ok
    counts = {kind: sum(row.kind == kind for row in found.rows) for kind in {row.kind for row in found.rows}}
    assert counts == {"stub": 2, "solution": 2, "alternative": 4, "dialect": 1, "wrong": 10 + 2 * 5}
    tree = json.loads(json.dumps(found.to_json()))
    assert tree["rows"][0] == {
        "lesson": "toy",
        "exercise": "double",
        "submission": "stub",
        "kind": "stub",
        "expected": "not attempted",
        "verdict": "not attempted",
        "diagnosis": None,
        "ok": True,
    }
    assert tree["summary"] == {"ok": True, "rows": 29, "failed": 0, "findings": []}
    squares = next(row for row in found.rows if row.submission == "squares")
    assert (squares.verdict, squares.diagnosis) == ("fail", "squares")


def test_a_check_that_asserts_nothing_is_found(whole):
    """It gives points to answers that do no work."""
    whole.write("test_exercises.py", CHECKS + HOLE)
    found = bad(verify(whole.lesson, seeds=(0,)))
    assert {row[1] for row in found} == {f"null-{kind}" for kind in ("none", "first-argument", "zeros", "nan", "empty")}


def test_a_check_that_zeros_pass_is_found(whole):
    whole.write("test_exercises.py", CHECKS.replace("x = torch.tensor([3.0])", "x = torch.tensor([0.0])"))
    found = bad(verify(whole.lesson, seeds=(0,)))
    assert {("double", "null-zeros", "fail"), ("double", "null-first-argument", "fail")} <= found


def test_a_wrong_answer_that_passes_is_found(whole):
    whole.write("test_exercises.py", CHECKS.replace("torch.float64], ids", "torch.float32], ids"))
    assert bad(verify(whole.lesson, seeds=(0,))) == {("double", "rounds", "pass")}


def test_two_wrong_answers_that_cannot_be_told_apart_are_found(whole):
    twin = '\n\n@wrong("double", says="Twin.")\ndef also_squares(x):\n    return x ** 2\n'
    whole.write("wrong_answers.py", WRONG + twin)
    (row,) = [row for row in verify(whole.lesson, seeds=(0,)).rows if not row.ok]
    assert (row.submission, row.verdict, row.diagnosis) == ("also-squares", "fail", "squares")


def test_a_check_that_refuses_the_solution_is_found(whole):
    whole.write("test_exercises.py", CHECKS.replace("2 * x, where", "2.1 * x, where"))
    found = bad(verify(whole.lesson, seeds=(0,)))
    assert ("double", "solution", "fail") in found
    assert ("double", "by-subtraction", "grader error") in found


def test_a_check_that_holds_on_some_seeds_only_is_found(whole):
    flaky = CHECKS.replace(
        "x = 1 + torch.rand(3, generator=rng)", "x = torch.randn(3, generator=rng)\n    assert x[0] > 0"
    )
    whole.write("test_exercises.py", flaky)
    assert ("average", "solution", "fail") in bad(verify(whole.lesson, seeds=tuple(range(8))))


def test_a_wrong_alternative_and_a_dialect_without_effect_are_found(whole):
    text = WRONG.replace("x.sum() / (x.numel() - 1)", "x.sum() / x.numel()")
    whole.write("wrong_answers.py", text)
    whole.write("alternatives.py", WRONG_ALTERNATIVE)
    found = verify(whole.lesson, seeds=(0,))
    assert bad(found) == {("double", "no", "fail"), ("average", "unbiased", "pass")}


def test_what_is_missing_is_listed(whole):
    whole.write("alternatives.py", "")
    whole.write("wrong_answers.py", WRONG + '\n\n@wrong("nothing", says="?")\ndef lost(x):\n    return x\n')
    exercises = (whole.folder / "exercises.py").read_text()
    whole.write("exercises.py", exercises.replace("def double(x: Tensor)", "def double(y: Tensor)"))
    checks = CHECKS.replace('@pytest.mark.exercise("average")', '@pytest.mark.exercise("double")')
    whole.write("test_exercises.py", checks)
    found = verify(whole.lesson, seeds=(0,))
    assert not found.ok
    assert tuple(finding.replace(" -> Tensor", "") for finding in found.findings) == (
        "lost replaces nothing, which no exercise asks for",
        "double has 0 alternative answers, and needs 2",
        "average has no check",
        "average has 0 alternative answers, and needs 2",
        "exercises.py: double: the signature is double(y: Tensor), in the solution double(x: Tensor)",
    )


def test_missing_stubs_are_listed(course):
    assert "exercises.py is missing" in verify(course.lesson, seeds=(0,)).findings


def test_stubs_that_are_no_python_are_listed(whole):
    whole.write("exercises.py", "def f(:")
    (finding,) = verify(whole.lesson, seeds=(0,)).findings
    assert "exercises.py: valid Python" in finding


def test_a_stub_that_passes_a_check_is_found(whole):
    checks = CHECKS.replace("got = learner.run(probes.in_a_tuple, x=x)", "got = (x.mean(),)")
    whole.write("test_exercises.py", checks)
    found = {row[:2] for row in bad(verify(whole.lesson, seeds=(0,)))}
    assert {("average", "stub"), ("average", "solution")} <= found


def test_wrong_use():
    with pytest.raises(ArgumentError, match="verify: at least one seed"):
        verify(None, seeds=())  # type: ignore[arg-type]


def test_without_a_solution_nothing_can_be_proved(course):
    (course.folder / "solution.py").unlink()
    with pytest.raises(LessonError, match=r"a file solution.py. Got none"):
        verify(course.lesson)


# ----------------------------------------------------------------------------------- null answers


def both(x, n):
    return {"x": 2 * x, "n": [n, "word", True]}


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self, x):
        self.count += 1
        return x + self.count

    def __call__(self, x):
        return self.add(x)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("null-none", "None"),
        ("null-first-argument", "tensor([3.])"),
        ("null-zeros", "{'x': tensor([0.]), 'n': [0, 'word', True]}"),
        ("null-nan", "{'x': tensor([nan]), 'n': [nan, 'word', True]}"),
        ("null-empty", "{'x': tensor([]), 'n': [None, 'word', True]}"),
    ],
)
def test_null_functions_keep_the_shape_of_the_answer(name, expected):
    assert str(null_answers({"both": both})[name]["both"](torch.tensor([3.0]), n=2)) == expected


@pytest.mark.parametrize(("name", "expected"), [("none", None), ("first-argument", 5), ("zeros", 0), ("empty", None)])
def test_null_methods_do_nothing_to_their_object(name, expected):
    made = null_answers({"Counter": Counter})[f"null-{name}"]["Counter"]()
    assert (made.add(5), made(5), made.count) == (expected, expected, 0)
    assert isinstance(made, Counter)


def test_null_functions_leave_generators_and_arguments_alone():
    def drain(items):
        items = list(items)
        items[0].zero_()
        return items[0]

    made = null_answers({"drain": drain})["null-zeros"]["drain"]
    left = (x for x in [1])
    assert made(left) is None
    assert next(left) == 1
    x = torch.ones(1)
    made([x])
    assert x.tolist() == [1]
