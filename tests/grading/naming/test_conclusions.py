"""What a learner is told of a whole exercise: regimes in words, the smallest input, a second mistake."""

from __future__ import annotations

import time

import pytest

from coursekit.grading.judge import Judge
from coursekit.grading.runs import Candidate
from coursekit.grading.submission import read

SEVERAL = '''
import pytest
import torch

from coursekit.grading import close, holds


@pytest.mark.exercise("double")
@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["plus", "minus"])
@pytest.mark.parametrize("size", [2, 5], ids=["few", "many"])
def test_sizes(learner, rng, size, sign):
    """Numbers double."""
    x = sign * (1 + torch.rand(size, 3, generator=rng))
    close(learner.double(x), 2 * x, where="double(x)")


@pytest.mark.exercise("double")
def test_zero(learner, rng):
    """Zero stays zero."""
    x = torch.zeros(2)
    close(learner.double(x), x, where="double(x)")


@pytest.mark.exercise("double")
def test_law(learner, rng):
    """Twice as much gives twice as much."""
    x = 1 + torch.rand(3, generator=rng)
    small, large = learner.double(x), learner.double(2 * x)
    holds(bool((large == 2 * small).all()), "double(2x) is 2 double(x)", got=large, expected=2 * small)


@pytest.mark.exercise("average")
def test_average(learner, rng):
    """The average of three numbers."""
    x = 1 + torch.rand(3, generator=rng)
    close(learner.average(x), x.mean(), where="average(x)")
'''


@pytest.fixture
def report(course, graded):
    """Grade a text on the exercise `double`, with the checks above."""
    course.write("test_exercises.py", SEVERAL)
    return lambda text, **kwargs: graded(text, **kwargs).report()


def lines(message: str) -> dict[str, str]:
    return {line.partition(":")[0]: line.partition(":")[2].strip() for line in message.splitlines()}


# The regime in words


@pytest.mark.parametrize(
    ("body", "fails", "holds"),
    [
        (
            "2 * x if len(x) < 5 else 7 * x",
            None,
            "Numbers double (few); Zero stays zero; Twice as much gives twice as much",
        ),
        ("2 * x.abs()", "Numbers double (minus)", None),
        ("2 * x + 1", "every check of this exercise", None),
        ("2 * x + (x == 0)", None, "Numbers double; Twice as much gives twice as much"),
        ("7 * x if len(x) == 5 and x.sum() > 0 else 2 * x", None, "Numbers double (few-plus, few-minus, many-minus)"),
    ],
    ids=["one axis", "other axis", "all", "one check", "one case"],
)
def test_regimes(report, body, fails, holds):
    found = lines(report(f"def double(x):\n    return {body}").message)
    if fails:
        assert found["fails"] == fails
    if holds:
        assert found["holds"].startswith(holds)


def test_what_fails_alone_is_not_said_twice(report):
    found = lines(report("def double(x):\n    return 2 * x + (x == 0)").message)
    assert found["asked"] == "Zero stays zero."
    assert "fails" not in found


def test_a_mistake_with_a_name_needs_no_regime(report):
    found = report("def double(x):\n    return x * x")
    assert found.diagnosis.id == "squares"
    assert not {"fails", "holds"} & set(lines(found.message))


def test_only_the_first_message_has_it(course, graded):
    course.write("test_exercises.py", SEVERAL)
    messages = [result.message for result in graded("def double(x):\n    return 5 * x + 1").results()]
    assert ["fails:" in message for message in messages] == [True, False, False, False, False, False]


def test_many_regimes_are_cut(course, graded):
    checks = "\n\n".join(
        f'@pytest.mark.exercise("double")\ndef test_{n}(learner, rng):\n    """Regime {n}."""\n'
        f"    close(learner.double(torch.tensor({float(n)})), torch.tensor({2.0 * n}), where='x')"
        for n in range(1, 12)
    )
    course.write("test_exercises.py", f"import pytest\nimport torch\nfrom coursekit.grading import close\n\n{checks}")
    found = lines(graded("def double(x):\n    return 2 * x if x < 6 else 5 * x").report().message)
    assert found["holds"] == "Regime 1; Regime 2; Regime 3; and 2 more"
    assert found["fails"] == "Regime 6; Regime 7; Regime 8; and 3 more"


# The smallest input


@pytest.mark.parametrize(
    ("text", "given", "got"),
    [
        ("return 5 * x", "double(tensor([[1]]))", "tensor([[5]])"),
        ("return 5 * x if x.numel() > 2 else 2 * x", "double(tensor([[1, 1, 1]]))", "tensor([[5, 5, 5]])"),
        ("return (2 * x).double()", "double(tensor([[1]]))", "tensor([[2]], dtype=float64)"),
        ("return (2 * x)[0]", "double(tensor([[1]]))", "tensor([2])"),
        ("return x[9]", "double(tensor([[1]]))", None),
    ],
    ids=["value", "size", "dtype", "shape", "error"],
)
def test_the_smallest_input_that_still_fails(report, text, given, got):
    found = lines(report(f"def double(x):\n    {text}").message)
    assert found["with"] == given
    assert found["note"] == "this is the smallest input that still fails"
    assert found.get("got") == got
    if got:
        assert found["expected"] == given.replace("1", "2").removeprefix("double(").removesuffix(")")
    else:
        assert found["your line"] == "mine.py, line 2: `return x[9]`"


