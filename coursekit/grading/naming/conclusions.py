"""What the checks of an exercise say together, once one of them failed: the mistake's name, or the regime in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from coursekit.grading.differences import Difference, Tolerance, difference
from coursekit.grading.expectations import CheckFailure, LearnerRaised
from coursekit.grading.learner import Call
from coursekit.grading.naming.diagnosis import Named, Suspect, Trial, diagnose, excuse
from coursekit.grading.naming.shrink import Ask, Smaller, shrink
from coursekit.grading.runs import Attempt
from coursekit.grading.values import show
from coursekit.grading.verdicts import Diagnosis

_MOST = 3  # sentences of one kind in a message


@dataclass(frozen=True)
class Conclusion:
    """What is said of an exercise besides the finding of each check.

    Args:
        diagnosis: the known answer that the learner's is, if any.
        first: the first failing attempt; its input may be smaller than the check's own.
        remarks: lines to add to its message, each with a label.
    """

    diagnosis: Diagnosis | None
    first: Attempt
    remarks: tuple[tuple[str, str], ...] = ()

    def of(self, attempt: Attempt) -> tuple[Attempt, tuple[tuple[str, str], ...]]:
        """Return what to tell of one attempt: itself, and only of the first one more than that."""
        return (self.first, self.remarks) if attempt.check.name == self.first.check.name else (attempt, ())


class Replays(Mapping[str, Trial]):
    """The trials of a known answer, each made when it is asked for.

    Args:
        attempt: runs a check of this name.
        names: of the checks.
    """

    def __init__(self, attempt: Callable[[str], Attempt], names: Sequence[str]) -> None:
        self._attempt = attempt
        self._names = names
        self._made: dict[str, Trial] = {}

    def __getitem__(self, name: str) -> Trial:
        if name not in self._made:
            self._made[name] = trial(self._attempt(name))
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def trial(attempt: Attempt) -> Trial:
    """Return what diagnosis needs of an attempt."""
    return Trial(attempt.trace, attempt.verdict == "pass", attempt.check.statistical)


def conclude(attempts: Sequence[Attempt], suspects: Sequence[Suspect]) -> Conclusion:
    """Put the attempts of an exercise together.

    Args:
        attempts: one for each check; at least one failed.
        suspects: the known answers of the exercise, if there are any.
    """
    trials = {one.check.name: trial(one) for one in attempts if one.verdict in ("pass", "fail")}
    first = next(one for one in attempts if one.verdict == "fail")
    suspects = suspects if first.trace else ()  # a file of which nothing runs is no known answer
    dialects = excuse(trials, suspects)
    if dialects:
        return Conclusion(dialects[0], first, tuple(("also", f"{one.says} ({one.id})") for one in dialects[1:]))
    named = diagnose(trials, suspects)
    if named.diagnosis and named.diagnosis.kind == "dialect":  # it does not excuse what else fails
        named = Named(named.also, named.diagnosis, first.check.name)
    words = [] if named.diagnosis or not first.trace else regimes(attempts)
    return Conclusion(named.diagnosis, first, (*_second(named, attempts), *words))


def regimes(attempts: Sequence[Attempt]) -> list[tuple[str, str]]:
    """Return what fails and what holds, in the words of the checks; nothing where one check is all there is."""
    kinds = {"fails": ("fail", "timeout", "crashed"), "holds": ("pass", "pass with note")}
    groups = {label: [one for one in attempts if one.verdict in verdicts] for label, verdicts in kinds.items()}
    if sum(map(len, groups.values())) < 2:
        return []
    if not groups["holds"]:
        return [("fails", "every check of this exercise")]
    if len(groups["fails"]) == 1:  # the message begins with it
        del groups["fails"]
    return [(label, _sentences(group, attempts)) for label, group in groups.items()]


def with_smallest_input(attempt: Attempt, learner: Ask, reference: Ask, expected: Sequence[Call]) -> Attempt:
    """Return a failed attempt with the smallest input that still fails, where that can be told; else as it is.

    Args:
        attempt: that failed.
        learner: does a request with the learner's code.
        reference: does it with the reference.
        expected: what the reference did in the same check.
    """
    call = _failing_call(attempt, expected)
    if call is None or attempt.check.statistical:
        return attempt
    try:
        smaller = shrink(call.request, learner, reference)
    except Exception:  # odd inputs, or a worker that is gone: a nicer message must never cost a verdict
        return attempt
    if smaller is None:
        return attempt
    size = "the smallest input" if smaller.finished else "a smaller input than the check's, and one"
    note = f"this is {size} that still fails"
    trace = [Call(smaller.request, smaller.got)]
    return replace(attempt, failure=_failure(smaller), trace=trace, notes=(*attempt.notes, note))


def _second(named: Named, attempts: Sequence[Attempt]) -> list[tuple[str, str]]:
    if named.also is None:
        return []
    asks = next(one.check.asks for one in attempts if one.check.name == named.check)
    return [("also", f"{named.also.says} ({named.also.id}; seen where this was asked: {asks.rstrip('.')})")]


def _sentences(group: Sequence[Attempt], attempts: Sequence[Attempt]) -> str:
    """Return the checks' sentences, each once; where other cases of one check are not in the group, with the cases."""
    shown = []
    for asks in dict.fromkeys(one.check.asks for one in group):
        mine, every = ([_case(one) for one in part if one.check.asks == asks] for part in (group, attempts))
        which = ", ".join(_cases(mine, every)) if len(mine) < len(every) else ""
        shown.append(asks.rstrip(".") + (f" ({which})" if which else ""))
    more = f"; and {len(shown) - _MOST} more" if len(shown) > _MOST else ""
    return "; ".join(shown[:_MOST]) + more


