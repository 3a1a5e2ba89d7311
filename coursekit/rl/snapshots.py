"""What an object holds, for a checkpoint: of a learner's class too, which knows nothing of checkpoints."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

Snapshot = dict[str, Any]
"""Tensors and numbers by where they are held, for example `tree.nodes`."""

_NUMBERS = (bool, int, float)
_SETTLED = (str, torch.device, torch.dtype, type(None))  # chosen when an object is built, and the same in the next one


class _Held(NamedTuple):
    owner: Any
    name: Any  # of an attribute, or a place in a list
    value: Any


def take(thing: object) -> Snapshot | None:
    """Return everything that an object and its parts hold; None where that is more than tensors and numbers."""
    found = _look_into(thing)
    return None if found is None else {path: held.value for path, held in found.items()}


def put_back(thing: object, snapshot: Snapshot | None) -> bool:
    """Make a newly built object hold what another of its kind held.

    Tensors are written in place, so that views of them stay views.

    Returns:
        Whether it fitted: the same tensors and numbers in the same places. Else nothing was changed.
    """
    found = _look_into(thing)
    if found is None or snapshot is None or found.keys() != snapshot.keys():
        return False
    pairs = [(held, snapshot[path]) for path, held in found.items()]
    if not all(_is_like(held.value, value) for held, value in pairs):
        return False
    for held, value in pairs:
        if isinstance(held.value, Tensor):
            held.value.copy_(value)
        else:
            _parts(held.owner)[held.name] = value
    return True


def _look_into(thing: object) -> dict[str, _Held] | None:
    """Return what is held where, or None where something is of another kind."""
    found: dict[str, _Held] = {}
    known: set[int] = set()

    def walk(owner: Any, path: str) -> bool:
        if id(owner) in known:  # held in two places: one is enough
            return True
        known.add(id(owner))
        parts = _parts(owner)
        for name, value in enumerate(parts) if isinstance(parts, list) else parts.items():
            where = f"{path}{name}"
            if isinstance(value, (Tensor, *_NUMBERS)):
                found[where] = _Held(owner, name, value)
            elif not isinstance(value, _SETTLED) and not (_has_parts(value) and walk(value, f"{where}.")):
                return False
        return True

    return found if hasattr(thing, "__dict__") and walk(thing, "") else None


def _parts(owner: Any) -> list[Any] | dict[str, Any]:
    return owner if isinstance(owner, list) else vars(owner)


def _has_parts(value: Any) -> bool:
    """Return whether all that an object holds can be seen: a list, or an instance of a plain class."""
    kind = type(value)
    return kind is list or (kind.__module__ != "builtins" and hasattr(value, "__dict__") and kind.__base__ is object)


def _is_like(mine: Any, other: Any) -> bool:
    if isinstance(mine, Tensor):
        return isinstance(other, Tensor) and (mine.shape, mine.dtype) == (other.shape, other.dtype)
    return isinstance(other, _NUMBERS)