def test_a_law_has_nothing_to_compare_with(report):
    """Another result than the reference's may be right there."""
    found = lines(report("def double(x):\n    return 2 * x + 1e-3 * (x.numel() == 3) * (x > 0)").message)
    assert found["asked"] == "Twice as much gives twice as much."
    assert "note" not in found


def test_changed_arguments_are_shrunk_too(report):
    found = lines(report("def double(x):\n    y = 2 * x\n    x[0] = 0\n    return y").message)
    assert found["with"] == "double(tensor([[1]]))"
    assert found["because"].endswith("double changed argument 1")


def test_only_the_learners_input_is_shrunk(course):
    judge = Judge(course.lesson, course.checks(), 0)
    code = read(course.submission("def double(x):\n    return 5 * x"))
    exercise = course.lesson.exercise("double")
    assert "smallest" not in judge.report(Candidate("mutant", code), exercise).message


def test_without_a_reference_nothing_is_shrunk(course, graded):
    for name in ("solution", "wrong_answers", "alternatives"):
        (course.folder / f"{name}.py").unlink()
    course.write("test_exercises.py", SEVERAL)
    found = lines(graded("def double(x):\n    return 2 * x.abs()").report().message)
    assert found["fails"] == "Numbers double (minus)"
    assert "note" not in found


@pytest.mark.parametrize("body", ["while x.numel() < 6: pass", "if x.numel() < 6: exit()"], ids=["loops", "exits"])
def test_code_that_breaks_on_smaller_inputs_keeps_its_verdict(report, body):
    started = time.perf_counter()
    found = report(
        f"def double(x):\n    if x.dim() == 2:\n        {body}\n    return 5 * x if x.numel() > 3 else 2 * x"
    )
    assert (found.verdict, found.points > 0) == ("fail", True)
    assert time.perf_counter() - started < 5


def test_a_bench_that_fails_costs_no_verdict(report, monkeypatch):
    def gone(*_: object) -> None:
        raise OSError("the worker is gone")

    monkeypatch.setattr("coursekit.grading.runs.ExerciseRun.ask", gone)
    found = report("def double(x):\n    return 5 * x")
    assert (found.verdict, found.diagnosis) == ("fail", None)
    assert "note" not in lines(found.message)


# A second mistake


TWO = """
from coursekit.grading.answers import wrong


@wrong("double", says="You lose the sign.")
def loses_the_sign(x):
    return 2 * x.abs()


@wrong("double", says="You add one at zero.")
def adds_one_at_zero(x):
    return 2 * x + (x == 0)
"""


@pytest.mark.parametrize(
    ("body", "named", "also"),
    [
        ("2 * x.abs() + (x == 0)", "loses-the-sign", "adds-one-at-zero"),
        ("(3 * x).abs() + (x == 0)", None, "adds-one-at-zero"),
        ("2 * x.abs()", "loses-the-sign", None),
        ("2 * x.abs() + 5 * (x == 0)", "loses-the-sign", None),
    ],
    ids=["two", "first unknown", "one", "second unknown"],
)
def test_a_second_mistake_is_told(course, report, body, named, also):
    course.write("wrong_answers.py", TWO)
    found = report(f"def double(x):\n    return {body}")
    assert (found.diagnosis.id if found.diagnosis else None) == named
    said = lines(found.message).get("also")
    assert said == (f"You add one at zero. ({also}; seen where this was asked: Zero stays zero)" if also else None)


# A dialect beside a mistake


@pytest.mark.parametrize(
    ("body", "verdict", "named"),
    [
        ("2 * x.abs()", "pass with note", "keeps-no-sign"),
        ("2 * x.abs() + (x == 0)", "fail", "adds-one-at-zero"),
        ("2 * x.abs() + 5 * (x == 0)", "fail", None),
    ],
    ids=["dialect", "and a known mistake", "and an unknown one"],
)
def test_a_dialect_excuses_nothing_but_itself(course, report, body, verdict, named):
    """Points for what is wrong would be had by writing one other part as a published variant does."""
    text = TWO.replace('@wrong("double", says="You lose the sign.")', '@dialect("double", says="Without a sign.")')
    course.write(
        "wrong_answers.py", text.replace("import wrong", "import dialect, wrong").replace("loses_the", "keeps_no")
    )
    found = report(f"def double(x):\n    return {body}")
    assert (found.verdict, found.diagnosis.id if found.diagnosis else None) == (verdict, named)
    if verdict == "fail":
        assert found.points < found.max_points
        assert "keeps-no-sign" in lines(found.message)["also"]
