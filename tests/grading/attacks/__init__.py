"""The attacks that grading must withstand, by family, and the arena in which they are tried."""

from __future__ import annotations

from .attack import POINTS, RIGHT, Attack
from .collecting import COLLECTING
from .denial import DENIAL
from .exits import EXITS
from .honest import HONEST
from .inside import INSIDE
from .secrets import SECRETS
from .shortcuts import SHORTCUTS
from .unforeseen import UNFORESEEN
from .values import VALUES

CATALOGUE: tuple[Attack, ...] = (
    *EXITS,
    *INSIDE,
    *VALUES,
    *SECRETS,
    *DENIAL,
    *HONEST,
    *SHORTCUTS,
    *COLLECTING,
    *UNFORESEEN,
)

__all__ = ["CATALOGUE", "POINTS", "RIGHT", "Attack"]
