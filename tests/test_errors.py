"""The error tree: one sentence shape, and errors that survive the way between processes."""

from __future__ import annotations

import pickle
import re

import pytest

from coursekit import errors
from coursekit.errors import ArgumentError, ConfigError, CourseError, Finding, StoppedError, UserError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, UserError) and kind is not ConfigError
]


def test_message_names_where_expected_got_and_fix() -> None:
    error = UserError("attend", "one width", got=(2, 4), fix="project first")
    assert str(error) == "attend: one width. Got (2, 4). Fix: project first."
    assert (error.where, error.expected, error.got, error.fix) == ("attend", "one width", "(2, 4)", "project first")


def test_message_leaves_out_what_did_not_come() -> None:
    assert str(UserError("lessons", "a folder", fix="make one")) == "lessons: a folder. Fix: make one."


@pytest.mark.parametrize(("count", "words"), [(1, "1 setting"), (2, "2 settings"), (20, "20 settings")])
def test_config_error_lists_every_finding(count: int, words: str) -> None:
    findings = [Finding(f"key{number}", "a number", got="a word", fix="write one") for number in range(count)]
    lines = str(ConfigError("quick.yaml", findings)).splitlines()
    assert lines[0] == f"quick.yaml: {words} to mend:"
    assert lines[1:] == [f"  - key{number}: a number. Got a word. Fix: write one." for number in range(count)]


def test_config_error_is_bounded_but_keeps_all() -> None:
    findings = [Finding(f"key{number}", "a number", fix="write one") for number in range(21)]
    error = ConfigError("quick.yaml", findings)
    assert len(error.findings) == 21
    assert str(error).splitlines()[-2:] == ["  - key19: a number. Fix: write one.", "  and 1 more"]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling(kind: type[UserError]) -> None:
    error = pickle.loads(pickle.dumps(kind("fit", "a loss", got=3.5, fix="lower lr")))
    assert type(error) is kind
    assert str(error) == "fit: a loss. Got 3.5. Fix: lower lr."


def test_config_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("a.yaml", [Finding("lr", "a number", got="x", fix="write one")])))
    assert error.findings[0].key == "lr"
    assert str(error) == "a.yaml: 1 setting to mend:\n  - lr: a number. Got x. Fix: write one."


def test_stopped_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(StoppedError(15)))
    assert error.signal_number == 15
    assert "everything up to here is saved" in str(error)


def test_tree_at_the_head_of_the_module_is_the_tree() -> None:
    drawn = set(re.findall(r"\b\w+Error\b", str(errors.__doc__)))
    assert drawn - {"ValueError"} == {kind.__name__ for kind in (CourseError, StoppedError, ConfigError, *KINDS)}


def test_argument_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="seed: a whole number"):
        raise ArgumentError("seed", "a whole number", got=1.5, fix="round it")


def test_a_stop_is_no_fault_of_the_user() -> None:
    assert not issubclass(StoppedError, UserError)
