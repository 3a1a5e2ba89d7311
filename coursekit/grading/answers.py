"""Marks for a lesson's `alternatives.py` and `wrong_answers.py`: answers whose verdict is known beforehand.

    @alternative("rmsprop_step", says="in-place operators on copies")
    def in_place_on_copies(p, g, v, *, lr, alpha=0.99, eps=1e-8): ...

    @wrong("rmsprop_step", says="You swapped alpha and 1 - alpha.")
    def swaps_alpha(p, g, v, *, lr, alpha=0.99, eps=1e-8): ...     # its diagnosis is called `swaps-alpha`

Nothing here imports torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeVar

from coursekit.errors import LessonError

Kind = Literal["alternative", "dialect", "wrong"]
_Code = TypeVar("_Code", bound=Callable[..., Any])
_SHELF = "__coursekit_answers__"


@dataclass(frozen=True)
class Answer:
    """One answer whose verdict is known.

    Args:
        kind: `alternative` (right), `dialect` (right, with a note) or `wrong`.
        replaces: the function or class of the solution whose place it takes.
        says: one sentence: what is different, or what the learner did wrong.
        code: the function or class itself.
    """

    kind: Kind
    replaces: str
    says: str
    code: Callable[..., Any]

    @property
    def id(self) -> str:
        """The name in reports: that of the code, with hyphens."""
        return self.code.__name__.strip("_").replace("_", "-")


def alternative(replaces: str, *, says: str) -> Callable[[_Code], _Code]:
    """Mark another right solution of the function or class `replaces`; the grader must accept it."""
    return _marker("alternative", replaces, says)


def dialect(replaces: str, *, says: str) -> Callable[[_Code], _Code]:
    """Mark a legitimate variant, which passes with the note `says`."""
    return _marker("dialect", replaces, says)


def wrong(replaces: str, *, says: str) -> Callable[[_Code], _Code]:
    """Mark a typical mistake; a learner whose results equal its results is told `says`."""
    return _marker("wrong", replaces, says)


def answers(modules: Iterable[ModuleType]) -> tuple[Answer, ...]:
    """Return the marked answers of a lesson's modules, in the order in which they are written.

    Raises:
        LessonError: two answers share an id, so that one of them could not be named.
    """
    found: list[Answer] = [answer for module in modules for answer in vars(module).get(_SHELF, [])]
    ids = [answer.id for answer in found]
    for answer in found:
        if ids.count(answer.id) > 1:
            where = answer.code.__module__
            raise LessonError(where, "answers with names of their own", got=f"{answer.id} twice", fix="rename one")
    return tuple(found)


def _marker(kind: Kind, replaces: str, says: str) -> Callable[[_Code], _Code]:
    def mark(code: _Code) -> _Code:
        # Kept in the module that defines it, so that two lessons, or a lesson loaded anew, never mix.
        shelf = vars(sys.modules[code.__module__]).setdefault(_SHELF, [])
        shelf.append(Answer(kind, replaces, says, code))
        return code

    return mark
