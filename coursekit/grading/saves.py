"""Every save of one file, as soon as it is whole, and what a save changed. Nothing here imports torch.

Editors write in different ways: in place, in pieces, to another file that then takes the name, twice in a row.
What counts is the content: a save that changes nothing is none.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from pathlib import Path

from coursekit.catalog import Lesson

_STEP = 0.03  # seconds in which a file must not change, to be whole
_PATIENCE = 0.2  # seconds that a file may be missing, empty or cut short while an editor writes
_LOOK = 0.4  # seconds between two looks at the file, for disks that report no changes


class Saves:
    """Waits for saves.

        for content in Saves(file):
            ...                       # None while the file is gone

    Args:
        file: to be watched; its content now is the first one.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last: bytes | None = b""
        self._seen: tuple[int, ...] | None = None
        self._owed = True

    def __iter__(self) -> Iterator[bytes | None]:
        """Yield the content now, and then after every save; this never ends by itself."""
        for _ in self._wakings():
            seen = self._stamp()
            if seen == self._seen and not self._owed:
                continue
            self._seen = seen
            content = self._whole()
            if content != self._last or self._owed:
                self._last, self._owed = content, False
                yield content

    def pending(self) -> bool:
        """Return whether the file was written again since the last content was yielded; then it is yielded again."""
        # Even when the content turns out to be the same: whoever asks has stopped working on it.
        self._owed = self._owed or self._stamp() != self._seen
        return self._owed

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino)

    def _wakings(self) -> Iterator[None]:
        """Yield at once, then whenever something may have happened to the file, and often enough in between."""
        yield None
        from watchfiles import watch

        name = self._file.name
        while True:
            try:
                changes = watch(
                    self._file.parent,
                    watch_filter=lambda _, path: Path(path).name == name,
                    debounce=100,
                    step=20,
                    rust_timeout=int(1000 * _LOOK),
                    yield_on_timeout=True,
                    raise_interrupt=True,
                    recursive=False,
                )
                yield from (None for _ in changes)
            except (OSError, RuntimeError):  # the folder is gone, or the system watches too many files already
                time.sleep(_LOOK)
                yield None

    def _whole(self) -> bytes | None:
        """Return the content once it stays as it is; None when the file is gone."""
        until = time.monotonic() + _PATIENCE
        content = self._read()
        while True:
            time.sleep(_STEP)
            again = self._read()
            same, content = again == content, again
            if (same and content and _is_python(content)) or time.monotonic() > until:
                self._seen = self._stamp()
                return content

    def _read(self) -> bytes | None:
        try:
            with self._file.open("rb") as file:
                return file.read(2**20)  # more is refused by the grader, and need not be compared
        except OSError:
            return None


def changed_exercises(lesson: Lesson, before: bytes | None, after: bytes | None) -> list[str]:
    """Return the ids of the exercises whose functions a save changed, in the lesson's order.

    None are named where it cannot be told: other code changed too, or one of the two is not Python.
    """
    old, new = _definitions(before), _definitions(after)
    if old is None or new is None:
        return []
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    known = {name: exercise.id for exercise in lesson.exercises for name in exercise.names}
    if not changed <= known.keys():
        return []
    touched = {known[name] for name in changed}
    return [exercise.id for exercise in lesson.exercises if exercise.id in touched]


def _definitions(content: bytes | None) -> dict[str, str] | None:
    """Return the code of each function and class, and of all else under the empty name."""
    try:
        body = ast.parse(content or b"").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found = {"": ""}
    for node in body:
        name = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else ""
        found[name] = found.get(name, "") + ast.dump(node)
    return found


def _is_python(content: bytes) -> bool:
    try:
        ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
