"""Who descends from a process. No torch here."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def descendants(process: int) -> list[int]:
    """Return the ids of all processes that come from one; none where there is no /proc."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                stat = Path("/proc", name, "stat").read_text()
                state, parent = stat.rpartition(")")[2].split()[:2]
                if state != "Z" or int(parent) == process:
                    parents[int(name)] = int(parent)
    found: list[int] = []
    level = [process]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return found
