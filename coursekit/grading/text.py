"""Words that came from elsewhere, made fit to be printed."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 1000  # characters of one labelled line


def printable(text: str, limit: int = 500) -> str:
    """Return text without control and direction characters, cut to a length."""
    cleaned = "".join(char if char.isprintable() or char == "\n" else "�" for char in text[: limit + 1])
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"


def labelled(lines: Iterable[tuple[str, str]]) -> str:
    """Return one line for each label and text; empty texts are left out."""
    return "\n".join(f"{label + ':':<10} {printable(text, _LONGEST)}" for label, text in lines if text)
