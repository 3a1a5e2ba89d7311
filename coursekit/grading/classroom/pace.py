"""How far a class is: a bar on a terminal, a line now and then elsewhere; with rate and time left. No torch here."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

_EVERY = 10.0  # seconds between two lines, where there is no terminal


class Pace:
    """Counts submissions.

    Args:
        total: submissions to grade in this run.
        before: submissions that an earlier run has graded.
        quiet: print nothing.
        stream: where to print; standard error by default.
    """

    def __init__(self, total: int, *, before: int = 0, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.total, self.done = total, 0
        self._stream = stream or sys.stderr
        self._quiet = quiet or total == 0
        self._started = time.monotonic()
        self._told = self._started
        self._warm = 0.0  # seconds to the first grade
        self._bar = None
        if not quiet and before:
            print(f"{before} graded before, and not again", file=self._stream, flush=True)
        if not self._quiet and self._stream.isatty():
            self._bar = _bar(self._stream)
            self._task = self._bar.add_task("starting", total=total, rate=0.0)
            self._bar.start()

    def step(self, name: str) -> None:
        """Count one more."""
        self.done += 1
        now = time.monotonic()
        if self.done == 1:
            self._warm = now - self._started
        if self._bar is not None:
            rate = self._rate(now - self._started)
            self._bar.update(self._task, completed=self.done, description=name[:30], rate=rate)
        elif not self._quiet and (now - self._told >= _EVERY or self.done == self.total):
            self._told = now
            print(self.line(now - self._started), file=self._stream, flush=True)

    def line(self, seconds: float) -> str:
        """Return what is done, the rate and the time left, after this many seconds."""
        rate = self._rate(seconds)
        left = f", {_clock((self.total - self.done) / rate)} left" if rate and self.done < self.total else ""
        return f"graded {self.done} of {self.total} in {_clock(seconds)}, {rate:.2f} a second{left}"

    def _rate(self, seconds: float) -> float:
        """Return submissions per second; the start, which happens once, does not count where more is known."""
        if self.done > 1 and seconds > self._warm:
            return (self.done - 1) / (seconds - self._warm)
        return self.done / seconds if seconds else 0.0

    def __enter__(self) -> Pace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar(stream: TextIO) -> Progress:
    # Imported only where there is a terminal to draw on.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = TextColumn("{task.fields[rate]:.2f}/s")
    columns = [TextColumn("{task.description:<30}", markup=False), BarColumn(), MofNCompleteColumn(), rate]
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=Console(file=stream))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