def _case(attempt: Attempt) -> list[str]:
    """Return the ids of a check's parameters."""
    return attempt.check.name.partition("[")[2].removesuffix("]").split("-")


def _cases(mine: Sequence[Sequence[str]], every: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield cases in words; a parameter that makes no difference is left out."""
    axes = range(len(every[0]))
    kept = list(axes)
    if all(len(case) == len(axes) for case in every):
        kept = [axis for axis in axes if not _all_along(axis, mine, every)]
        mine = [[case[axis] for axis in kept] for case in mine]
    yield from dict.fromkeys("-".join(case) for case in mine)


def _all_along(axis: int, mine: Sequence[Sequence[str]], every: Sequence[Sequence[str]]) -> bool:
    """Return whether with each case all those are in `mine` that differ from it in this parameter alone."""

    def rest(case: Sequence[str]) -> tuple[str, ...]:
        return (*case[:axis], *case[axis + 1 :])

    chosen, rests = set(map(tuple, mine)), set(map(rest, mine))
    return all(tuple(case) in chosen for case in every if rest(case) in rests)


def _failing_call(attempt: Attempt, expected: Sequence[Call]) -> Call | None:
    """Return the first call that differs from the reference's, if the check's complaint is about that."""
    for mine, theirs in zip(attempt.trace, expected, strict=False):
        if mine.request.kind != "call" or mine.request.name != theirs.request.name or theirs.outcome.raised:
            return None
        if mine.outcome.raised or mine.outcome.changed:
            return mine
        if difference(mine.outcome.value, theirs.outcome.value, "", tolerance=Tolerance(), nan_equal=True):
            # A law may hold for other results than the reference's: then there is nothing to compare with.
            told = attempt.failure.expected if attempt.failure else ""
            return mine if told and any(_reads_as(told, part) for part in _shown(theirs.outcome.value)) else None
    return None


def _shown(value: Any) -> list[str]:
    """Return a value and each of its parts as messages show them."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [show(value), *(text for part in parts for text in _shown(part))]


def _reads_as(told: str, shown: str) -> bool:
    """Return whether two texts show one value; numbers may be rounded differently."""
    try:
        return told == shown or math.isclose(float(told), float(shown), rel_tol=1e-6)
    except ValueError:
        return False


def _failure(smaller: Smaller) -> CheckFailure:
    got, name = smaller.got, smaller.request.name
    if got.raised:
        return LearnerRaised(str(got.raised), kinds=got.raised.kinds, place=got.raised.place)
    if got.changed:
        names = " and ".join(got.changed)
        return CheckFailure(f"your function changed the caller's tensor in place: {name} changed {names}")
    expected = smaller.expected.value
    told = difference(got.value, expected, name, tolerance=Tolerance(), nan_equal=True)
    told = told or Difference(name, "another result was expected", show(got.value), show(expected))
    return CheckFailure(f"{told.where}: {told.says}", expected=told.expected, got=told.got)
