"""How far the learner is: the last verdict of each exercise, kept beside the course."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from coursekit.files import make_folder, write_json

FOLDER = ".coursekit"


def read(root: Path) -> dict[str, str]:
    """Return the last verdict of each graded exercise, keyed `lesson/exercise`; empty when there is none."""
    try:
        tree = json.loads((root / FOLDER / "progress.json").read_text(encoding="utf-8"))
        verdicts = tree["verdicts"]
        return {key: value for key, value in verdicts.items() if isinstance(value, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def record(root: Path, lesson: str, verdicts: Mapping[str, str]) -> None:
    """Keep the verdicts of one grading.

    Raises:
        OutputError: the folder cannot be written to.
    """
    merged = read(root) | {f"{lesson}/{exercise}": verdict for exercise, verdict in verdicts.items()}
    write_json(make_folder(root / FOLDER) / "progress.json", {"verdicts": merged})
