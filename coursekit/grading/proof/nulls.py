"""Null answers: code that does no work. No check may give a point for one of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

Blank = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


def null_answers(names: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every null answer to an exercise.

    Args:
        names: the reference's functions and classes that the exercise asks for.

    Returns:
        Id of the null answer (`null-zeros`, ...) to its functions and classes.
    """
    return {
        f"null-{kind}": {name: _nulled(code, blank) for name, code in names.items()} for kind, blank in _BLANKS.items()
    }


def _nulled(code: Any, blank: Blank) -> Any:
    """Return a function that does no work in the place of a function; in a class, of each of its public methods."""
    if not isinstance(code, type):
        return lambda *args, **kwargs: blank(code, args, kwargs)
    methods = {
        name: _method(method, blank)
        for name, method in vars(code).items()
        if isinstance(method, FunctionType) and (not name.startswith("_") or name == "__call__")
    }
    return type(code)(code.__name__, (code,), methods)


def _method(method: Callable[..., Any], blank: Blank) -> Callable[..., Any]:
    def nulled(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A copy works in its place, so that nothing happens to the object itself.
        return blank(lambda *a, **k: method(copy.deepcopy(self), *a, **k), args, kwargs)

    return nulled


def _reshaped(change: Callable[[Any], Any]) -> Blank:
    """Return a null answer of the right types and shapes, with every number changed."""

    def blank(code: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            given = copy.deepcopy((args, kwargs))
        except (TypeError, RuntimeError):  # a generator cannot be copied, and using it up would be work
            return None
        return _mapped(code(*given[0], **given[1]), change)

    return blank


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_mapped(part, change) for part in value)
    if isinstance(value, dict):
        return {key: _mapped(part, change) for key, part in value.items()}
    number = isinstance(value, Tensor | int | float | complex) and not isinstance(value, bool)
    return change(value) if number else value


def _zero(value: Any) -> Any:
    return torch.zeros_like(value) if isinstance(value, Tensor) else type(value)(0)


def _nan(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return float("nan")
    return torch.full_like(value, float("nan")) if value.is_floating_point() else torch.zeros_like(value)


def _empty(value: Any) -> Any:
    return value.new_empty(0) if isinstance(value, Tensor) else None


def _first_argument(code: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return (*args, *kwargs.values(), None)[0]


_BLANKS: dict[str, Blank] = {
    "none": lambda code, args, kwargs: None,
    "first-argument": _first_argument,
    "zeros": _reshaped(_zero),
    "nan": _reshaped(_nan),
    "empty": _reshaped(_empty),
}

NULL_ANSWERS = tuple(f"null-{kind}" for kind in _BLANKS)  # the ids of all of them
