"""The worker's loop: it reads a request, has the learner's code do it, and writes one reply.

It runs after the process was locked down. What it sends is a claim, which the judge checks.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TextIO

from coursekit.grading.guard import Tripwires
from coursekit.grading.inprocess import InProcess
from coursekit.grading.learner import Outcome, Request
from coursekit.grading.submission import parse
from coursekit.grading.values import Opaque
from coursekit.grading.wire import Decoder, Encoder, Inbox, WireError, pack


class Channel:
    """One end of the connection to the judge.

    Args:
        connection: a stream socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._inbox = Inbox()

    def receive(self) -> tuple[dict[str, Any], Decoder]:
        """Return the next message, and a decoder for the values in it; ends the process when the judge is gone."""
        while (frame := self._inbox.frame()) is None:
            piece = self._connection.recv(1 << 20)
            if not piece:
                os._exit(0)
            self._inbox.add(piece)
        return frame[0], Decoder(frame[1], trusted=True)

    def send(self, message: dict[str, Any], encoder: Encoder | None = None) -> None:
        """Send a message."""
        self._connection.sendall(pack(message, encoder.memory if encoder else ()))


def serve(channel: Channel, probes: ModuleType | None) -> NoReturn:
    """Answer the judge's requests until it hangs up.

    Args:
        channel: to the judge.
        probes: the lesson's probes, imported before any of the learner's code ran.
    """
    # Those of the warm process were made for /dev/null, and write when it suits them.
    sys.stdout = sys.__stdout__ = _stream(1)
    sys.stderr = sys.__stderr__ = _stream(2)
    request, _ = channel.receive()
    path = Path.cwd() / request["file"]
    path.write_text(request["text"], encoding="utf-8", newline="")
    submission = parse(request["text"], path, request["sha256"])
    # The facts go out before a line of the learner's code is executed.
    channel.send(
        {
            "nonce": request["nonce"],
            "problem": submission.problem,
            "empty": not submission.statements,
            "stubs": sorted(submission.stubs),
            "mentions": {owner: sorted(names) for owner, names in submission.mentions.items()},
        }
    )
    tripwires = Tripwires(tuple(request["forbids"]))
    bench = InProcess(submission, {}, tripwires=tripwires, seconds=request["seconds"])
    burnt = False
    while True:
        request, decoder = channel.receive()
        if not burnt:
            tripwires.burn()
            burnt = True
        if request["do"] == "execute":
            done = not bench.execute().timed_out
            channel.send({"nonce": request["nonce"], "done": done, "notes": bench.notes[:100]})
        else:
            _perform(channel, bench, request, decoder, probes)


def _stream(descriptor: int) -> TextIO:
    raw = open(descriptor, "wb", buffering=0, closefd=False)  # noqa: SIM115  it lives as long as the process
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", errors="backslashreplace", line_buffering=True)


def _perform(
    channel: Channel, bench: InProcess, message: dict[str, Any], decoder: Decoder, probes: ModuleType | None
) -> None:
    args, kwargs = decoder.decode(message["args"]), decoder.decode(message["kwargs"])
    probe = getattr(probes, message["name"]) if message["kind"] == "run" else None
    request = Request(message["kind"], message["name"], args, kwargs, wrt=tuple(message["wrt"]), probe=probe)
    outcome = bench.perform(request, seed=message["seed"], seconds=message["seconds"])
    with contextlib.suppress(Exception):  # the learner's code may have put anything in its place
        sys.stdout.flush()
    try:
        _reply(channel, message["nonce"], outcome, outcome.value)
    except WireError as error:
        _reply(channel, message["nonce"], outcome, Opaque(f"a result that cannot be sent: {error}"))


def _reply(channel: Channel, nonce: str, outcome: Outcome, value: Any) -> None:
    encoder = Encoder()
    raised = outcome.raised
    described = raised and [list(raised.kinds[:50]), raised.message, raised.place, raised.stub]
    reply = {
        "nonce": nonce,
        "value": encoder.encode(value),
        "raised": described,
        "timed_out": outcome.timed_out,
        "changed": list(outcome.changed[:100]),
    }
    channel.send(reply, encoder)
