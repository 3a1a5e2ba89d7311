"""The program `coursekit`: its verbs, and what becomes of errors."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from coursekit import __version__
from coursekit.cli import (
    classes,
    doctor,
    download,
    explain,
    grade,
    hint,
    listing,
    new,
    release,
    reset,
    run,
    stubs,
    verify,
    watch,
)
from coursekit.errors import StoppedError, UserError

OUR_ERROR = 3
# As the shell counts a program that wrote to a pipe which nobody reads: 128 + SIGPIPE.
READER_GONE = 141


class Verbs(TyperGroup):
    """The verbs, with a word on Ctrl-C; a closed pipe must not end as typer has it, with 1 for "did not pass"."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the command line."""
        with _ending():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb that the command line names."""
        with _ending():
            return super().invoke(ctx)


@contextmanager
def _ending() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print("\ncoursekit: stopped; what was finished is kept", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGINT) from None
    except BrokenPipeError:
        raise typer.Exit(READER_GONE) from None


app = typer.Typer(
    name="coursekit",
    cls=Verbs,
    help="Lessons you run, exercises you solve, graders that prove themselves.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def options(version: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    """Lessons you run, exercises you solve, graders that prove themselves."""
    if version:
        print(f"coursekit {__version__}")
        raise typer.Exit


for _verb in (listing, run, hint, grade, watch, explain, reset, verify, new, stubs, classes, release, doctor, download):
    _verb.add_to(app)


def main() -> None:
    """Run the program and exit: 0 done, 1 something did not pass, 2 wrong use or bad input, 3 our error.

    A program that a signal stopped ends as in a shell, with 128 and the signal's number.
    """
    # Read by OpenMP when torch is imported: tiny work waits for a second thread longer than it computes. `fit`
    # raises the number again where a network is large enough.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # terminals that cannot show a minus sign or an é
    try:
        app(prog_name="coursekit")
    except UserError as error:
        print(f"coursekit: {error}", file=sys.stderr)
        sys.exit(2)
    except StoppedError as error:
        print(f"\ncoursekit: {error}", file=sys.stderr)
        sys.exit(128 + error.signal_number)
    except Exception as error:
        if os.environ.get("COURSEKIT_DEBUG"):
            traceback.print_exc()
        print(
            f"coursekit: this is a fault of coursekit itself, not yours ({type(error).__name__}: {error}). "
            "Fix: repeat the command with COURSEKIT_DEBUG=1 set, and report what it prints.",
            file=sys.stderr,
        )
        sys.exit(OUR_ERROR)
    finally:
        _flush()
        # A light verb would spend a fifth of its time on a last collection of what the exit frees anyway.
        gc.freeze()


def _flush() -> None:
    """Write out what was printed; a reader that went away, as in `coursekit list | head -1`, is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
