"""One process that may hang, crash or print without end, and is watched from outside. No torch here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from coursekit.grading.journal import steps

KEPT_OUTPUT = 256 * 1024  # bytes
MOST_OUTPUT = 16 * 2**20  # bytes; more ends the process
GRACE = 10.0  # seconds beyond those of a check, before the learner's code is taken for stuck
PATIENCE = 300.0  # seconds in which anything else must be done, such as importing torch or naming a mistake


@dataclass
class End:
    """How a process ended.

    Args:
        code: its exit code; negative for a signal.
        cause: `time` or `output` where we ended it; `itself` otherwise.
        output: the last of what it printed.
    """

    code: int = 0
    cause: Literal["itself", "time", "output"] = "itself"
    output: str = ""

    def __str__(self) -> str:
        if self.cause == "time":
            return "your code did not stop when its time was over, and was ended"
        if self.cause == "output":
            return f"your code printed more than {MOST_OUTPUT // 2**20} MiB, and was ended"
        if self.code < 0:
            names = {known.value: known.name for known in signal.Signals}
            return f"your code ended Python itself ({names.get(-self.code, f'signal {-self.code}')})"
        return f"your code ended Python itself (exit code {self.code}) instead of returning"


def run(command: Sequence[str], *, folder: Path, environment: Mapping[str, str], journal: Path, seconds: float) -> End:
    """Run a command to its end, whatever that is.

    Args:
        command: program and arguments.
        folder: to run in.
        environment: of the process.
        journal: in which the process notes its steps (see `journal.py`).
        seconds: that one check may take.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=dict(environment),
        start_new_session=True,
    )
    end = End()
    stream = cast(IO[bytes], process.stdout)
    reader = threading.Thread(target=_drain, args=(process, stream, end), daemon=True)
    started = time.time()
    reader.start()
    try:
        while process.poll() is None:
            if end.cause == "itself" and _stuck(journal, started, seconds):
                end.cause = "time"
                _kill(process)
            time.sleep(0.02)
    finally:
        _kill(process)  # and whatever it has left behind
        end.code = process.wait()
        reader.join(timeout=1.0)
        stream.close()
    return end


def _drain(process: subprocess.Popen[bytes], stream: IO[bytes], end: End) -> None:
    """Read all output, and keep the last of it."""
    kept, total = b"", 0
    with contextlib.suppress(OSError, ValueError):  # closed, though something that was left behind holds it open
        while chunk := os.read(stream.fileno(), 65536):
            kept, total = (kept + chunk)[-KEPT_OUTPUT:], total + len(chunk)
            end.output = kept.decode("utf-8", "replace")
            if total > MOST_OUTPUT and end.cause == "itself":
                end.cause = "output"
                _kill(process)


def _stuck(journal: Path, started: float, seconds: float) -> bool:
    waited = time.time() - (journal.stat().st_mtime if journal.exists() else started)
    if waited < seconds + GRACE:
        return False
    past = steps(journal)
    busy = bool(past) and past[-1]["step"] in ("load", "start")
    return busy or waited > PATIENCE


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and its group, which it leads."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except (ProcessLookupError, PermissionError):
        pass
