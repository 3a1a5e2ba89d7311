"""The levels of isolation, in words. No torch here."""

from __future__ import annotations

from typing import Literal, get_args

Level = Literal["full", "no-landlock", "no-namespaces", "process-only", "in-process"]
LEVELS: tuple[Level, ...] = get_args(Level)  # from the strongest to the weakest
# Below these, a submission can read what lies on the disk, and disturb other processes.
CONFINED: tuple[Level, ...] = ("full", "no-landlock", "no-namespaces")

SAYS: dict[Level, str] = {
    "full": "namespaces, private root, own user, limits, Landlock, seccomp",
    "no-landlock": "namespaces, private root, own user, limits, seccomp (this kernel has no Landlock)",
    "no-namespaces": "limits, Landlock, seccomp (this system allows no namespaces): no DataLoader workers",
    "process-only": "a process of its own and limits: grade only code that you trust",
    "in-process": "none, beside the checks: grade only code that you trust",
}


def line(level: Level) -> str:
    """Return the line of a report that says how submissions were confined."""
    return f"isolation: {level} ({SAYS[level]})"
