"""The connection to one worker: frames (see `wire.py`), what it prints, how it ends, and the grip on it.

How long a worker takes, how much it prints and how much memory it holds is measured here, and not believed.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import secrets
import selectors
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from coursekit.errors import IsolationError
from coursekit.grading.isolation import SAYS, Level
from coursekit.grading.litter import larger, remove
from coursekit.grading.wire import Decoder, Encoder, Inbox, WireError, pack
from coursekit.grading.worker.confine import Limits
from coursekit.grading.worker.family import descendants

START = 60.0  # seconds in which a process of ours must be ready, on a machine under load
MEMORY = 3 * 2**30  # bytes that all processes of a worker may hold together
KEPT_OUTPUT, MOST_OUTPUT = 64 * 1024, 16 * 2**20  # bytes
MOST_FACTS = 2**20  # bytes of a reply that holds no result
_HANG_UP = 1.0  # seconds between hanging up and ending, for a worker that only ends
_GLANCE = 0.1  # seconds between two looks at a worker's memory
_FOLDER = 64 * 2**20  # bytes that may lie in a folder of ours that a worker writes to
MEND = "run `coursekit doctor`; --in-process grades without, code that you trust"


class Stopped(Exception):  # noqa: N818  it is an outcome, and no error of the program
    """The worker is not there any more, or must not be.

    Args:
        kind: whether its time was over, or it ended.
        says: how, in a sentence about "your code".
    """

    def __init__(self, kind: Literal["time", "end"], says: str) -> None:
        self.kind = kind
        self.says = says
        super().__init__(says)


class Session:
    """The connection to one worker, and the grip on it.

    Args:
        level: of isolation.
        hidden: folders that it must not see.
    """

    def __init__(self, level: Level, *, hidden: Sequence[str]) -> None:
        self.level: Level = level
        self._hidden = list(hidden)
        # Where the worker has no /tmp of its own, it gets a folder of ours.
        self._folder = "" if level in ("full", "no-landlock") else tempfile.mkdtemp(prefix="coursekit-")
        self._channel, self._theirs = socket.socketpair()
        self._status, self._their_status = socket.socketpair()
        self._output, self._their_output = os.pipe()
        for descriptor in (self._channel.fileno(), self._status.fileno(), self._output):
            os.set_blocking(descriptor, False)
        self._inbox = Inbox(MOST_FACTS)
        self._first = bytearray()
        self._reports = bytearray()
        self._printed, self._total = b"", 0
        self._grip: int | None = None
        self._worker = self._supervisor = 0
        self._exit: str | None = None
        self._glanced = 0.0
        self._closed = self._started = False
        self._silent: float | None = None  # since when the worker has closed its end of the channel
        self._mute = False  # whether it has closed its output

    def hand_over(self, warm: socket.socket, limits: Limits) -> None:
        """Ask the warm process for the worker.

        Raises:
            OSError: the warm process is gone.
        """
        order = {"level": self.level, "limits": asdict(limits), "folder": self._folder, "hidden": self._hidden}
        descriptors = array.array("i", [self._theirs.fileno(), self._their_output, self._their_status.fileno()])
        try:
            warm.sendmsg([json.dumps(order).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        finally:
            self._theirs.close()
            self._their_status.close()
            os.close(self._their_output)

    def start(self) -> None:
        """Wait until the worker is locked down.

        Raises:
            IsolationError: a layer is not to be had.
        """
        if self._started:
            return
        self._started = True
        try:
            while b"\n" not in self._first:
                self._wait(time.monotonic() + START)
            said = json.loads(self._first.partition(b"\n")[0])["problem"]
        except (Stopped, WireError, ValueError) as error:
            said = str(error)
        if said:
            raise IsolationError(f"isolation {self.level}", SAYS[self.level], got=said, fix=MEND)
        # What comes from here on is frames.
        self._inbox.add(bytes(self._first.partition(b"\n")[2]))

    def ask(
        self, message: dict[str, Any], seconds: float, encoder: Encoder | None = None, *, most: int = MOST_FACTS
    ) -> tuple[dict[str, Any], Decoder]:
        """Send a request, and return the reply.

        Raises:
            Stopped: none came in this time, or what came is no reply.
        """
        nonce = secrets.token_hex(16)
        deadline = time.monotonic() + seconds
        try:
            self._read()
            if len(self._inbox):
                raise WireError("it spoke without being asked")
            self._inbox = Inbox(most)
            self._send(pack({**message, "nonce": nonce}, encoder.memory if encoder else ()), deadline)
            while (frame := self._inbox.frame()) is None:
                self._wait(deadline)
            reply, memory = frame
            if reply.pop("nonce", None) != nonce or len(self._inbox):
                raise WireError("the answer is to another question")
            return reply, Decoder(memory, trusted=False)
        except WireError as error:
            self._kill()
            raise Stopped("end", f"your code disturbed the connection to the grader: {error}") from None

    def alive(self) -> bool:
        """Return whether the worker was still there a moment ago."""
        for _ in range(2):  # its first report may stand before the end
            self._read_status()
        return self._exit is None

    @property
    def printed(self) -> str:
        """The last of what the worker printed."""
        self._read_output()
        return self._printed.decode("utf-8", "replace")

    def close(self) -> None:
        """End the worker and all that comes from it; `gone` tells when that is done."""
        if not self._closed:
            self._closed = True
            self._kill()
            self._channel.close()

    def gone(self, wait: float) -> bool:
        """Return whether a closed session's worker has ended and left nothing; wait for it so many seconds."""
        if not self._closed:
            return False
        end = time.monotonic() + wait
        while self._exit is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._status, selectors.EVENT_READ)
                if not selector.select(max(end - time.monotonic(), 0.0)):
                    return False
            self._read_status()
        if self._status.fileno() >= 0:
            self._status.close()
            os.close(self._output)
            self._output = -1  # the number may soon be somebody else's
            if self._grip is not None:
                os.close(self._grip)
            if self._folder:
                remove(self._folder)
        return True

    # ------------------------------------------------------------------ reading and waiting

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._channel.send(rest) :]
            except BlockingIOError:
                self._wait(deadline, selectors.EVENT_READ | selectors.EVENT_WRITE)
            except OSError:
                self._wait(deadline)  # its end will show

    def _wait(self, deadline: float, events: int = selectors.EVENT_READ) -> None:
        """Wait for something to come, and read it.

        Raises:
            Stopped: the time is over, or the worker has ended and nothing is left to be read.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            self._kill()
            raise Stopped("time", "your code did not stop when its time was over, and was ended")
        if self._silent is not None and time.monotonic() - self._silent > _HANG_UP:
            self._kill()
            raise Stopped("end", "your code closed its connection to the grader")
        with selectors.DefaultSelector() as selector:
            if self._silent is None and self._channel.fileno() >= 0:
                selector.register(self._channel, events)
            if not self._mute:
                selector.register(self._output, selectors.EVENT_READ)
            selector.register(self._status, selectors.EVENT_READ)
            selector.select(min(left, _GLANCE))
        before = len(self._inbox) + len(self._first)
        self._read_status()
        self._read()
        self._glance()
        if self._exit is not None and len(self._inbox) + len(self._first) == before:
            self._kill()
            raise Stopped("end", self._exit)

    def _read(self) -> None:
        self._read_output()
        if self._total > MOST_OUTPUT:
            self._kill()
            raise Stopped("end", f"your code printed more than {MOST_OUTPUT // 2**20} MiB, and was ended")
        with contextlib.suppress(OSError):  # nothing there, or the other side is closed
            while piece := self._channel.recv(1 << 20):
                if not self._started or b"\n" not in self._first:
                    self._first += piece
                    if len(self._first) > MOST_FACTS:
                        raise WireError("this is no frame")
                    return
                self._inbox.add(piece)
            self._silent = self._silent or time.monotonic()

    def _read_output(self) -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(self._output, 1 << 16):
                self._printed = (self._printed + piece)[-KEPT_OUTPUT:]
                self._total += len(piece)
                if self._total > MOST_OUTPUT:
                    return
            self._mute = True

    def _read_status(self) -> None:
        try:
            data, ancillary, *_ = self._status.recvmsg(4096, socket.CMSG_SPACE(4))
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for _, _, held in ancillary:
            self._grip = array.array("i", held[:4])[0]
        self._reports += data
        while b"\n" in self._reports:
            line, _, rest = self._reports.partition(b"\n")
            self._reports = bytearray(rest)
            self._hear(json.loads(line))
        if not data and self._exit is None:
            self._exit = "the process that watched over your code was ended"
        if self._closed:
            self._kill()  # its grip may have come only now

    def _hear(self, report: dict[str, Any]) -> None:
        if "worker" in report:
            self._worker, self._supervisor = report["worker"], report["supervisor"]
        elif "failed" in report:
            self._exit = report["failed"]
        else:
            self._exit = ending(report["exit"])

    def _glance(self) -> None:
        """Look at the memory and the folder of a worker that takes long."""
        now = time.monotonic()
        if now - self._glanced < _GLANCE or not self._supervisor:
            return
        first, self._glanced = not self._glanced, now
        if first:
            return
        family = descendants(self._supervisor)
        if _resident(family) > MEMORY and _proportional(family) > MEMORY:
            self._kill()
            raise Stopped("end", f"your code took more than {MEMORY / 2**30:g} GiB of memory, and was ended")
        if self._folder and larger(self._folder, _FOLDER):
            self._kill()
            raise Stopped("end", f"your code wrote more than {_FOLDER // 2**20} MiB of files, and was ended")

    def _kill(self) -> None:
        with contextlib.suppress(OSError):
            if self._grip is not None:
                signal.pidfd_send_signal(self._grip, signal.SIGKILL)
            elif self._worker and not hasattr(os, "pidfd_open") and self._exit is None:
                os.kill(self._worker, signal.SIGKILL)


def ending(code: int) -> str:
    if code < 0:
        names = {known.value: known.name for known in signal.Signals}
        return f"your code ended Python itself ({names.get(-code, f'signal {-code}')})"
    return f"your code ended Python itself (exit code {code}) instead of returning"


def _resident(processes: Sequence[int]) -> int:
    """Return the bytes that processes hold, with what they share counted for each: quick, and too much."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def _proportional(processes: Sequence[int]) -> int:
    """Return the bytes that processes hold, with what they share counted once: slow."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError, ValueError, IndexError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
