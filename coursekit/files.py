"""Writing files so that a crash, a full disk or a second reader never meets half of one."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from coursekit.errors import OutputError

_FIXES = {
    errno.ENOSPC: "free some disk space, then repeat the command; nothing written before is lost",
    errno.EDQUOT: "free some of your disk quota, then repeat the command; nothing written before is lost",
    errno.EROFS: "choose a folder on a writable disk",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.ENOENT: "create its folder first, or choose a folder that exists",
    errno.ENOTDIR: "choose a path whose parents are folders",
    errno.EEXIST: "choose a path that is not taken by a file",
    errno.EISDIR: "choose a path that is not taken by a folder",
    errno.ENAMETOOLONG: "choose a shorter path",
}


def make_folder(path: Path) -> Path:
    """Create a folder and its parents, and make sure that files can be written in it.

    Raises:
        OutputError: it cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor, probe = tempfile.mkstemp(dir=path, prefix=".probe-")
        os.close(descriptor)
        os.unlink(probe)
    except (OSError, ValueError) as error:
        raise output_error(path, error) from None
    return path


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write a whole file or nothing: a temporary file in the same folder, flushed to disk, then renamed.

    Args:
        path: where the file shall stand; an older one is replaced.
        content: text (written as UTF-8) or bytes.

    Raises:
        OutputError: the folder cannot be written to or the disk is full; the older file is unharmed.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_UMASK)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        raise output_error(path, error) from None
    finally:  # also after Ctrl-C; once renamed, it is no longer there
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write strict JSON (no NaN, no infinity) atomically.

    Raises:
        OutputError: as `write_atomically`.
    """
    return write_atomically(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def output_error(path: Path, error: OSError | ValueError) -> OutputError:
    """Turn an operating system's refusal into an error that names the mend."""
    number = error.errno if isinstance(error, OSError) else None
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    fix = _FIXES.get(number or 0, "choose another place")
    return OutputError(str(path), "a place that can be written to", got=reason.lower(), fix=fix)


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()
