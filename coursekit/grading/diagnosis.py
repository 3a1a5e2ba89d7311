"""Naming a mistake: the learner's results on the same inputs equal those of a known answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coursekit.grading.answers import Answer
from coursekit.grading.differences import alike
from coursekit.grading.learner import Call, Outcome
from coursekit.grading.verdicts import Diagnosis

Traces = Mapping[str, Sequence[Call]]  # for each check, what was asked and what came of it


@dataclass(frozen=True)
class Suspect:
    """A known answer and its traces through the checks of an exercise."""

    answer: Answer
    traces: Traces

    @property
    def diagnosis(self) -> Diagnosis:
        """What the learner is told."""
        kind = "dialect" if self.answer.kind == "dialect" else "wrong"
        return Diagnosis(self.answer.id, self.answer.says, kind)


def excuse(traces: Traces, failing: Sequence[str], suspects: Sequence[Suspect]) -> Diagnosis | None:
    """Return the dialect that explains every failing check, or None.

    Args:
        traces: the learner's.
        failing: names of the checks that the learner fails.
        suspects: the known answers of the exercise.
    """
    dialects = [suspect for suspect in suspects if suspect.answer.kind == "dialect"]
    explaining = [one for one in dialects if all(agree(traces[name], one.traces[name]) for name in failing)]
    return _best(traces, explaining, suspects)


def diagnose(traces: Traces, failing: Sequence[str], suspects: Sequence[Suspect]) -> Diagnosis | None:
    """Return the known answer that the learner's is, or None.

    One that agrees in every check comes first. Otherwise it must agree in the first failing check, by a value:
    two answers that raise the same kind of error in one place need not share their mistake. Among several, the
    one that agrees in most checks is named, then the one that is least often mistaken for another.

    Args:
        traces: the learner's.
        failing: names of the checks that the learner fails, in order.
        suspects: the known answers of the exercise.
    """
    first = failing[0]
    by_value = not any(call.outcome.raised for call in traces[first])
    possible = [suspect for suspect in suspects if agree(traces[first], suspect.traces[first])]
    if not by_value:
        possible = [suspect for suspect in possible if _matches(traces, suspect) == len(traces)]
    return _best(traces, possible, suspects)


def agree(first: Sequence[Call], second: Sequence[Call]) -> bool:
    """Return whether two traces of one check are equal: values up to rounding, errors by type, changed arguments.

    Traces without a call say nothing, and do not agree.
    """
    return len(first) == len(second) > 0 and all(
        a.request.name == b.request.name and _same_outcome(a.outcome, b.outcome)
        for a, b in zip(first, second, strict=True)
    )


def _same_outcome(first: Outcome, second: Outcome) -> bool:
    if first.timed_out or second.timed_out or first.changed != second.changed:
        return False
    if first.raised or second.raised:
        return bool(first.raised and second.raised and first.raised.kinds[0] == second.raised.kinds[0])
    return alike(first.value, second.value)


def _matches(traces: Traces, suspect: Suspect) -> int:
    return sum(agree(trace, suspect.traces[name]) for name, trace in traces.items())


def _best(traces: Traces, possible: Sequence[Suspect], suspects: Sequence[Suspect]) -> Diagnosis | None:
    if not possible:
        return None
    if len(possible) == 1:
        return possible[0].diagnosis

    def rank(suspect: Suspect) -> tuple[int, int]:
        twins = sum(
            all(agree(trace, other.traces[name]) for name, trace in suspect.traces.items())
            for other in suspects
            if other is not suspect
        )
        return -_matches(traces, suspect), twins

    return min(possible, key=rank).diagnosis  # the one written first, among equals
