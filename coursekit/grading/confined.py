"""A bench in a worker: what the learner's code says there is a claim, and is checked before it is used."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from coursekit.errors import IsolationError, LessonError
from coursekit.grading.inprocess import stalled
from coursekit.grading.learner import Outcome, Raised, Request
from coursekit.grading.session import START, Session, Stopped
from coursekit.grading.submission import Source
from coursekit.grading.text import printable
from coursekit.grading.wire import Decoder, Encoder, WireError

GRACE = 2.0  # seconds in which a worker may miss its own alarm


class Confined:
    """A bench in a worker: the learner's code runs there, locked down, and its results come as plain values.

    Args:
        session: of a worker that has read nothing yet; it is closed with the bench.
        source: the learner's file.
        forbids: dotted names of what the code must not call.
        seconds: that executing the file may take.
        probes: the file from which probes may come.
        another: gives a second worker, should the first end before it has executed a line.
    """

    def __init__(
        self,
        session: Session,
        source: Source,
        forbids: Sequence[str],
        *,
        seconds: float,
        probes: Path | None = None,
        another: Callable[[], Session] | None = None,
    ) -> None:
        self.problem = ""
        self.stubs: frozenset[str] = frozenset()
        self.mentions: Mapping[str, frozenset[str]] = {}
        self.notes: list[str] = []
        self._session = session
        self._source = source
        self._forbids = list(forbids)
        self._seconds = seconds
        self._probes = probes
        self._another = another
        self._executed: Outcome | None = None
        self._end: Outcome | None = None

    @property
    def printed(self) -> str:
        """The last of what the code printed."""
        return self._session.printed

    def execute(self) -> Outcome:
        """Execute the file, if it was not yet; return what came of it, without a value."""
        if self._executed is None:
            self._executed = self._execute()
        return self._executed

    def perform(self, request: Request, *, seed: int, seconds: float) -> Outcome:
        """Have a request done by the worker."""
        executed = self.execute()
        if self._end is not None or executed.timed_out:
            return self._end or executed
        if seconds <= 0:  # else every further call of a check could take the grace that the worker has
            return Outcome(timed_out=True)
        if request.probe is not None:
            self._expect_known(request)
        encoder = Encoder()
        message = {
            "do": "perform",
            "kind": request.kind,
            "name": request.name,
            "args": encoder.encode(request.args),
            "kwargs": encoder.encode(request.kwargs),
            "wrt": list(request.wrt),
            "seed": seed,
            "seconds": max(seconds, 0.001),
        }
        started = time.perf_counter()
        try:
            reply, decoder = self._session.ask(message, max(seconds, 0.0) + GRACE, encoder, most=MOST_RESULT)
            outcome = outcome_of(reply, decoder)
        except Stopped as stopped:
            outcome = self._end = Outcome(timed_out=stopped.kind == "time", ended=stopped.says)
        except WireError as error:
            self._session.close()
            outcome = self._end = Outcome(ended=f"your code disturbed the connection to the grader: {error}")
        taken = time.perf_counter() - started
        # A worker whose own alarm was switched off answers all the same, as late as it likes.
        return replace(outcome, seconds=taken, timed_out=outcome.timed_out or taken > seconds + _LATE)

    def close(self) -> None:
        """End the worker."""
        self._session.close()

    def _execute(self) -> Outcome:
        name = self._source.path.name
        load = {"file": name if _harmless(name) else "exercises.py", "text": self._source.text}
        load |= {"sha256": self._source.sha256, "forbids": self._forbids, "seconds": self._seconds}
        try:
            self._take(self._handed_over(load))
            if self.problem:
                return Outcome()
            reply, _ = self._session.ask({"do": "execute"}, self._seconds + GRACE)
            self.notes += _texts(reply.get("notes"))[:_MOST_NOTES]
        except Stopped as stopped:
            self._end = Outcome(timed_out=stopped.kind == "time", ended=stopped.says)
        except WireError as error:
            self._end = Outcome(ended=f"your code disturbed the connection to the grader: {error}")
        else:
            if reply.get("done") is True:
                return Outcome()
            self._end = Outcome(timed_out=True)
        if self._end.timed_out:
            self.notes = [stalled(name, self._seconds)]
        self._session.close()
        return self._end

    def _handed_over(self, load: dict[str, Any]) -> dict[str, Any]:
        """Hand the file to the worker; return the facts about its text."""
        try:
            self._session.start()
            return self._session.ask(load, START)[0]
        except (Stopped, IsolationError) as error:
            if self._another is None or (isinstance(error, Stopped) and error.kind == "time"):
                raise
        # Nothing of the learner's has run yet: somebody ended our processes, or the text ends the parser.
        self._session.close()
        self._session = self._another()
        self._session.start()
        return self._session.ask(load, START)[0]

    def _take(self, facts: dict[str, Any]) -> None:
        """Take what was found in the text before any of it was executed."""
        problem = facts.get("problem")
        if type(problem) is not str or type(facts.get("empty")) is not bool:
            raise WireError("the facts are not as they must be")
        self.stubs = frozenset(_texts(facts.get("stubs")))
        found = facts.get("mentions")
        if type(found) is not dict:
            raise WireError("the facts are not as they must be")
        self.mentions = {owner: frozenset(_texts(names)) for owner, names in found.items()}
        if problem:
            self.notes = [printable(problem)]
            self.problem = self.notes[0] if facts["empty"] else ""

    def _expect_known(self, request: Request) -> None:
        """Refuse a probe that the worker does not have."""
        file = request.probe.__code__.co_filename if request.probe else ""
        if self._probes is None or Path(file).resolve() != self._probes.resolve():
            raise LessonError("learner.run", "a function of probes.py", got=f"{request.name} in {file}", fix="move it")


MOST_RESULT = 140 * 2**20  # bytes of a reply that holds a result
_MOST_NOTES = 20
_LATE = 0.5  # seconds that a large result may be on its way


def _harmless(name: str) -> bool:
    return name.isascii() and name.replace("_", "").replace("-", "").replace(".", "").isalnum() and len(name) < 100


def _texts(found: Any) -> list[str]:
    if type(found) is not list or len(found) > 5000 or not all(type(text) is str for text in found):
        raise WireError("texts are not as they must be")
    return [printable(text) for text in found]


def outcome_of(reply: dict[str, Any], decoder: Decoder) -> Outcome:
    """Return a checked outcome from a worker's reply.

    Raises:
        WireError: it is none.
    """
    if reply.keys() != {"value", "raised", "timed_out", "changed"} or type(reply["timed_out"]) is not bool:
        raise WireError("the answer is not as it must be")
    value, described = decoder.decode(reply["value"]), reply["raised"]
    raised = None
    if described is not None:
        if type(described) is not list or len(described) != 4 or type(described[3]) is not bool:
            raise WireError("the error is not as it must be")
        kinds = _texts(described[0])
        if not kinds or type(described[1]) is not str or type(described[2]) is not str:
            raise WireError("the error is not as it must be")
        raised = Raised(tuple(kinds), printable(described[1]), printable(described[2]), described[3])
    return Outcome(value, raised, timed_out=reply["timed_out"], changed=tuple(_texts(reply["changed"])))
