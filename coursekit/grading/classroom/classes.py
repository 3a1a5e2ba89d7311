"""Grading a folder of submissions: each once, on many processes, stopped and taken up again. No torch here."""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from coursekit import catalog
from coursekit.catalog import Lesson
from coursekit.errors import OutputError, StoppedError, SubmissionError
from coursekit.files import make_folder, write_atomically, write_json
from coursekit.grading.authoring.stubs import exercise_names, stub_source
from coursekit.grading.classroom import crew, exports, gradebook, similarity, summary
from coursekit.grading.classroom.desk import Job, Outcome, Setting, checks_digest
from coursekit.grading.classroom.gradebook import Record
from coursekit.grading.classroom.pace import Pace
from coursekit.grading.classroom.roster import RUN_FILE, Entry, Roster, read_folder

_LOCK = ".lock"
_FILES = ("results.json", "junit.xml", "feedback.html")
Runner = Callable[[Sequence[Job], Setting], Iterator[Outcome]]


@dataclass(frozen=True)
class ClassResult:
    """What became of a class.

    Args:
        records: one for each submission, in the order of the gradebook.
        summary: the JSON of summary.json.
        gradebook: the file that was written.
    """

    records: tuple[Record, ...]
    summary: Mapping[str, Any]
    gradebook: Path

    @property
    def exit_code(self) -> int:
        """0 when every submission was graded, whatever the grades; 3 after a fault of ours; 1 when some were not."""
        if any(not record.settled and (record.ours or not record.problem) for record in self.records):
            return 3
        return 1 if any(record.problem for record in self.records) else 0


@dataclass(frozen=True)
class Options:
    """How a class is graded.

    Args:
        workers: processes on this machine; None takes one for each core.
        scheduler: address of a dask.distributed scheduler, `tcp://host:port`; None grades on this machine.
        seed: of the inputs; None keeps that of the folder's earlier run, or draws one that nobody can foresee.
        fresh: grade everything again, with a fresh seed.
        isolation: `auto` confines as well as the machines can, `strict` demands all layers.
        trusted: grade with less confinement than strangers' code needs.
        quiet: no progress.
    """

    workers: int | None = None
    scheduler: str | None = None
    seed: int | None = None
    fresh: bool = False
    isolation: Literal["auto", "strict"] = "auto"
    trusted: bool = False
    quiet: bool = False


def grade_class(folder: Path, lesson: Lesson, out: Path, options: Options | None = None) -> ClassResult:
    """Grade a folder of submissions, and write gradebook.csv, summary.json, summary.html and a folder for each.

    What an earlier run in the same `out` has graded is not graded again, unless the submission, the lesson or the
    seed is another.

    Args:
        folder: of submissions, see `roster.read_folder`.
        lesson: from the catalogue.
        out: folder of the results.
        options: how.

    Raises:
        SubmissionError: there is nothing to grade.
        OutputError: the results cannot be written, or `out` belongs to something else.
        UserError: the isolation is too weak, or the cluster is not there.
        StoppedError: Ctrl-C or SIGTERM; what was graded is kept.
    """
    options = options or Options()
    started = time.monotonic()
    _check_place(folder, out)
    others = [other for other in catalog.lessons() if other.id != lesson.id]
    roster = read_folder(folder, lesson, skip=[out], others=others)
    make_folder(out)
    with _alone(out), _stoppable():
        gradebook.check_writable(out / gradebook.FILE)
        setting = _setting(lesson, out, options)
        records = _graded(roster, lesson, out, setting, options)
        # What is the same for the whole class is judged on what all have written.
        pairs, left_out = _compare(roster, lesson)
        records = _flag_pairs(records, pairs)
        result = summary.summarize(records, lesson, pairs, not_compared=left_out, left_out=roster.left_out)
        result["seconds"] = round(time.monotonic() - started, 1)
        write_json(out / "summary.json", result)
        write_atomically(out / "summary.html", exports.page("summary.html.jinja", lesson=lesson, summary=result))
        text = gradebook.gradebook(records, lesson)
        return ClassResult(tuple(records), result, gradebook.write_gradebook(out / gradebook.FILE, text))


def _graded(roster: Roster, lesson: Lesson, out: Path, setting: Setting, options: Options) -> list[Record]:
    """Return the record of every entry, in their order; each is on disk as soon as it is there."""
    entries = {entry.key: entry for entry in roster.entries}
    records: dict[str, Record] = {}

    def keep(record: Record) -> None:
        records[record.key] = record
        known = {"student": record.student, "file": record.file, "flags": list(record.flags), **_marks(setting)}
        exports.write_results(out / record.key, record, lesson, known)

    todo = []
    for entry in roster.entries:
        if entry.code is None:
            keep(Record.of(entry, problem=entry.problem))
        elif earlier := _earlier(out / entry.key, entry, setting):
            records[entry.key] = earlier
        else:
            todo.append(Job(entry.key, Path(entry.file).name, entry.raw))
    before = sum(record.status == "graded" for record in records.values())
    with Pace(len(todo), before=before, quiet=options.quiet) as pace:
        for outcome in _runner(options)(todo, setting) if todo else ():
            entry = entries[outcome.key]
            if outcome.report:
                outcome.report["submission"]["path"] = entry.file
            keep(Record.of(entry, outcome.report, outcome.problem, outcome.ours))
            pace.step(entry.student)
    return [records[entry.key] for entry in roster.entries]


