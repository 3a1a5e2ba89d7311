"""Data sets behind one interface: `load` reads one, `cards` tells what each is, `download` fetches one.

Sequences come from `load_text` (a text, the course's or a learner's), `dates` and `recall` (made from a seed).
Importing this package imports no torch: the command line lists the cards. `load`, `Data` and the like bring it in
when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# `cards` is the function here; the module of that name is reached as `from coursekit.data.cards import ...`.
from coursekit.data.cards import NAMES, DataCard, card, cards, sequence_cards
from coursekit.data.downloads import download, is_available

if TYPE_CHECKING:
    from coursekit.data.sources import load
    from coursekit.data.splits import Data, Split
    from coursekit.data.text import Text, Translations, Vocabulary, dates, load_text, recall

__all__ = [
    "NAMES",
    "Data",
    "DataCard",
    "Split",
    "Text",
    "Translations",
    "Vocabulary",
    "card",
    "cards",
    "dates",
    "download",
    "is_available",
    "load",
    "load_text",
    "recall",
    "sequence_cards",
]

_NEEDS_TORCH = {"Data": "splits", "Split": "splits", "load": "sources"} | dict.fromkeys(
    ("Text", "Translations", "Vocabulary", "dates", "load_text", "recall"), "text"
)


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
