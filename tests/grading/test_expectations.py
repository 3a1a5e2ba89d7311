"""The expectations of checks."""

from __future__ import annotations

import pytest
import torch

from coursekit.errors import LessonError
from coursekit.grading import CheckFailure, close, holds, raises, same
from coursekit.grading.expectations import LearnerRaised


def raised(*kinds: str):
    def call() -> None:
        raise LearnerRaised("ValueError: no", kinds=kinds)

    return call


def test_close_passes_and_fails_with_all_that_a_learner_needs():
    close(torch.tensor([0.1 + 0.2]), torch.tensor([0.3]), where="x")
    with pytest.raises(CheckFailure) as failure:
        close((torch.ones(2), 3.0), (torch.ones(2), 4.0), where="(p, n)", inputs={"lr": 0.1, "p": torch.ones(1)})
    found = failure.value
    assert (found.says, found.expected, found.got) == (
        "(p, n)[1]: expected 4.0, got 3.0; the error 1 is more than 4e-09",
        "4.0",
        "3.0",
    )
    assert found.inputs == {"lr": "0.1", "p": "tensor([1])"}


def test_same_is_exact():
    same([1, "a", torch.ones(1)], [1, "a", torch.ones(1)], where="x")
    with pytest.raises(CheckFailure, match=r"at \[0\] expected 1, got 1\.00000"):
        same(torch.ones(1) + 1e-6, torch.ones(1), where="x")


@pytest.mark.parametrize("expect", [close, same])
@pytest.mark.parametrize("nan", [float("nan"), [torch.tensor([torch.nan])], {"a": float("nan")}], ids=str)
def test_nan_is_never_expected(expect, nan):
    with pytest.raises(LessonError, match="Got NaN among the expected"):
        expect(nan, nan, where="x")


def test_holds():
    holds(True, "one is one")
    holds(torch.tensor([True]), "so is a tensor")
    with pytest.raises(CheckFailure, match="this does not hold: it falls") as failure:
        holds(False, "it falls", got=[2, 1], expected=[1, 2])
    assert (failure.value.got, failure.value.expected) == ("[2, 1]", "[1, 2]")


@pytest.mark.parametrize("condition", [1, None, torch.ones(1), torch.tensor([True, True])], ids=str)
def test_holds_refuses_what_is_no_condition(condition):
    with pytest.raises(LessonError, match="holds: True or False"):
        holds(condition, "something")


def test_raises():
    raises(raised("builtins.ValueError", "builtins.Exception"), ValueError, where="f(-1)")
    raises(raised("exercises.Mine", "builtins.ValueError"), (KeyError, ValueError), where="f(-1)")
    with pytest.raises(CheckFailure, match=r"f\(-1\) should raise KeyError or ValueError, and raised nothing"):
        raises(lambda: 3, (KeyError, ValueError), where="f(-1)")
    with pytest.raises(LearnerRaised):
        raises(raised("builtins.TypeError"), ValueError, where="f(-1)")


@pytest.mark.parametrize(
    "kinds",
    [
        ("builtins.NotImplementedError", "builtins.RuntimeError", "builtins.Exception"),
        ("coursekit.grading.inprocess.MissingNameError", "builtins.Exception"),
        ("coursekit.grading.guard.ForbiddenCallError", "builtins.Exception"),
    ],
    ids=["stub", "missing", "forbidden"],
)
def test_a_stub_does_not_raise_what_was_asked(kinds):
    with pytest.raises(LearnerRaised):
        raises(raised(*kinds), (RuntimeError, Exception), where="f(-1)")


def test_the_package_offers_what_lessons_import():
    import coursekit.grading

    with pytest.raises(AttributeError, match="nothing"):
        _ = coursekit.grading.nothing


def test_a_small_difference_is_measured_against_what_was_subtracted():
    """1 - 0.9999 rounds as 1 does: seen in right answers whose result happened to come out near zero."""
    expected, got = torch.tensor(1e-4, dtype=torch.float64), torch.tensor(1e-4 + 1e-15, dtype=torch.float64)
    close(got, expected, where="p", rtol=1e-12, scale=torch.tensor([0.5, -1.0]))
    close((got, got), (expected, expected), where="p", rtol=1e-12, scale=([torch.ones(2)], 1.0))
    close({"a": 1e-4 + 1e-15}, {"a": 1e-4}, where="p", rtol=1e-12, scale={"a": (None, 1)})
    with pytest.raises(CheckFailure, match="the error 1e-15"):
        close(got, expected, where="p", rtol=1e-12)
    with pytest.raises(CheckFailure, match=r"p\[1\].*the error 1e-15"):
        close((got, got), (expected, expected), where="p", rtol=1e-12, scale=(1.0, None))
    with pytest.raises(CheckFailure, match="the error 1e-15"):
        close(got, expected, where="p", rtol=1e-12, scale=torch.ones(0))
