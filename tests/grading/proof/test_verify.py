"""Proof of a lesson's checks: holes that are planted here must be found."""

from __future__ import annotations

import json
import time

import pytest
import torch

from coursekit import catalog
from coursekit.errors import ArgumentError, LessonError
from coursekit.grading.authoring.stubs import exercise_names, stub_source
from coursekit.grading.proof.nulls import NULL_ANSWERS, null_answers
from coursekit.grading.proof.verify import verify as verify_all

from ..conftest import CHECKS, SOLUTION, TOML, WRONG

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


def verify(lesson, seeds=(0, 1, 2)):
    """Prove a lesson without mutants, which have their own tests below."""
    return verify_all(lesson, seeds, with_mutants=False)


@pytest.fixture
def whole(course):
    """The toy lesson with its stubs: nothing is missing in it."""
    course.write("exercises.py", stub_source(SOLUTION, exercise_names(course.lesson)))
    return course


def change_toml(course, text: str) -> None:
    """Write lesson.toml anew; the catalogue keeps what it has read."""
    course.write("lesson.toml", text)
    catalog._lessons.cache_clear()


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
    assert tree["summary"] == {
        "ok": True,
        "rows": 29,
        "failed": 0,
        "findings": [],
        "kinds": {"stub": 2, "solution": 2, "alternative": 4, "wrong": 20, "dialect": 1},
        "mutants": {"killed": 0, "total": 0, "operators": {}, "survivors": []},
    }
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
        "lost replaces nothing, which no exercise asks for: mend it in lessons/toy/wrong_answers.py",
        "double has 0 of kind alternative, and needs 2: write more in lessons/toy/alternatives.py",
        "average has no check: write one in lessons/toy/test_exercises.py",
        "average has 0 of kind alternative, and needs 2: write more in lessons/toy/alternatives.py",
        "lessons/toy/exercises.py: double: the signature is double(y: Tensor), in the solution double(x: Tensor)",
    )


def test_missing_stubs_are_listed(course):
    (finding,) = verify(course.lesson, seeds=(0,)).findings
    assert finding == "lessons/toy/exercises.py is missing: make it with `coursekit stubs toy`"


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


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ('"one", "two"', '"one", "One "', "double has a hint twice, and needs three of rising strength"),
        ('"one"', '" "', "double has an empty hint 1: write it in lessons/toy/lesson.toml"),
        ('"one"', '"write return  2*x at last"', "double gives a line of the solution away in hint 1 (`return2*x`)"),
        ('"one"', '"TODO the idea"', "still to be written in lessons/toy/lesson.toml, line 15: the idea"),
        ("minutes = 5", "minutes = 1", "the lesson takes 1 minutes, and its exercises together 2: mend `minutes`"),
    ],
    ids=["twice", "empty", "leak", "todo", "minutes"],
)
def test_what_is_wrong_in_lesson_toml_is_listed(whole, monkeypatch, old, new, finding):
    monkeypatch.setattr("coursekit.grading.proof.findings._LEAK", 9)
    change_toml(whole, TOML.replace(old, new, 1))
    (found,) = verify(whole.lesson, seeds=(0,)).findings
    assert found.startswith(finding)


# ---------------------------------------------------------------------------------------- mutants

# Of `1 * x`, the factor and the whole product are all that can be changed without an effect.
DOUBLE = "    return 2 * x\n"
DECLARED = """
names = ["double"]
equivalent = [
  {{ mutant = "{}", because = "it multiplies by one, and so changes nothing" }},
]
"""


def with_a_survivor(course, *declared: str):
    """Make a solution of `double` of which one mutant is right too."""
    course.write("solution.py", SOLUTION.replace(DOUBLE, "    return 1 * (2 * x)\n"))
    listed = DECLARED.format(declared[0]) if declared else 'names = ["double"]\n'
    change_toml(course, TOML.replace('names = ["double"]\n', listed.lstrip("\n")))
    return verify_all(course.lesson, (0, 1), exercise="double")


SURVIVOR = "double: return 1 * (2 * x) -> return 2 * x"


def test_every_mutant_of_a_tight_exercise_dies(whole):
    found = verify_all(whole.lesson, (0,), exercise="T1")
    rows = [row for row in found.rows if row.kind == "mutant"]
    assert found.ok
    assert len(rows) == 8
    assert {(row.expected, row.ok) for row in rows} == {("fail", True)}
    assert sum(made for _, made in found.operators.values()) == len(rows)
    summary = found.to_json()["summary"]["mutants"]
    assert summary["killed"] == summary["total"] == len(rows)
    assert summary["operators"]["constant"] == {"killed": 4, "total": 4}


