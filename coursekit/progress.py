"""How far the learner is: the last and the best verdict of each exercise, kept beside the course.

    .coursekit/progress.json          the record; it is written whole or not at all
    .coursekit/progress.lock          held while it is read, merged and written, so that two terminals lose nothing
    .coursekit/progress.json.broken   what could not be read, set aside

An entry is kept for ever: also that of an exercise which an update of the lessons has removed or renamed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coursekit.files import make_folder, write_json

FOLDER = ".coursekit"
PATIENCE = 2.0  # seconds to wait for another process
_FILE = "progress.json"
_BEST_FIRST = ("pass", "pass with note")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Standing:
    """How far the learner is with one exercise.

    Args:
        verdict: the last.
        best: the best so far.
        points: earned with the last verdict; None where it is not known.
        sha256: of the file that was graded last; empty where it is not known.
        time: of the last grading, in UTC, as ISO 8601; empty where it is not known.
    """

    verdict: str
    best: str
    points: float | None = None
    sha256: str = ""
    time: str = ""

    @property
    def passed(self) -> bool:
        """Whether it passed at least once."""
        return self.best in _BEST_FIRST


def read(root: Path) -> dict[str, str]:
    """Return the last verdict of each graded exercise, keyed `lesson/exercise`; empty when there is none."""
    return {key: standing.verdict for key, standing in standings(root).items()}


def standings(root: Path) -> dict[str, Standing]:
    """Return the standing of each graded exercise, keyed `lesson/exercise`; empty when there is none."""
    return _understood(_tree(root / FOLDER / _FILE) or {})


def is_damaged(root: Path) -> bool:
    """Return whether there is a record that cannot be read."""
    file = root / FOLDER / _FILE
    return file.exists() and _tree(file) is None


def record(
    root: Path,
    lesson: str,
    verdicts: Mapping[str, str],
    *,
    points: Mapping[str, float] | None = None,
    sha256: str = "",
    tell: Tell | None = None,
) -> None:
    """Keep the verdicts of one grading.

    Args:
        root: the folder that holds `lessons`.
        lesson: its id.
        verdicts: by id of the exercise.
        points: earned, by id of the exercise.
        sha256: of the graded file.
        tell: told when the record was damaged or is locked for long; None writes to the standard error.

    Raises:
        OutputError: the folder cannot be written to.
    """
    file = make_folder(root / FOLDER) / _FILE
    tell = tell or _print
    with _locked(file.with_suffix(".lock"), tell):
        tree = _tree(file)
        if tree is None:
            tree = {}
            _set_aside(file, tell)
        before = _understood(tree)
        entries = tree["exercises"] = {**tree.get("exercises", {}), **{key: asdict(one) for key, one in before.items()}}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for exercise, verdict in verdicts.items():
            key = f"{lesson}/{exercise}"
            best = _better(verdict, before[key].best) if key in before else verdict
            earned = None if points is None else points.get(exercise)
            entries[key] = asdict(Standing(verdict, best, earned, sha256, now))
        tree.pop("verdicts", None)  # as version 0.1 had them
        write_json(file, tree)


def _tree(file: Path) -> dict[str, Any] | None:
    """Return the record as it is written, empty where there is none yet; None when it cannot be read."""
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(tree, dict) and any(isinstance(tree.get(name), dict) for name in ("exercises", "verdicts"))
    return tree if known and isinstance(tree.get("exercises", {}), dict) else None


def _understood(tree: Mapping[str, Any]) -> dict[str, Standing]:
    """Return the entries that are as they should be; the others stay in the file, and are not shown."""
    old, new = tree.get("verdicts"), tree.get("exercises")
    found = {}
    for key, verdict in (old if isinstance(old, dict) else {}).items():
        if isinstance(verdict, str):
            found[key] = Standing(verdict, verdict)
    for key, entry in (new if isinstance(new, dict) else {}).items():
        if isinstance(entry, dict) and isinstance(entry.get("verdict"), str):
            found[key] = _standing(entry)
    return found


def _standing(entry: Mapping[str, Any]) -> Standing:
    best, points, sha256, when = (entry.get(name) for name in ("best", "points", "sha256", "time"))
    return Standing(
        entry["verdict"],
        best if isinstance(best, str) else entry["verdict"],
        float(points) if isinstance(points, int | float) and not isinstance(points, bool) else None,
        sha256 if isinstance(sha256, str) else "",
        when if isinstance(when, str) else "",
    )


def _better(first: str, second: str) -> str:
    ranks = {verdict: place for place, verdict in enumerate(_BEST_FIRST)}
    return min(first, second, key=lambda verdict: ranks.get(verdict, len(ranks)))


def _set_aside(file: Path, tell: Tell) -> None:
    names = (f"{file.name}.broken{number}" for number in ("", *(f"-{n}" for n in range(2, 1000))))
    aside = next((file.with_name(name) for name in names if not file.with_name(name).exists()), None)
    if aside is None:
        return
    with suppress(OSError):
        file.replace(aside)
        tell(f"{file} could not be read; it is kept as {aside.name}, and a new one is begun")


def _print(message: str) -> None:
    print(f"coursekit: {message}", file=sys.stderr)


# ---------------------------------------------------------------------------------------- lock


@contextmanager
def _locked(file: Path, tell: Tell) -> Iterator[None]:
    """Hold the lock, or, when it is not to be had in time, go on without it and say so."""
    descriptor = None
    try:
        descriptor = _open(file)
        held = _acquire(descriptor)
        reason = "" if held else f"another program has held it for {PATIENCE:g} s"
    except OSError as error:
        reason = str(error.strerror or error).lower()
    if reason:
        tell(f"{file} cannot be locked ({reason}); your progress is written without it")
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)  # which releases the lock; so does the end of the process


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except PermissionError:
        return os.open(file, os.O_RDONLY)  # someone else's file can be locked all the same


def _acquire(descriptor: int) -> bool:
    until = time.monotonic() + PATIENCE
    while not _try_to_lock(descriptor):
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


if sys.platform == "win32":
    import msvcrt

    def _try_to_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_to_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
