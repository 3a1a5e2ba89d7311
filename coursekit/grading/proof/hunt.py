"""The hunt: each machine-made mutant goes through the checks of its exercise until one of them notices."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from coursekit.catalog import Exercise, Lesson
from coursekit.grading.answers import Answer
from coursekit.grading.checks import Check
from coursekit.grading.judge import Judge
from coursekit.grading.proof.mutants import Mutant
from coursekit.grading.runs import Candidate
from coursekit.grading.submission import parse
from coursekit.grading.verdicts import Diagnosis, Verdict

# A mutant that loops is stopped soon: after so many times what the solution takes, and no sooner than in a second.
_PATIENCE = 20
_LEAST_SECONDS = 1.0


@dataclass(frozen=True)
class Fate:
    """What became of a mutant.

    Args:
        verdict: `pass` when no check noticed, `pass with note` when it is a dialect, else that of the first check
            that noticed.
        check: name of that check; empty when none noticed.
        note: the dialect.
        by_value: whether the check refused what the mutant returned, and not that it raised or returned nothing.
    """

    verdict: Verdict
    check: str = ""
    note: Diagnosis | None = None
    by_value: bool = False

    @property
    def survived(self) -> bool:
        """Whether the mutant passed."""
        return self.verdict in ("pass", "pass with note")


class Hunt:
    """Hunts the mutants of one exercise.

    Args:
        lesson: from the catalogue.
        exercise: of the lesson.
        checks: of the lesson.
        seeds: of the inputs; the second is only asked when the first found nothing, and so on.
        unproven: names of checks that have not refused anything yet; they are asked first.
    """

    def __init__(
        self,
        lesson: Lesson,
        exercise: Exercise,
        checks: Sequence[Check],
        seeds: Sequence[int],
        unproven: Collection[str] = (),
    ) -> None:
        self.exercise = exercise
        self.unproven = set(unproven)
        # Judges of its own: they keep every attempt, and with the hunt all that is freed again.
        self._judges = [Judge(lesson, checks, seed) for seed in seeds]
        self._checks = self._judges[0].checks(exercise)
        self._dialects = [one for one in self._judges[0].answers if _is_dialect(one, exercise)]
        self._excused = {check.name for check in self._checks if self._excusable(self._judges[0], check)}
        self._last: dict[str, int] = {}  # number of the mutant that a check noticed last
        attempts = [self._judges[0].attempt(self._judges[0].reference, check) for check in self._checks]
        slowest = max((attempt.seconds for attempt in attempts), default=0.0)
        seconds = min(exercise.seconds, max(_LEAST_SECONDS, _PATIENCE * slowest))
        self._hasty = exercise.model_copy(update={"seconds": seconds})

    def fate(self, mutant: Mutant, *, patient: bool = False) -> Fate:
        """Put a mutant through the checks until one notices.

        Args:
            mutant: of the exercise.
            patient: give it the time that a learner has.
        """
        submission = parse(mutant.text, self._judges[0].reference.submission.path)
        candidate = Candidate(f"{mutant.id}{' (patiently)' if patient else ''}", submission)
        for judge in self._judges:
            for check in self._in_order():
                asked = check if patient else replace(check, exercise=self._hasty)
                attempt = judge.attempt(candidate, asked)
                if attempt.verdict in ("pass", "skipped"):
                    continue
                if attempt.verdict == "fail" and self._excusable(judge, check):
                    report = judge.report(candidate, self.exercise)
                    if report.verdict == "pass with note":
                        return Fate(report.verdict, note=report.diagnosis)
                self._last[check.name] = 1 + max(self._last.values(), default=0)
                by_value = attempt.verdict == "fail" and mutant.operator != "statement"
                by_value = by_value and not any(call.outcome.raised for call in attempt.trace)
                self.unproven -= {check.name} if by_value else set()
                return Fate(attempt.verdict, check.name, by_value=by_value)
        return Fate("pass")

    def _in_order(self) -> list[Check]:
        """Return the checks: what refused nothing yet, then what no dialect fails; the last to notice first."""

        def place(check: Check) -> tuple[bool, bool, int]:
            return check.name not in self.unproven, check.name in self._excused, -self._last.get(check.name, 0)

        return sorted(self._checks, key=place)

    def _excusable(self, judge: Judge, check: Check) -> bool:
        """Return whether a dialect fails a check too: only then can a failure be excused."""
        return any(judge.attempt(judge.replacing(one), check).verdict == "fail" for one in self._dialects)


def _is_dialect(answer: Answer, exercise: Exercise) -> bool:
    return answer.kind == "dialect" and answer.replaces in exercise.names
