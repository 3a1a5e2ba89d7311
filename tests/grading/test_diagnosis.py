"""Naming a mistake by comparing traces."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from coursekit.grading.answers import Answer
from coursekit.grading.diagnosis import Suspect, agree, diagnose, excuse
from coursekit.grading.learner import Call, Outcome, Raised, Request
from coursekit.grading.verdicts import Diagnosis


def trace(*values: object) -> list[Call]:
    """Make a trace of calls that returned these values; an exception class stands for one that was raised."""

    def outcome(value: object) -> Outcome:
        if isinstance(value, type):
            return Outcome(raised=Raised((f"builtins.{value.__name__}",), "message", "", stub=False))
        return Outcome(value)

    return [Call(Request("call", "f"), outcome(value)) for value in values]


def suspect(name: str, kind: str = "wrong", **traces: list[Call]) -> Suspect:
    def code() -> None: ...

    code.__name__ = name
    return Suspect(Answer(kind, "f", f"says {name}", code), traces)  # type: ignore[arg-type]


def named(*arguments: Any) -> str:
    """Return the id of the diagnosis."""
    found = diagnose(*arguments)
    return found.id if found else ""


def test_traces_agree_up_to_rounding_and_by_kind_of_error():
    assert agree(trace(1.0, torch.ones(2)), trace(1.0 + 1e-12, torch.ones(2)))
    assert not agree(trace(1.0), trace(1.1))
    assert not agree(trace(1.0), trace(1.0, 2.0))
    assert not agree(trace(), trace())
    assert agree(trace(KeyError), trace(KeyError))
    assert not agree(trace(KeyError), trace(TypeError))
    assert not agree(trace(KeyError), trace(None))
    late = [Call(Request("call", "f"), Outcome(timed_out=True))]
    assert not agree(late, late)
    changed = [Call(Request("call", "f"), Outcome(1.0, changed=("argument 1",)))]
    assert not agree(changed, trace(1.0))
    other = [Call(Request("call", "g"), Outcome(1.0))]
    assert not agree(other, trace(1.0))


def test_the_whole_trace_comes_before_the_first_failing_check():
    mine = {"a": trace(1.0), "b": trace(2.0)}
    only_first = suspect("only_first", a=trace(1.0), b=trace(3.0))
    whole = suspect("the_whole", a=trace(1.0), b=trace(2.0))
    assert diagnose(mine, ["a", "b"], [only_first, whole]) == Diagnosis("the-whole", "says the_whole", "wrong")
    assert named(mine, ["a", "b"], [only_first]) == "only-first"


def test_what_differs_in_the_first_failing_check_is_not_named():
    assert diagnose({"a": trace(1.0), "b": trace(2.0)}, ["a", "b"], [suspect("x", a=trace(0.0), b=trace(2.0))]) is None


def test_a_shared_kind_of_error_needs_the_whole_trace():
    """Two answers that both raise TypeError in one place need not share their mistake."""
    mine = {"a": trace(TypeError), "b": trace(2.0)}
    assert diagnose(mine, ["a"], [suspect("x", a=trace(TypeError), b=trace(3.0))]) is None
    assert named(mine, ["a"], [suspect("x", a=trace(TypeError), b=trace(2.0))]) == "x"


def test_among_several_the_one_least_often_mistaken_for_another():
    mine = {"a": trace(1.0), "b": trace(2.0), "c": trace(3.0)}
    twins = [suspect(name, a=trace(1.0), b=trace(2.0), c=trace(9.0)) for name in ("first_twin", "second_twin")]
    alone = suspect("alone", a=trace(1.0), b=trace(9.0), c=trace(3.0))
    assert named(mine, ["a"], [*twins, alone]) == "alone"
    assert named(mine, ["a"], twins) == "first-twin"


def test_a_dialect_must_explain_every_failing_check():
    mine = {"a": trace(1.0), "b": trace(2.0), "c": trace(5.0)}
    dialect = suspect("kind_of", "dialect", a=trace(1.0), b=trace(2.0), c=trace(6.0))
    assert excuse(mine, ["a", "b"], [dialect]) == dialect.diagnosis
    assert excuse(mine, ["a", "c"], [dialect]) is None
    assert excuse(mine, ["a"], [suspect("x", a=trace(1.0), b=trace(2.0), c=trace(5.0))]) is None


@pytest.mark.parametrize("name", ["squares", "_squares_", "squares_x"])
def test_ids_are_names_with_hyphens(name):
    assert suspect(name).diagnosis.id == name.strip("_").replace("_", "-")