def test_a_mutant_that_lives_without_a_reason_is_a_hole(whole):
    found = with_a_survivor(whole)
    (row,) = [row for row in found.rows if not row.ok]
    assert (row.submission, row.kind, row.expected, row.verdict) == (SURVIVOR, "mutant", "fail", "pass")
    assert [(one.mutant, one.because) for one in found.survivors] == [(SURVIVOR, "")]


def test_a_mutant_that_is_declared_equivalent_is_none(whole):
    found = with_a_survivor(whole, SURVIVOR)
    assert found.ok
    (row,) = [row for row in found.rows if row.submission == SURVIVOR]
    assert (row.expected, row.verdict, row.ok) == ("pass", "pass", True)
    assert found.survivors[0].because == "it multiplies by one, and so changes nothing"


def test_a_declared_mutant_that_dies_is_found(whole):
    found = with_a_survivor(whole, "double: return 1 * (2 * x) -> return 1")
    assert {row.submission for row in found.rows if not row.ok} == {SURVIVOR, "double: return 1 * (2 * x) -> return 1"}
    (finding,) = found.findings
    assert "declares `double: return 1 * (2 * x) -> return 1` equivalent, and test_" in finding


def test_a_declared_mutant_that_is_not_there_is_found(whole):
    (finding,) = with_a_survivor(whole, "double: gone").findings
    assert finding.startswith("double declares `double: gone` equivalent, and there is no such mutant: see lessons/toy")


def test_a_mutant_that_is_a_dialect_carries_its_note(whole):
    """The average over n - 1, made by a constant of the solution."""
    whole.write("solution.py", SOLUTION.replace("x.numel() + eps", "x.numel() - 0"))
    whole.write("exercises.py", stub_source(SOLUTION.replace("x.numel() + eps", "0"), exercise_names(whole.lesson)))
    found = verify_all(whole.lesson, (0,), exercise="average")
    (row,) = [row for row in found.rows if row.submission.endswith("x.numel() - 0 -> x.numel() - 1")]
    assert (row.expected, row.verdict, row.diagnosis, row.ok) == ("pass with note", "pass with note", "unbiased", True)
    assert "a dialect: Divided by n - 1: the unbiased kind." in {one.because for one in found.survivors}


def test_a_mutant_that_never_ends_does_not_cost_what_a_learner_may_take(whole, monkeypatch):
    """`average` may take 20 seconds; counting down without the step would take for ever."""
    loop = "    n = x.numel()\n    while n > 0:\n        n = n - 1\n    return x.sum() / x.numel()\n"
    whole.write("solution.py", SOLUTION.replace("    return _divided(x.sum(), x.numel() + eps)\n", loop))
    monkeypatch.setattr("coursekit.grading.proof.hunt._LEAST_SECONDS", 0.3)
    started = time.monotonic()
    found = verify_all(whole.lesson, (0,), exercise="average")
    slow = [row for row in found.rows if row.verdict == "timeout"]
    assert slow
    assert all(row.ok for row in slow)
    assert time.monotonic() - started < 2 + 2 * len(slow)


def test_mutants_print_nothing_and_progress_is_told(whole, capfd):
    whole.write("solution.py", SOLUTION.replace(DOUBLE, f"    print('noise')\n{DOUBLE}"))
    told = []
    found = verify_all(whole.lesson, (0,), exercise="double", progress=lambda *step: told.append(step))
    assert capfd.readouterr() == ("", "")
    assert told[-1] == (len(found.rows), len(found.rows), "double")
    assert "double: print('noise') -> nothing" in {one.mutant for one in found.survivors}


def test_a_check_that_refuses_no_value_is_found(whole):
    """Answers that return nothing are refused, and so are mutants that do; that is not what a check is for."""
    check = '''

@pytest.mark.exercise("double")
def test_finite(learner, rng):
    """What comes is a number."""
    got = learner.double(torch.tensor([3.0]))
    is_number = isinstance(got, int | float) or (isinstance(got, torch.Tensor) and got.numel() == 1)
    holds(is_number, "it is a number")
'''
    text = CHECKS.replace("import close", "import close, holds")
    whole.write("test_exercises.py", text + check)
    found = verify_all(whole.lesson, (0,), exercise="double")
    (finding,) = found.findings
    assert finding.startswith("test_finite never refuses what a wrong answer or a mutant returns: it proves nothing")


def test_a_solution_that_fails_has_no_mutants(whole):
    whole.write("test_exercises.py", CHECKS.replace("2 * x, where", "2.1 * x, where"))
    found = verify_all(whole.lesson, (0,), exercise="double")
    assert {row.kind for row in found.rows} == {"stub", "solution", "alternative", "wrong"}


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


def test_every_null_answer_has_its_id():
    assert tuple(null_answers({"both": both})) == NULL_ANSWERS


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
