"""What a check may expect of the learner's results. Each expectation raises `CheckFailure` when it is not met.

What is compared are plain values (see `values.py`): the learner's code cannot answer for itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from coursekit.errors import LessonError
from coursekit.grading.differences import Difference, Tolerance, difference
from coursekit.grading.values import show


class CheckFailure(Exception):  # noqa: N818  a failed check is no error of the program
    """A check found something else than it expected.

    Args:
        says: the finding, in one sentence.
        inputs: what the learner's code was given, by name.
        expected: what should have come, shown.
        got: what came, shown.
    """

    def __init__(
        self, says: str, *, inputs: Mapping[str, Any] | None = None, expected: str = "", got: str = ""
    ) -> None:
        self.says = says
        self.inputs = {name: show(value) for name, value in (inputs or {}).items()}
        self.expected = expected
        self.got = got
        super().__init__(says)


class LearnerRaised(CheckFailure):
    """The learner's code raised instead of returning.

    Args:
        says: the error, in one sentence.
        kinds: dotted names of the error's class and of its bases.
        place: file, line and text of the learner's line that failed; empty when it was not inside their file.
    """

    def __init__(self, says: str, *, kinds: tuple[str, ...], place: str = "") -> None:
        self.kinds = kinds
        self.place = place
        super().__init__(says)


class LearnerTimedOut(CheckFailure):
    """The learner's code took longer than its exercise allows."""


class LearnerEnded(CheckFailure):
    """The learner's code ended the process in which it ran, or had to be ended."""


def close(
    got: Any,
    expected: Any,
    *,
    where: str,
    inputs: Mapping[str, Any] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    scale: Any = None,
) -> None:
    """Expect a value up to rounding.

    Type, length, shape, dtype, device and finiteness must agree exactly. Then the largest error must be at most
    `rtol` times the largest element of that tensor, plus `atol`: the error is measured against the tensor's own
    scale, so that zeros never pass for small numbers. An int passes for a float.

    Args:
        got: what the learner's code returned.
        expected: a tensor, a number, or tuples, lists and dictionaries of them.
        where: what the value is called in a message.
        inputs: what led to it; None shows the learner's last call.
        rtol: None takes 1e-9 for float64 and Python's numbers, 1e-5 for float32, 1.6e-2 for bfloat16.
        atol: None takes 0, or 16 roundings where all that is expected is zero.
        scale: numbers or tensors that were subtracted on the way to the value: where a difference happens to be
            small, its rounding errors are still those of what it is a difference of. Where the value is a tuple
            or list, a tuple or list of the same length gives one for each part.

    Raises:
        CheckFailure: it differs; the message names the worst element.
        LessonError: NaN is expected, which every broken answer would meet.
    """
    _refuse_nan(expected, where)
    _raise_if(difference(got, expected, where, tolerance=Tolerance(rtol, atol), scale=scale), inputs)


def same(got: Any, expected: Any, *, where: str, inputs: Mapping[str, Any] | None = None) -> None:
    """Expect a value exactly, type, shape and dtype included.

    Raises:
        CheckFailure: it differs.
        LessonError: NaN is expected.
    """
    _refuse_nan(expected, where)
    _raise_if(difference(got, expected, where, tolerance=None), inputs)


def holds(
    condition: Any, says: str, *, inputs: Mapping[str, Any] | None = None, got: Any = None, expected: Any = None
) -> None:
    """Expect a condition.

    Args:
        condition: True or False, or a tensor with one of them.
        says: the condition in words, as it should be: "the rate never rises after the peak".
        inputs: what led to it; None shows the learner's last call.
        got: what came, to be shown.
        expected: what should have come, to be shown.

    Raises:
        CheckFailure: it is False.
        LessonError: it is neither.
    """
    if isinstance(condition, Tensor) and condition.dtype is torch.bool and condition.numel() == 1:
        condition = bool(condition)
    if type(condition) is not bool:
        raise LessonError("holds", "True or False", got=type(condition).__name__, fix="write a comparison")
    if not condition:
        raise CheckFailure(
            f"this does not hold: {says}",
            inputs=inputs,
            got="" if got is None else show(got),
            expected="" if expected is None else show(expected),
        )


def raises(call: Callable[[], Any], kinds: type[Exception] | tuple[type[Exception], ...], *, where: str) -> None:
    """Expect the learner's code to raise.

    Args:
        call: calls the learner, without arguments: `lambda: learner.dropout(x, 1.5)`.
        kinds: the error's class, or several.
        where: what was called, in words.

    Raises:
        CheckFailure: nothing was raised, or something else.
    """
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    wanted = " or ".join(kind.__name__ for kind in kinds)
    try:
        came = call()
    except LearnerRaised as error:
        # A stub raises NotImplementedError, which is a RuntimeError too; a missing or forbidden name is no answer.
        unwritten = error.kinds[0].startswith("coursekit.grading.") or error.kinds[0] == "builtins.NotImplementedError"
        if not unwritten and any(f"{kind.__module__}.{kind.__qualname__}" in error.kinds for kind in kinds):
            return
        raise
    raise CheckFailure(f"{where} should raise {wanted}, and raised nothing", got=show(came), expected=wanted)


def _raise_if(found: Difference | None, inputs: Mapping[str, Any] | None) -> None:
    if found is not None:
        raise CheckFailure(f"{found.where}: {found.says}", inputs=inputs, got=found.got, expected=found.expected)


def _refuse_nan(expected: Any, where: str) -> None:
    if isinstance(expected, Tensor):
        nan = expected.is_floating_point() and bool(expected.isnan().any())
    elif isinstance(expected, list | tuple | dict):
        for part in expected.values() if isinstance(expected, dict) else expected:
            _refuse_nan(part, where)
        return
    else:
        nan = isinstance(expected, float) and math.isnan(expected)
    if nan:
        raise LessonError(where, "numbers to compare with", got="NaN among the expected", fix="mend the check")
