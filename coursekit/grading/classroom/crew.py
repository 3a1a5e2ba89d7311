"""Grading on several processes of this machine: each is warm, and one that dies is replaced. No torch in this process.

A process is started anew (`spawn`), never forked from one that may have loaded torch. JSON goes through its pipe.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from coursekit import catalog
from coursekit.errors import CourseError, UserError
from coursekit.grading.classroom.desk import Desk, Job, Outcome, Setting

_GLANCE = 0.2  # seconds between two looks at whether everyone is still alive
_FAREWELL = 5.0  # seconds to end by itself
_TRIES = 2
_STILLBORN = 3  # in a row, before it is clear that none will ever start
_START = 300.0  # seconds to import torch on a busy machine
_SLACK = 300.0  # seconds that a submission may take beyond all limits of its exercises
_CHECKS_EACH = 20  # of an exercise, at most, for that purpose
_GONE: dict[str, Any] = {"gone": True}


class CrewError(CourseError):
    """No worker process could be started: a fault of ours, or of the installation."""


def grade(jobs: Iterable[Job], setting: Setting, *, workers: int) -> Iterator[Outcome]:
    """Grade submissions on worker processes, and yield each outcome as it comes.

    A worker that dies is replaced; its submission is tried once more, on a fresh worker.

    Args:
        jobs: the submissions.
        setting: of the class.
        workers: how many processes.

    Raises:
        UserError: the lesson or the isolation does not allow it.
        CrewError: no worker can be started.
    """
    crew = _Crew(jobs, setting)
    try:
        yield from crew.run(workers)
    finally:
        crew.end()


class _Crew:
    """The worker processes of one run, and what is left for them to do."""

    def __init__(self, jobs: Iterable[Job], setting: Setting) -> None:
        self._setting = setting
        self._waiting = deque(jobs)
        self._members: list[_Member] = []
        self._tries: Counter[str] = Counter()
        self._stillborn = 0
        exercises = catalog.lesson(setting.lesson).exercises
        self._patience = _SLACK + sum(one.seconds * _CHECKS_EACH for one in exercises)

    def run(self, workers: int) -> Iterator[Outcome]:
        """Yield the outcome of every job."""
        for _ in range(min(workers, len(self._waiting))):
            self._members.append(_Member(self._setting))
        while self._waiting or any(member.job for member in self._members):
            connection.wait([member.pipe for member in self._members], timeout=_GLANCE)
            for member in list(self._members):
                answer = member.answer(self._patience)
                outcome = self._hear(member, answer) if answer is not None else None
                if outcome is not None:
                    yield outcome

    def _hear(self, member: _Member, answer: dict[str, Any]) -> Outcome | None:
        outcome = None
        if "refused" in answer:
            _refuse(answer["refused"])
        if "level" in answer:
            member.ready, self._stillborn = True, 0
        elif "outcome" in answer:
            member.job, outcome = None, Outcome(**answer["outcome"])
        else:
            return self._replace(member, answer)
        if self._waiting:
            member.give(self._waiting.popleft())
        return outcome

    def _replace(self, member: _Member, answer: dict[str, Any]) -> Outcome | None:
        """Put a new process in the place of one that died or met a fault of ours; give its job a second chance."""
        ended = member.end()
        cause = answer.get("fault") or ended
        self._members.remove(member)
        self._stillborn += 0 if member.ready else 1
        if self._stillborn >= _STILLBORN:
            raise CrewError(f"no worker process can be started ({cause})")
        outcome = None
        if member.job:
            self._tries[member.job.key] += 1
            if self._tries[member.job.key] < _TRIES:
                self._waiting.appendleft(member.job)
            else:
                outcome = Outcome.gave_up(member.job.key, cause)
        if self._waiting:
            self._members.append(_Member(self._setting))
        return outcome

    def end(self) -> None:
        """End every process: all are told, and then waited for."""
        for member in self._members:
            member.dismiss()
        for member in self._members:
            member.end()


def _refuse(fields: list[str]) -> NoReturn:
    where, expected, got, fix = fields
    raise UserError(where, expected, got=got, fix=fix)


class _Member:
    """One worker process, seen from here."""

    def __init__(self, setting: Setting) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        root = str(catalog.root())
        # Not a daemon: daemons may have no processes of their own.
        self._process = context.Process(target=work, args=(theirs, setting, root), name="coursekit-class")
        self._process.start()
        theirs.close()
        self.ready = False
        self.job: Job | None = None
        self._since = time.monotonic()
        self._ended = ""

    def give(self, job: Job) -> None:
        """Hand over a submission."""
        self.job, self._since = job, time.monotonic()
        with suppress(OSError):  # it has died: that is seen at the next look
            self.pipe.send_bytes(json.dumps({"key": job.key, "name": job.name}).encode())
            self.pipe.send_bytes(job.raw)

    def answer(self, patience: float) -> dict[str, Any] | None:
        """Return what it says; None when it has nothing to say."""
        alive = self._process.is_alive()  # asked first: what it said before it died is still heard
        try:
            if self.pipe.poll():
                return json.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            return _GONE
        if not alive:
            return _GONE
        limit = _START if not self.ready else patience
        if (self.job or not self.ready) and time.monotonic() - self._since > limit:
            self._ended = f"it did not end within {limit:.0f} s"
            return _GONE
        return None

    def dismiss(self) -> None:
        """Tell it to end: by itself when it is idle, at once when it is not."""
        self.pipe.close()
        if self.job is not None or not self.ready:
            self._process.terminate()

    def end(self) -> str:
        """Make sure that it has ended, and all that it started in its session; return how it ended, in words."""
        if not self.pipe.closed:
            self.pipe.close()
        if self._ended:
            self._process.kill()
        self._process.join(_FAREWELL)
        code = self._process.exitcode
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid or 0, signal.SIGKILL)
        if code is None:
            self._process.kill()
            self._process.join()
        if code is not None and not self._ended:
            self._ended = f"its process was ended by signal {-code}" if code < 0 else f"its process ended with {code}"
        return self._ended


# ------------------------------------------------------------------------------ in the other process


def work(pipe: Connection, setting: Setting, root: str) -> None:
    """Grade what comes through a pipe until it is closed.

    Args:
        pipe: jobs in, outcomes out.
        setting: of the class.
        root: of the course.
    """
    _settle_in(root)
    try:
        with Desk(setting) as desk:
            _say(pipe, {"level": desk.level})
            while job := _next(pipe):
                _say(pipe, {"outcome": asdict(desk.grade(job))})
    except UserError as error:
        _say(pipe, {"refused": [error.where, error.expected, error.got, error.fix]})
    except Exception as error:
        traceback.print_exc()
        _say(pipe, {"fault": f"{type(error).__name__}: {error}"[:500]})


def _next(pipe: Connection) -> Job | None:
    """Return the next job; None when there will be none, or when nobody is left to ask."""
    try:
        head = json.loads(pipe.recv_bytes())
        return Job(head["key"], head["name"], pipe.recv_bytes())
    except (EOFError, OSError):
        return None


def _settle_in(root: str) -> None:
    """Leave the terminal to the process that reports, and end in order when told to."""
    os.environ["COURSEKIT_ROOT"] = root
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if hasattr(os, "setsid"):  # Ctrl-C is for the process that started us
        os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    streams = (0, 1) if os.environ.get("COURSEKIT_DEBUG") else (0, 1, 2)
    for stream in streams:
        os.dup2(nowhere, stream)


def _say(pipe: Connection, message: dict[str, Any]) -> None:
    with suppress(OSError):
        pipe.send_bytes(json.dumps(message).encode())
