"""Progress on the terminal: one bar for each training, with rate and time left."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TextIO

from tqdm import tqdm


class Bar:
    """A bar that counts optimizer steps. Off a terminal it prints one line when the training ends.

    Args:
        label: what is trained.
        total: optimizer steps in all.
        done: steps that were taken before a resume.
        quiet: print nothing at all.
        stream: where to print; standard error by default, so that standard output stays clean.
    """

    def __init__(
        self, label: str, total: int, *, done: int = 0, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self.label = label
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.bar = tqdm(
            desc=f"{label:<32}",
            total=total,
            initial=done,
            unit=" steps",
            file=self.stream,
            leave=False,
            dynamic_ncols=True,
            mininterval=0.1,
            disable=quiet or not self.stream.isatty(),
        )

    def advance_to(self, step: int) -> None:
        """Move the bar to this many steps."""
        self.bar.update(step - self.bar.n)

    def note(self, text: str) -> None:
        """Show a few words behind the bar, such as the last validation accuracy."""
        if not self.bar.disable:
            self.bar.set_postfix_str(text, refresh=False)

    def finish(self, text: str) -> None:
        """Close the bar and leave one line that says how the training ended."""
        self.bar.close()
        if not self.quiet:
            print(f"{self.label:<32} {text}", file=self.stream, flush=True)

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
