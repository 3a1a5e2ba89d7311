"""`coursekit watch`: grade your exercises whenever you save them."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coursekit.catalog import Lesson
from coursekit.cli.grade import Confinement

if TYPE_CHECKING:
    from coursekit.grading.grader import Grader
    from coursekit.grading.saves import Saves
    from coursekit.grading.verdicts import ExerciseReport, LessonReport


def add_to(app: typer.Typer) -> None:
    """Add the verb to the program."""
    app.command("watch")(watch)


def watch(
    lesson: Annotated[str, typer.Argument(help="The lesson, such as optimization.")],
    exercise: Annotated[str | None, typer.Option("--exercise", "-e", help="Only this one, such as O3.")] = None,
    submission: Annotated[Path | None, typer.Option(help="The file to watch; the lesson's exercises.py.")] = None,
    seed: Annotated[int | None, typer.Option(help="Draw these inputs; the same ones are used for every save.")] = None,
    isolation: Annotated[Confinement, typer.Option(help="strict refuses where a file cannot be confined.")] = "auto",
) -> None:
    """Grade the file on every save, what you changed first, until Ctrl-C."""
    from coursekit import catalog

    entry = catalog.lesson(lesson)
    chosen = entry.exercises if exercise is None else (entry.exercise(exercise),)
    file = submission or entry.folder / "exercises.py"
    stopped_by = [0]
    try:
        with _stoppable(stopped_by):
            _watch(entry, [one.id for one in chosen], file, seed, isolation)
    except KeyboardInterrupt:
        print("\nstopped watching; your progress is kept")
    raise typer.Exit(128 + stopped_by[0] if stopped_by[0] else 0)


def _watch(entry: Lesson, chosen: list[str], file: Path, seed: int | None, isolation: Confinement) -> None:
    import secrets

    from coursekit.grading.submission import read_source

    read_source(file)  # what cannot be read at all is told at once, before PyTorch is imported
    from coursekit.grading.grader import Grader
    from coursekit.grading.saves import Saves, changed_exercises

    # One seed for every save: what failed before is asked again with the same numbers.
    with Grader(entry, isolation=isolation, seed=secrets.randbits(32) if seed is None else seed) as grader:
        view = _View(entry, file, chosen)
        saves = Saves(file)
        before: bytes | None = None
        for content in saves:
            if content is None:
                view.say(f"{file} is gone; waiting until it is back")
                continue
            first = changed_exercises(entry, before, content) if before is not None else []
            before = content
            _round(grader, view, saves, [one for one in first if one in chosen])


def _round(grader: Grader, view: _View, saves: Saves, first: list[str]) -> None:
    """Grade what was changed, show it, and then grade the rest; a newer save ends the round."""
    from coursekit.errors import SubmissionError

    view.begin(first)
    try:
        for exercise in [*first, *(one for one in view.chosen if one not in first)]:
            view.take(grader.grade(view.file, only={exercise}))
            if saves.pending():
                break
    except SubmissionError as error:
        view.say(f"coursekit: {error}")
        return
    view.finish()


class _View:
    """What the learner sees, and what they saw before.

    Args:
        entry: the lesson.
        file: that is watched.
        chosen: ids of the exercises to grade.
    """

    def __init__(self, entry: Lesson, file: Path, chosen: list[str]) -> None:
        self.file = file
        self.chosen = chosen
        self._entry = entry
        self._own = file.resolve() == (entry.folder / "exercises.py").resolve()
        self._parts: dict[str, ExerciseReport] = {}  # the last of each exercise
        self._fresh: dict[str, LessonReport] = {}  # of this round, with one exercise each
        self._first: list[str] = []
        self._news: list[str] = ["first look"]
        self._started = 0.0

    def begin(self, first: list[str]) -> None:
        """Begin a round, in which these exercises come first."""
        self._first, self._fresh, self._started = first, {}, time.perf_counter()
        self._clear()
        self.say(f"grading {self.file}")

    def take(self, report: LessonReport) -> None:
        """Take the verdict of one exercise, and print it at once when it is one that was changed."""
        (part,) = report.exercises
        name, old = f"{self._entry.exercise(part.id).code} {part.id}", self._parts.get(part.id)
        self._parts[part.id], self._fresh[part.id] = part, report
        if old and (old.verdict, old.points) != (part.verdict, part.points):
            self._news.append(f"{name}: {old.verdict} -> {part.verdict} ({part.points - old.points:+g} points)")
        if part.id in self._first:
            seconds = time.perf_counter() - self._started
            print(f"{name}: {part.verdict}, {part.points:g}/{part.max_points:g} ({seconds:.1f} s)", flush=True)

    def finish(self) -> None:
        """Show the table, what has changed, and what to mend first."""
        from coursekit.grading import reporting

        last = list(self._fresh.values())[-1]
        self._record(last.sha256)
        whole = replace(last, exercises=tuple(self._parts[one] for one in self.chosen if one in self._parts))
        self._clear()
        self.say(reporting.heading(whole))
        for line, colour in reporting.table(self._entry, whole):
            typer.secho(f"  {line}", fg=colour)
        for line in reporting.details(self._entry, replace(whole, exercises=self._to_mend(whole.exercises))):
            print(line)
        print(f"\nsince the last save: {'; '.join(self._news) or 'no verdict changed'}")
        print(f"score {whole.score:g} of {whole.max_score:g}; seed {whole.seed}. Save to grade again, Ctrl-C to stop.")
        sys.stdout.flush()
        self._news = []

    def say(self, message: str) -> None:
        """Print a line with the time of day."""
        print(f"{datetime.now():%H:%M:%S} {message}", flush=True)

    def _to_mend(self, parts: tuple[ExerciseReport, ...]) -> tuple[ExerciseReport, ...]:
        """Return the exercise to be told of in full: one that was changed, or the first; and what is unwritten."""
        failing = [part for part in parts if not part.passed and part.verdict not in ("not attempted", "skipped")]
        failing.sort(key=lambda part: part.id not in self._first)
        return (*failing[:1], *(part for part in parts if part.verdict == "not attempted"))

    def _record(self, sha256: str) -> None:
        from coursekit import catalog, progress
        from coursekit.errors import OutputError

        parts = [self._parts[one] for one in self._fresh]
        verdicts, points = {part.id: part.verdict for part in parts}, {part.id: part.points for part in parts}
        try:
            if self._own:
                progress.record(catalog.root(), self._entry.id, verdicts, points=points, sha256=sha256)
        except OutputError as error:
            self._own = False  # told once is enough
            print(f"coursekit: your progress is not kept: {error}", file=sys.stderr)

    def _clear(self) -> None:
        if sys.stdout.isatty():
            print("\x1b[2J\x1b[3J\x1b[H", end="")


@contextmanager
def _stoppable(stopped_by: list[int]) -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that the warm process is ended too."""

    def stop(number: int, frame: object) -> None:
        stopped_by[0] = number
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
