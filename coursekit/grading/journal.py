"""A grading's journal: one JSON line for every step, written at once, so that it outlives a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Journal:
    """Writes steps to a file, or nowhere.

    Args:
        path: the file; None writes nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def write(self, step: str, **details: Any) -> None:
        """Append one step."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **details}) + "\n")


def steps(path: Path) -> list[dict[str, Any]]:
    """Return the steps written so far; a line that was cut short by a crash is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found