def _runner(options: Options) -> Runner:
    if options.scheduler is not None:
        from coursekit.grading.classroom import cluster

        address = options.scheduler
        return lambda jobs, setting: cluster.grade(jobs, setting, address=address)
    workers = options.workers or _cores()
    return lambda jobs, setting: crew.grade(jobs, setting, workers=workers)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---------------------------------------------------------------------------------- an earlier run


def _marks(setting: Setting) -> dict[str, Any]:
    return {"checks": setting.checks, "seed": setting.seed}


def _earlier(folder: Path, entry: Entry, setting: Setting) -> Record | None:
    """Return what an earlier run found for the same bytes, graded in the same way; None when it must be graded."""
    try:
        report = json.loads((folder / gradebook.REPORT).read_text(encoding="utf-8"))
        known = report.pop("class")
        record = Record.of(entry, report)
        same = {name: known[name] for name in ("file", *_marks(setting))} == {"file": entry.file, **_marks(setting)}
        same = same and entry.code is not None and record.sha256 == entry.code.sha256
        whole = record.settled and all((folder / name).is_file() for name in _FILES)
        return record if same and whole and report["isolation"] in setting.levels else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _setting(lesson: Lesson, out: Path, options: Options) -> Setting:
    """Take up the seed of an earlier run, or draw one; it is a secret, and kept beside the results."""
    file = out / RUN_FILE
    seed = options.seed
    if file.is_file():
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
            theirs, before = str(known["lesson"]), int(known["seed"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            fix = "choose another --out, or delete this file to grade everything again"
            raise OutputError(str(file), "the notes of an earlier run", got="something else", fix=fix) from None
        if theirs != lesson.id:
            fix = "choose a folder of its own for each lesson"
            raise OutputError(str(out), f"results of lesson {lesson.id}", got=f"those of {theirs}", fix=fix)
        seed = before if seed is None and not options.fresh else seed
    seed = secrets.randbits(32) if seed is None else seed
    checks = checks_digest(lesson)
    write_json(file, {"lesson": lesson.id, "seed": seed, "checks": checks})
    with suppress(OSError):
        file.chmod(0o600)
    if options.fresh:
        for report in out.glob(f"*/{gradebook.REPORT}"):
            report.unlink(missing_ok=True)
    return Setting(lesson.id, checks, seed, options.isolation, options.trusted)


# ------------------------------------------------------------------------------- the whole class


def _compare(roster: Roster, lesson: Lesson) -> tuple[list[similarity.Pair], list[str]]:
    """Return the near-identical pairs, and the keys of what could not be compared."""
    stub = similarity.every_gram(_stub(lesson))
    read = {entry.key: entry.code for entry in roster.entries if entry.code is not None}
    made = {key: similarity.fingerprints(code.text, code.sha256, stub=stub) for key, code in read.items()}
    files = {key: prints for key, prints in made.items() if prints is not None}
    return similarity.pairs(files), [key for key in made if key not in files]


def _stub(lesson: Lesson) -> str:
    """Return the text that everyone was given."""
    solution, kept = lesson.folder / "solution.py", lesson.folder / "exercises.stub.py"
    if solution.is_file():
        return stub_source(solution.read_text(encoding="utf-8"), exercise_names(lesson))
    return kept.read_text(encoding="utf-8") if kept.is_file() else ""


def _flag_pairs(records: Sequence[Record], pairs: Iterable[similarity.Pair]) -> list[Record]:
    names = gradebook.names(records)
    found: dict[str, list[str]] = {}
    for pair in pairs:
        word = "identical to" if pair.identical else f"{pair.share:.0%} the same as"
        for mine, other in ((pair.first, pair.second), (pair.second, pair.first)):
            found.setdefault(mine, []).append(f"{word} {names[other]}")
    return [record.flagged(*found.get(record.key, ())) for record in records]


# ------------------------------------------------------------------------------------ the folder


def _check_place(folder: Path, out: Path) -> None:
    """Keep results and submissions apart: one must never be taken for the other."""
    if not folder.exists() and not folder.is_symlink():
        raise SubmissionError(str(folder), "a folder of submissions", got="nothing there", fix="mend the path")
    with suppress(OSError):
        inside = folder.resolve().is_relative_to(out.resolve())
        if inside:
            fix = "give --out a folder of its own, such as results"
            raise OutputError(str(out), "a folder for the results alone", got="one that holds the submissions", fix=fix)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold a folder of results for one run; the system lets go of it, however the run ends."""
    try:
        import fcntl
    except ImportError:  # on Windows two runs at once are not kept apart
        yield
        return
    with (out / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fix = "wait for it, or choose another --out"
            raise OutputError(str(out), "a folder that no other run is writing to", got="one in use", fix=fix) from None
        except OSError:  # a disk without locks
            pass
        yield


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into StoppedError, so that workers are ended in order; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise StoppedError(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
