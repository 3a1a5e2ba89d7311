"""Naming a mistake: the learner's results on the same inputs are those of a known answer.

Results agree when values are equal up to rounding, errors are of one kind, and the same arguments were changed. In
a check marked `statistical`, tensors of random numbers agree when they were drawn alike (see `samples.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from coursekit.grading.answers import Answer
from coursekit.grading.differences import alike
from coursekit.grading.learner import Call, Outcome
from coursekit.grading.naming.samples import Sample, drawn_alike, is_sample
from coursekit.grading.verdicts import Diagnosis


@dataclass(frozen=True)
class Trial:
    """One check, run on one answer.

    Args:
        trace: what was asked, and what came of it.
        passed: whether the check passed.
        statistical: whether the check draws random numbers.
    """

    trace: Sequence[Call]
    passed: bool
    statistical: bool = False


Trials = Mapping[str, Trial]  # by name of the check; that of a suspect may be made when it is asked for


@dataclass(frozen=True)
class Suspect:
    """A known answer and its trials in the checks of an exercise."""

    answer: Answer
    trials: Trials

    @property
    def diagnosis(self) -> Diagnosis:
        """What the learner is told."""
        kind = "dialect" if self.answer.kind == "dialect" else "wrong"
        return Diagnosis(self.answer.id, self.answer.says, kind)


@dataclass(frozen=True)
class Named:
    """What is known of the learner's mistakes.

    Args:
        diagnosis: the known answer that explains the first failing check.
        also: one that explains another failing check, which the first does not.
        check: the name of that other check.
    """

    diagnosis: Diagnosis | None = None
    also: Diagnosis | None = None
    check: str = ""


def excuse(trials: Trials, suspects: Sequence[Suspect]) -> tuple[Diagnosis, ...]:
    """Return the dialects that explain every failing check, at most one for each function; none where they do not.

    Args:
        trials: the learner's, in the order of the checks; at least one failed.
        suspects: the known answers of the exercise.
    """
    likeness = Likeness()
    failing = set(_failing(trials))
    dialects = [suspect for suspect in suspects if suspect.answer.kind == "dialect"]
    explains = {one.answer.id: {name for name in failing if likeness.shares(trials, one, name)} for one in dialects}
    chosen = _most_specific(trials, [one for one in dialects if explains[one.answer.id] == failing], suspects, likeness)
    if chosen:
        return (chosen.diagnosis,)
    groups: dict[str, list[Suspect | None]] = {}
    for one in dialects:
        if explains[one.answer.id]:
            groups.setdefault(one.answer.replaces, [None]).append(one)
    for choice in itertools.product(*groups.values()):
        together = [one for one in choice if one]
        if failing == set().union(*(explains[one.answer.id] for one in together)):
            return tuple(one.diagnosis for one in together)
    return ()


def diagnose(trials: Trials, suspects: Sequence[Suspect]) -> Named:
    """Return the known answer that the learner's is, if any.

    It must fail the learner's first failing check in the same way: by a value, or, since two answers that raise
    one kind of error in one place need not share their mistake, in all checks. Among several, the more specific
    one is named: the one that agrees with the learner in more checks; then in more values; then the one that
    fails what the learner fails and nothing else; then the one whose results no other known answer has; then the
    one that fails the fewest checks.

    Where another check fails in a way that the chosen one does not explain, a second one may: it agrees there by a
    value, and is not at odds with any check that passes or is explained already.

    Args:
        trials: the learner's, in the order of the checks; at least one failed.
        suspects: the known answers of the exercise.
    """
    likeness = Likeness()
    failing = _failing(trials)
    possible = [one for one in suspects if likeness.shares(trials, one, failing[0])]
    if not _by_value(trials[failing[0]]):
        possible = [one for one in possible if likeness.matches(trials, one) == len(trials)]
    chosen = _most_specific(trials, possible, suspects, likeness)
    named = Named(chosen.diagnosis if chosen else None)
    if len(failing) == 1:
        return named
    return _with_second(named, trials, chosen, suspects, likeness)


def agree(first: Trial, second: Trial) -> bool:
    """Return whether two answers gave the same results in one check. Trials without a call say nothing."""
    return Likeness().agree(first, second)


class Likeness:
    """Compares trials, and remembers what is costly: the order of a sample, and who agreed with whom."""

    def __init__(self) -> None:
        self._samples: dict[int, Sample] = {}
        self._known: dict[tuple[int, int], tuple[Trial, Trial, bool]] = {}

    def agree(self, first: Trial, second: Trial) -> bool:
        """Return whether two answers gave the same results in one check."""
        key = (id(first.trace), id(second.trace))
        if key not in self._known:
            # The trials are kept too, or another one could get the id of one that is gone.
            self._known[key] = (first, second, self._compare(first, second))
        return self._known[key][2]

    def shares(self, trials: Trials, suspect: Suspect, name: str) -> bool:
        """Return whether a suspect fails a check as the learner does."""
        theirs = suspect.trials[name]
        return not theirs.passed and self.agree(trials[name], theirs)

    def matches(self, trials: Trials, suspect: Suspect) -> int:
        """Return in how many checks a suspect agrees with the learner."""
        return sum(self.agree(trial, suspect.trials[name]) for name, trial in trials.items())

    def _compare(self, first: Trial, second: Trial) -> bool:
        if not len(first.trace) == len(second.trace) > 0:
            return False
        statistical = first.statistical and second.statistical
        for mine, theirs in zip(first.trace, second.trace, strict=True):
            if mine.request.name != theirs.request.name or not self._same(mine.outcome, theirs.outcome, statistical):
                return False
        return not statistical or _repeats(first.trace) == _repeats(second.trace)

    def _same(self, first: Outcome, second: Outcome, statistical: bool) -> bool:
        stopped = any(one.timed_out or one.ended for one in (first, second))
        if stopped or first.changed != second.changed:
            return False
        if first.raised or second.raised:
            return bool(first.raised and second.raised and first.raised.kinds[0] == second.raised.kinds[0])
        if statistical:
            return self._drawn_alike(first.value, second.value)
        return alike(first.value, second.value)

    def _drawn_alike(self, first: Any, second: Any) -> bool:
        """Compare two plain values: large tensors as samples, all else up to rounding."""
        if is_sample(first) and is_sample(second):
            if (first.shape, first.dtype, first.device) != (second.shape, second.dtype, second.device):
                return False
            return torch.equal(first, second) or drawn_alike(self._sample(first), self._sample(second))
        if type(first) is not type(second):
            return alike(first, second)  # an int may stand for a float
        if isinstance(first, list | tuple):
            return len(first) == len(second) and all(map(self._drawn_alike, first, second))
        if isinstance(first, dict):
            return first.keys() == second.keys() and all(self._drawn_alike(first[key], second[key]) for key in first)
        return alike(first, second)

    def _sample(self, tensor: Tensor) -> Sample:
        if id(tensor) not in self._samples:
            self._samples[id(tensor)] = Sample(tensor)  # which keeps the tensor, and so its id
        return self._samples[id(tensor)]


def _failing(trials: Trials) -> list[str]:
    return [name for name, trial in trials.items() if not trial.passed]


def _by_value(trial: Trial) -> bool:
    return not any(call.outcome.raised for call in trial.trace)


def _most_specific(
    trials: Trials, possible: Sequence[Suspect], suspects: Sequence[Suspect], likeness: Likeness
) -> Suspect | None:
    if len(possible) < 2:
        return next(iter(possible), None)
    failing = set(_failing(trials))

    def by_checks(suspect: Suspect) -> tuple[int, int, int]:
        agreeing = [name for name, trial in trials.items() if likeness.agree(trial, suspect.trials[name])]
        values = sum(_by_value(trials[name]) for name in agreeing)
        theirs = {name for name in trials if not suspect.trials[name].passed}
        return -len(agreeing), -values, len(theirs ^ failing)

    def by_others(suspect: Suspect) -> tuple[int, int]:
        twins = sum(
            all(likeness.agree(trial, other.trials[name]) for name, trial in suspect.trials.items())
            for other in suspects
            if other is not suspect
        )
        return twins, sum(not suspect.trials[name].passed for name in trials)

    best = min(map(by_checks, possible))
    equals = [suspect for suspect in possible if by_checks(suspect) == best]
    return equals[0] if len(equals) == 1 else min(equals, key=by_others)  # the one written first, among equals


def _with_second(
    named: Named, trials: Trials, first: Suspect | None, suspects: Sequence[Suspect], likeness: Likeness
) -> Named:
    """Add the known answer that explains the next failing check that `first` does not explain."""
    explained = {name for name in trials if first and likeness.agree(trials[name], first.trials[name])}
    settled = [name for name in trials if trials[name].passed or name in explained]

    def at_odds(suspect: Suspect) -> bool:
        theirs = ((trials[name], suspect.trials[name]) for name in settled)
        return not all(trial.passed or likeness.agree(mine, trial) for mine, trial in theirs)

    others = [one for one in suspects if one is not first and one.answer.kind == "wrong"]
    for name in _failing(trials)[1:]:
        if name not in explained and _by_value(trials[name]):
            possible = [one for one in others if likeness.shares(trials, one, name) and not at_odds(one)]
            second = _most_specific(trials, possible, suspects, likeness)
            if second:
                return replace(named, also=second.diagnosis, check=name)
    return named


def _repeats(trace: Sequence[Call]) -> list[int]:
    """Return, for each large tensor given or returned, the place of the first one that is equal to it."""
    values = [(call.request.args, call.request.kwargs, call.outcome.value) for call in trace]
    found = list(_tensors(values))
    return [next(place for place, other in enumerate(found) if _equal(other, one)) for one in found]


def _equal(first: Tensor, second: Tensor) -> bool:
    return first is second or (first.dtype == second.dtype and torch.equal(first, second))


def _tensors(value: Any) -> Iterator[Tensor]:
    if is_sample(value):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
