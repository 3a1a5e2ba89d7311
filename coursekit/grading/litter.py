"""Folders in which somebody else has made what they liked: how much lies there, and how to be rid of it.

Neither recursion nor paths grow with what they have made: folders may be nested deeper than both can bear.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import stat
from collections.abc import Iterator

_LEAST = 4096  # bytes that even an empty file or folder counts


def larger(folder: str, most: int) -> bool:
    """Return whether the files below a folder take more than so many bytes; look no further then.

    What is nested too deeply to be read counts as too much; what vanishes meanwhile counts as nothing.
    """
    left, rest = most, [folder]
    while rest:
        try:
            with os.scandir(rest.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        seen = entry.stat(follow_symlinks=False)
                        left -= max(getattr(seen, "st_blocks", 0) * 512, _LEAST)
                        if entry.is_dir(follow_symlinks=False):
                            rest.append(entry.path)
                    if left < 0:
                        return True
        except (FileNotFoundError, PermissionError):
            continue
        except OSError:
            return True
    return False


def remove(folder: str) -> None:
    """Remove a folder with all that lies in it, as far as that can be done; symbolic links are not followed."""
    # Names that nobody could foresee, and put there before.
    names = (f".{secrets.token_hex(8)}" for _ in itertools.count())
    with contextlib.suppress(OSError):
        for _ in iter(lambda: _flatten(folder, names), False):
            pass
        os.rmdir(folder)


def _flatten(folder: str, free: Iterator[str]) -> bool:
    """Delete a folder's files, and bring what lies two floors below it up by one; return whether folders are left."""
    names = os.listdir(folder)
    for name in names:
        path = os.path.join(folder, name)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            continue
        _unlock(path)
        for inner in os.listdir(path):
            deep = os.path.join(path, inner)
            if stat.S_ISDIR(os.lstat(deep).st_mode):
                _unlock(deep)  # a folder that moves must be writable itself
                os.rename(deep, os.path.join(folder, next(free)))
            else:
                os.unlink(deep)
        os.rmdir(path)
    return bool(names)


def _unlock(path: str) -> None:
    """Give the owner all rights to a folder, should its maker have taken them away."""
    opened = os.open(path, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # The descriptor's own name: where a link has taken the folder's place, the link's target is left alone.
        os.chmod(f"/proc/self/fd/{opened}" if hasattr(os, "O_PATH") else opened, 0o700)
    finally:
        os.close(opened)
