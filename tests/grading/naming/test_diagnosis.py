"""Naming a mistake by comparing traces."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from coursekit.grading.answers import Answer
from coursekit.grading.learner import Call, Outcome, Raised, Request
from coursekit.grading.naming.diagnosis import Named, Suspect, Trial, agree, diagnose, excuse
from coursekit.grading.verdicts import Diagnosis

Results = list[object]


def tried(*values: object, passed: bool = False, statistical: bool = False) -> Trial:
    """Make a trial of calls that returned these values; an exception class stands for one that was raised."""

    def outcome(value: object) -> Outcome:
        if isinstance(value, type):
            return Outcome(raised=Raised((f"builtins.{value.__name__}",), "message", "", stub=False))
        return Outcome(value)

    return Trial([Call(Request("call", "f"), outcome(value)) for value in values], passed, statistical)


RIGHT = 0.0  # what the reference returns in every check of this file


def trials(**values: Any) -> dict[str, Trial]:
    """Make the trials of one answer: in each check one value, which passes when it is right."""
    return {name: tried(value, passed=value == RIGHT) for name, value in values.items()}


def suspect(name: str, kind: str = "wrong", replaces: str = "f", **values: Any) -> Suspect:
    def code() -> None: ...

    code.__name__ = name
    return Suspect(Answer(kind, replaces, f"says {name}", code), trials(**values))  # type: ignore[arg-type]


def named(mine: dict[str, Trial], *suspects: Suspect) -> tuple[str, str]:
    """Return the ids of what is named, and of what is named besides."""
    found = diagnose(mine, suspects)
    return found.diagnosis.id if found.diagnosis else "", found.also.id if found.also else ""


def test_trials_agree_up_to_rounding_and_by_kind_of_error():
    assert agree(tried(1.0, torch.ones(2)), tried(1.0 + 1e-12, torch.ones(2)))
    assert not agree(tried(1.0), tried(1.1))
    assert not agree(tried(1.0), tried(1.0, 2.0))
    assert not agree(tried(), tried())
    assert agree(tried(KeyError), tried(KeyError))
    assert not agree(tried(KeyError), tried(TypeError))
    assert not agree(tried(KeyError), tried(None))
    changed = Trial([Call(Request("call", "f"), Outcome(1.0, changed=("argument 1",)))], False)
    assert not agree(changed, tried(1.0))
    other = Trial([Call(Request("call", "g"), Outcome(1.0))], False)
    assert not agree(other, tried(1.0))


@pytest.mark.parametrize("outcome", [Outcome(timed_out=True), Outcome(ended="killed")], ids=["late", "ended"])
def test_what_did_not_come_to_its_end_is_no_result(outcome):
    stopped = Trial([Call(Request("call", "f"), outcome)], False)
    assert not agree(stopped, stopped)


def test_the_whole_trace_comes_before_the_first_failing_check():
    mine = trials(a=1.0, b=2.0)
    only_first, whole = suspect("only_first", a=1.0, b=3.0), suspect("the_whole", a=1.0, b=2.0)
    assert diagnose(mine, [only_first, whole]) == Named(Diagnosis("the-whole", "says the_whole", "wrong"))
    assert named(mine, only_first) == ("only-first", "")


@pytest.mark.parametrize(
    "known",
    [suspect("x", a=9.0, b=2.0), suspect("x", a=RIGHT, b=RIGHT)],
    ids=["another result", "right there"],
)
def test_what_differs_in_the_first_failing_check_is_not_named(known):
    assert named(trials(a=1.0, b=RIGHT), known) == ("", "")


def test_a_check_that_a_known_answer_passes_names_nobody():
    """Up to rounding the results are the same; the check itself is stricter."""
    close = Suspect(suspect("close", a=1.0).answer, {"a": tried(1.0, passed=True)})
    assert named({"a": tried(1.0 + 1e-11)}, close) == ("", "")


def test_a_shared_kind_of_error_needs_the_whole_trace():
    """Two answers that both raise TypeError in one place need not share their mistake."""
    mine = trials(a=TypeError, b=2.0)
    assert named(mine, suspect("x", a=TypeError, b=3.0)) == ("", "")
    assert named(mine, suspect("x", a=TypeError, b=2.0)) == ("x", "")


# The more specific one


def test_the_one_that_agrees_in_more_checks():
    mine = trials(a=1.0, b=2.0, c=3.0)
    few, many = suspect("few", a=1.0, b=9.0, c=3.0), suspect("many", a=1.0, b=2.0, c=3.0)
    assert named(mine, few, many) == ("many", "")


def test_a_value_says_more_than_a_kind_of_error():
    mine = trials(a=1.0, b=TypeError, c=3.0)
    by_error, by_value = suspect("by_error", a=1.0, b=TypeError, c=9.0), suspect("by_value", a=1.0, b=KeyError, c=3.0)
    assert named(mine, by_error, by_value) == ("by-value", "")


def test_the_one_that_fails_what_the_learner_fails_and_nothing_else():
    mine = trials(a=1.0, b=5.0, c=RIGHT)
    other = suspect("elsewhere", a=1.0, b=RIGHT, c=RIGHT)  # passes b, which the learner fails
    same = suspect("the_same", a=1.0, b=6.0, c=RIGHT)
    assert named(mine, other, same) == ("the-same", "")


def test_a_mistake_that_another_contains():
    """Swapped arguments, and swapped arguments with a second mistake besides: each is named where it is made."""
    part, whole = suspect("part", a=1.0, b=RIGHT), suspect("whole", a=1.0, b=2.0)
    assert named(trials(a=1.0, b=RIGHT), whole, part) == ("part", "")
    assert named(trials(a=1.0, b=2.0), part, whole) == ("whole", "")


def test_among_equals_the_one_least_often_mistaken_for_another():
    mine = trials(a=1.0, b=2.0, c=3.0)
    twins = [suspect(name, a=1.0, b=2.0, c=9.0) for name in ("first_twin", "second_twin")]
    alone = suspect("alone", a=1.0, b=9.0, c=3.0)
    assert named(mine, *twins, alone) == ("alone", "")
    assert named(mine, *twins) == ("first-twin", "")


# Two mistakes at once


def test_a_second_mistake_is_named_too():
    mine = trials(a=1.0, b=2.0, c=12.0)
    first, second = suspect("first", a=1.0, b=RIGHT, c=10.0), suspect("second", a=RIGHT, b=2.0, c=11.0)
    assert named(mine, second, first) == ("first", "second")
    assert diagnose(mine, [first, second]).check == "b"


def test_a_second_mistake_is_told_where_the_first_has_no_name():
    mine = trials(a=1.0, b=2.0)
    assert named(mine, suspect("second", a=RIGHT, b=2.0)) == ("", "second")


@pytest.mark.parametrize(
    "other",
    [
        suspect("other", a=RIGHT, b=9.0, c=RIGHT),
        suspect("other", a=RIGHT, b=2.0, c=3.0),
        suspect("other", a=5.0, b=2.0, c=RIGHT),
        suspect("other", "dialect", a=RIGHT, b=2.0, c=RIGHT),
    ],
    ids=["another value", "fails what passes", "at odds with the first", "a dialect"],
)
def test_what_is_at_odds_with_the_rest_is_no_second_mistake(other):
    mine = trials(a=1.0, b=2.0, c=RIGHT)
    assert named(mine, suspect("first", a=1.0, b=RIGHT, c=RIGHT), other) == ("first", "")


def test_an_error_names_no_second_mistake():
    mine = trials(a=1.0, b=TypeError)
    assert named(mine, suspect("first", a=1.0, b=RIGHT), suspect("other", a=RIGHT, b=TypeError)) == ("first", "")


# Dialects


def test_a_dialect_must_explain_every_failing_check():
    dialect = suspect("kind_of", "dialect", a=1.0, b=2.0, c=6.0)
    assert excuse(trials(a=1.0, b=2.0, c=RIGHT), [dialect]) == (dialect.diagnosis,)
    assert excuse(trials(a=1.0, b=RIGHT, c=5.0), [dialect]) == ()
    assert excuse(trials(a=1.0, b=2.0), [suspect("x", a=1.0, b=2.0)]) == ()


def test_dialects_of_two_functions_excuse_together():
    first = suspect("first", "dialect", a=1.0, b=RIGHT, c=RIGHT)
    second = suspect("second", "dialect", replaces="g", a=RIGHT, b=2.0, c=RIGHT)
    rival = suspect("rival", "dialect", a=RIGHT, b=2.0, c=RIGHT)
    both = trials(a=1.0, b=2.0, c=RIGHT)
    assert excuse(both, [first, second]) == (first.diagnosis, second.diagnosis)
    assert excuse(both, [first, rival]) == (), "one function is written in one way only"
    assert excuse(trials(a=1.0, b=2.0, c=3.0), [first, second]) == (), "what is left is a mistake"


# Random numbers


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_draws_agree_in_a_statistical_check_alone():
    first, second = drawn(1, 300), drawn(2, 300)
    for given in (first, [first, 1.0], (first, "a"), {"x": first}):
        other = {"x": second} if isinstance(given, dict) else [second, 1.0] if isinstance(given, list) else second
        other = (second, "a") if isinstance(given, tuple) else other
        assert agree(tried(given, statistical=True), tried(other, statistical=True))
        assert not agree(tried(given), tried(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (drawn(1, 300), drawn(1, 300)[None]),
        (drawn(1, 300), drawn(2, 300).double()),
        (drawn(1, 300), 3 * drawn(2, 300)),
        (drawn(1, 300), drawn(2, 301)),
        (drawn(1, 9), drawn(2, 9)),
        ([drawn(1, 300), 1.0], [drawn(2, 300), 2.0]),
        ([drawn(1, 300)], [drawn(2, 300)] * 2),
        ({"x": drawn(1, 300)}, {"y": drawn(2, 300)}),
        (drawn(1, 300), None),
    ],
    ids=["shape", "dtype", "scale", "size", "too small", "number beside it", "length", "key", "none"],
)
def test_what_else_must_agree_in_a_statistical_check(one, other):
    assert not agree(tried(one, statistical=True), tried(other, statistical=True))


def test_the_same_numbers_twice_are_a_pattern():
    """Two layers with the same weights, or the same weights again under the same seed."""
    first, second, third = (drawn(seed, 300) for seed in range(3))
    twice = tried([first, first], statistical=True)
    assert agree(twice, tried([second, second.clone()], statistical=True))
    assert not agree(twice, tried([second, third], statistical=True))
    again = tried(first, first, statistical=True)
    assert not agree(again, tried(second, third, statistical=True))


@pytest.mark.parametrize("name", ["squares", "_squares_", "squares_x"])
def test_ids_are_names_with_hyphens(name):
    assert suspect(name).diagnosis.id == name.strip("_").replace("_", "-")
