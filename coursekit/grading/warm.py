"""The judge's side of a worker: one warm process for each lesson, one locked-down worker for each exercise.

    Warm ──starts──► warm process ──forks──► supervisor ──forks──► worker
     └─ Session ◄────────── frames (see `wire.py`), output, exit code ───────────┘

The judge never imports a submission: `session.py` is its connection to a worker, and `confined.py` the bench there.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import coursekit
from coursekit.catalog import Exercise, Lesson
from coursekit.errors import IsolationError
from coursekit.grading.confined import Confined
from coursekit.grading.guard import Tripwires
from coursekit.grading.isolation import Level
from coursekit.grading.session import MEND, START, Session
from coursekit.grading.submission import Source
from coursekit.grading.text import printable
from coursekit.grading.worker.confine import Limits

_TRIAL = Source(Path("trial.py"), "", "import torch\nx = torch.ones(64, 64) @ torch.ones(64, 64)\n")


class Warm:
    """A process with PyTorch and a lesson's probes imported, which forks workers. It is waited for late.

    Args:
        lesson: whose probes are imported; None imports no PyTorch either, to try the layers alone.
        imports: modules that take long to import, and that the learner's code may need.
        level: of isolation; None finds the best that this machine offers.
        limits: of each worker.
    """

    def __init__(
        self,
        lesson: Lesson | None,
        imports: Sequence[str] = (),
        *,
        level: Level | None = None,
        limits: Limits | None = None,
    ) -> None:
        if os.name != "posix":
            raise IsolationError("isolation", "a system that can fork", got=sys.platform, fix="use Linux, or WSL")
        self._lesson = lesson
        self._imports = imports
        self._limits = limits or Limits()
        self._wanted: Level | None = level
        self._level: Level | None = None
        self.refused: dict[Level, str] = {}  # why a level could not be had
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._spare: Session | None = None
        self._ending: list[Session] = []
        self._start()

    @property
    def level(self) -> Level:
        """The level of isolation at which workers run: the best that a worker could be started with.

        Raises:
            IsolationError: not even the weakest can be had.
        """
        if self._level is None:
            self._level = self._tried()
        return self._level

    def session(self) -> Session:
        """Return a worker that has read nothing yet.

        Raises:
            IsolationError: none can be started.
        """
        level = self.level
        session, self._spare = self._spare, None
        if session is not None and not session.alive():  # the warm process was ended, or the machine had no memory
            session.close()
            session = None
        session = session or self._fork(level)
        with contextlib.suppress(OSError, IsolationError):  # it shows when the spare is needed
            self._spare = self._fork(level)  # locks itself down while this one works
        return session

    def close(self) -> None:
        """End the warm process and all that comes from it, and wait for it."""
        self._spare = None
        for session in self._ending:
            session.close()
        self._clear(wait=5.0)
        if self._process is not None:
            self._socket.close()
            if self._process.stderr is not None:
                self._process.stderr.close()
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _start(self) -> None:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET if sys.platform == "linux" else 0)
        top = str(Path(coursekit.__file__).parent.parent)
        program = f"import sys; sys.path.append({top!r}); from coursekit.grading.worker.__main__ import main; main()"
        words = [str(theirs.fileno())]
        if self._lesson is None:
            words.append("--bare")
        else:
            words += ["--forbids", json.dumps([exercise.forbids for exercise in self._lesson.exercises])]
            if (self._lesson.folder / "probes.py").is_file():
                words += ["--probes", str(self._lesson.folder / "probes.py")]
        # A process of macOS that has imported PyTorch must not fork.
        words += ["--late"] * (sys.platform != "linux") + [f"--import={name}" for name in self._imports]
        # -I: nothing of the user's environment or folder; -P would not keep PYTHONPATH out.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
        theirs.close()
        self._socket = mine
        self._ready = False

    def _wait_until_ready(self) -> None:
        if self._ready:
            return
        self._socket.settimeout(START)
        try:
            said = self._socket.recv(1 << 16)
        except OSError:
            said = b""
        if not said:
            raise IsolationError("the warm process", "a start", got=self._last_words(), fix="run `coursekit doctor`")
        self._ready = True

    def _last_words(self) -> str:
        process = self._process
        if process is None or process.stderr is None:
            return "nothing"
        process.kill()
        lines = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        return printable(lines[-1]) if lines else "no answer"

    def _fork(self, level: Level) -> Session:
        self._clear(wait=0.0)
        for _ in range(2):
            self._wait_until_ready()
            session = Session(level, hidden=self._hidden())
            try:
                session.hand_over(self._socket, self._limits)
            except OSError:  # the warm process is gone
                session.close()
                session.gone(1.0)  # nobody has it: what it holds is let go
                self._restart()
                continue
            self._ending.append(session)
            return session
        raise IsolationError("the warm process", "to stay alive", got="its end", fix="run `coursekit doctor`")

    def _hidden(self) -> list[str]:
        # The lessons by themselves too: the course may be the very folder of a virtual environment.
        return [] if self._lesson is None else [str(self._lesson.folder.parents[1]), str(self._lesson.folder.parent)]

    def _restart(self) -> None:
        self._socket.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
        self._start()

    def _clear(self, *, wait: float) -> None:
        """Forget sessions of which nothing is left."""
        end = time.monotonic() + wait
        self._ending = [one for one in self._ending if not one.gone(max(end - time.monotonic(), 0.0))]

    def _tried(self) -> Level:
        candidates: list[Level] = _candidates() if self._wanted is None else [self._wanted]
        for level in candidates:
            session = self._fork(level)
            try:
                problem = self._try(session)
            except IsolationError as error:
                problem = error.got
            finally:
                session.close()
            if not problem:
                return level
            self.refused[level] = problem
        got = self.refused[candidates[-1]]
        raise IsolationError("isolation", " or ".join(candidates), got=got, fix=MEND)

    def _try(self, session: Session) -> str:
        """Return why a worker of this level is of no use; empty when it is."""
        session.start()
        if self._lesson is None:
            return ""
        bench = Confined(session, _TRIAL, (), seconds=START)
        outcome = bench.execute()
        words = [outcome.ended, "it takes too long" if outcome.timed_out else "", *bench.notes, bench.printed.strip()]
        return " ".join(filter(None, words))


def _candidates() -> list[Level]:
    if sys.platform != "linux":
        return ["process-only"]
    from coursekit.grading.worker.linux import landlock_version

    version = landlock_version()
    if version >= 6:
        return ["full", "no-namespaces", "process-only"]
    # Before version 6 a worker without namespaces could send signals to other processes of its user.
    return ["full" if version else "no-landlock", "process-only"]


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV") if name in os.environ}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**kept, **threads, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}


def confined(warm: Warm, lesson: Lesson, source: Source, exercise: Exercise, seconds: float) -> Confined:
    """Return a bench for an exercise, in a fresh worker."""
    probes = lesson.folder / "probes.py"
    Tripwires(exercise.forbids)  # a name that does not exist is the lesson's fault, and ends every worker
    return Confined(warm.session(), source, exercise.forbids, seconds=seconds, probes=probes, another=warm.session)
