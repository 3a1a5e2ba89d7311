"""Grading: checks are ordinary pytest functions, the learner's code answers them, and mistakes have names.

A lesson's checks import the expectations from here. They are loaded at first use: the pytest plugin, which
every pytest run on the machine loads, must not pay for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coursekit.grading.expectations import CheckFailure, close, holds, raises, same

__all__ = ["CheckFailure", "close", "holds", "raises", "same"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("coursekit.grading.expectations"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
