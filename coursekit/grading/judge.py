"""The judge: runs checks on a candidate's code, tells our faults from theirs, and names what it finds.

The pytest plugin, the diagnosis and `verify` all go through here: a check is run in one way only.
"""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import ModuleType

from coursekit import catalog
from coursekit.catalog import Exercise, Lesson
from coursekit.errors import LessonError, UserError
from coursekit.grading.answers import Answer, answers
from coursekit.grading.checks import Check
from coursekit.grading.differences import difference
from coursekit.grading.expectations import CheckFailure, LearnerRaised
from coursekit.grading.guard import Tripwires
from coursekit.grading.inprocess import InProcess
from coursekit.grading.learner import Bench
from coursekit.grading.naming.conclusions import Conclusion, Replays, conclude, with_smallest_input
from coursekit.grading.naming.diagnosis import Suspect
from coursekit.grading.runs import Attempt, Benches, Candidate, ExerciseRun
from coursekit.grading.submission import Source, parse, read
from coursekit.grading.text import labelled, printable
from coursekit.grading.verdicts import CheckResult, ExerciseReport, judge_exercise
from coursekit.runtime import threads

LEARNER = "learner"  # the candidate that is not known


def in_this_process(candidate: Candidate, exercise: Exercise, seconds: float) -> Bench:
    """Return a bench in this process, for code that is trusted."""
    found = candidate.submission
    submission = parse(found.text, found.path, found.sha256) if isinstance(found, Source) else found
    wires = Tripwires(exercise.forbids)
    return InProcess(submission, dict(candidate.replaced), tripwires=wires, seconds=seconds)


class Judge:
    """Judges candidates on one lesson, with one seed.

    Args:
        lesson: from the catalogue.
        checks: of the lesson.
        seed: from which all inputs are drawn.
        benches: where the learner's code runs; None runs it in this process, as that of every known answer.
        debugging: set no time limit, and run no other checks to name a mistake.
    """

    def __init__(
        self,
        lesson: Lesson,
        checks: Sequence[Check],
        seed: int,
        *,
        benches: Benches | None = None,
        debugging: bool = False,
    ) -> None:
        self.lesson = lesson
        self.seed = seed
        self._benches = benches or in_this_process
        self._debugging = debugging
        self._checks = checks
        self._runs: dict[tuple[str, str], ExerciseRun] = {}
        self._conclusions: dict[tuple[str, str], Conclusion] = {}
        file = lesson.folder / "solution.py"
        # A bundle for students holds no solution; then nothing can be named, but all can be graded.
        self.solution = Candidate("solution", read(file)) if file.is_file() else None
        for name in slow_imports(lesson):
            importlib.import_module(name)
        marked = [part for part in ("alternatives", "wrong_answers") if (lesson.folder / f"{part}.py").is_file()]
        self.answers = answers(_load(lesson, part) for part in marked)

    @property
    def reference(self) -> Candidate:
        """The solution.

        Raises:
            LessonError: the lesson has none.
        """
        if self.solution is None:
            raise LessonError(f"lesson {self.lesson.id}", "a file solution.py", got="none", fix="add it")
        return self.solution

    def checks(self, exercise: Exercise) -> list[Check]:
        """Return the checks of one exercise."""
        return [check for check in self._checks if check.exercise.id == exercise.id]

    def attempt(self, candidate: Candidate, check: Check) -> Attempt:
        """Run one check on a candidate, or return what came of it before."""
        key = (candidate.id, check.exercise.id)
        if key not in self._runs:
            benches = self._benches if candidate.id == LEARNER else in_this_process
            # A file that did not come to its end once is not executed again for every exercise.
            others = (run.unloadable for (owner, _), run in self._runs.items() if owner == candidate.id)
            unloadable = next((one for one in others if one is not None), None)
            seconds = math.inf if self._debugging else check.exercise.seconds
            self._runs[key] = ExerciseRun(
                candidate, check.exercise, self.seed, benches, seconds=seconds, unloadable=unloadable
            )
        return self._runs[key].attempt(check)

    def result(self, candidate: Candidate, check: Check) -> CheckResult:
        """Run one check on a candidate, and say what is found; a failure is named, which takes the other checks."""
        # Exercises are tiny: a second thread only spins, and made the proof of lesson 1 several times dearer.
        with threads(1):
            try:
                attempt = self._told_apart(self.attempt(candidate, check))
            except UserError as error:  # the lesson names something that does not exist
                return _result(Attempt(check, "grader error", (), 0.0, error=error), None)
            named = attempt.verdict == "fail" and bool(attempt.trace) and not self._debugging
            return _result(attempt, self._diagnosis(candidate, check.exercise) if named else None)

    def results(self, candidate: Candidate, exercise: Exercise) -> list[CheckResult]:
        """Run every check of an exercise on a candidate, and say what is found."""
        return [self.result(candidate, check) for check in self.checks(exercise)]

    def report(self, candidate: Candidate, exercise: Exercise) -> ExerciseReport:
        """Return the verdict of one exercise."""
        return judge_exercise(exercise, self.results(candidate, exercise))

    def with_seed(self, seed: int) -> Judge:
        """Return a judge with other inputs and nothing remembered; the lesson's files are not read again."""
        other = copy.copy(self)
        other.seed, other._runs, other._conclusions = seed, {}, {}
        return other

    def printed(self, candidate: Candidate, exercise: Exercise) -> str:
        """Return the last of what a candidate's code printed in an exercise; empty where it is shown elsewhere."""
        run = self._runs.get((candidate.id, exercise.id))
        return run.printed if run else ""

    def flags(self, candidate: Candidate, exercise: Exercise) -> list[str]:
        """Return what a person should look at in a candidate's code: it may be harmless, and costs no points."""
        run = self._runs.get((candidate.id, exercise.id))
        return list(_flags(self.lesson, exercise, run.mentions)) if run else []

    def let_go(self, candidate: Candidate, exercise: Exercise) -> None:
        """End the process that runs a candidate's code for an exercise; what came of it is remembered."""
        run = self._runs.get((candidate.id, exercise.id))
        if run is not None:
            run.close()

    def forget(self, candidate: Candidate) -> None:
        """Forget a candidate, so that another file may take its name."""
        for key in [key for key in self._runs if key[0] == candidate.id]:
            self._runs.pop(key).close()
        for key in [key for key in self._conclusions if key[0] == candidate.id]:
            del self._conclusions[key]

    def replacing(self, answer: Answer) -> Candidate:
        """Return the reference with one known answer in its place.

        Raises:
            LessonError: the lesson has no solution.
        """
        return Candidate(answer.id, self.reference.submission, {answer.replaces: answer.code})

    def _told_apart(self, attempt: Attempt) -> Attempt:
        """Return an attempt with our own faults marked as such: a check that refuses the reference is broken."""
        if attempt.verdict not in ("fail", "timeout"):
            return attempt
        if self.solution is None:
            ours = attempt.error is not None and not attempt.trace
            return replace(attempt, verdict="grader error") if ours else attempt
        reference = self.attempt(self.solution, attempt.check)
        # That the reference takes too long says that the machine is busy, which the learner's own code can bring about.
        if reference.verdict in ("pass", "timeout"):
            return replace(attempt, failure=attempt.failure or _unusable(attempt, reference))
        if attempt.trace is reference.trace:  # the reference itself is on trial
            return attempt
        error = reference.error or reference.failure
        return replace(attempt, verdict="grader error", failure=None, error=error)

    def _diagnosis(self, candidate: Candidate, exercise: Exercise) -> Conclusion:
        key = (candidate.id, exercise.id)
        if key not in self._conclusions:
            checks = {check.name: check for check in self.checks(exercise)}
            attempts = [self._told_apart(self.attempt(candidate, check)) for check in checks.values()]
            made = conclude(attempts, self._suspects(checks, exercise))
            if candidate.id == LEARNER and not (made.diagnosis and made.diagnosis.kind == "dialect"):
                made = replace(made, first=self._smallest(candidate, made.first))
            self._conclusions[key] = made
        return self._conclusions[key]

    def _suspects(self, checks: Mapping[str, Check], exercise: Exercise) -> list[Suspect]:
        """Return the known answers of an exercise; their checks are run when they are asked for."""
        suspects = []
        for answer in self.answers if self.solution else ():
            if answer.kind != "alternative" and answer.replaces in exercise.names:
                attempt = partial(self._replay, self.replacing(answer), checks)
                suspects.append(Suspect(answer, Replays(attempt, list(checks))))
        return suspects

    def _replay(self, known: Candidate, checks: Mapping[str, Check], name: str) -> Attempt:
        return self.attempt(known, checks[name])

    def _smallest(self, candidate: Candidate, attempt: Attempt) -> Attempt:
        """Return a failed attempt with the smallest input that still fails, where there is a reference to ask."""
        if self.solution is None:
            return attempt
        runs = [self._runs.get((one.id, attempt.check.exercise.id)) for one in (candidate, self.solution)]
        if None in runs:
            return attempt
        mine, theirs = (run.ask for run in runs if run)
        return with_smallest_input(attempt, mine, theirs, self.attempt(self.solution, attempt.check).trace)


def _load(lesson: Lesson, part: str) -> ModuleType:
    try:
        return catalog.load(lesson, part)
    except UserError:
        raise
    except Exception as error:
        where = str(lesson.folder / f"{part}.py")
        raise LessonError(where, "a file that can be imported", got=_short(error), fix="mend it there") from error


def slow_imports(lesson: Lesson) -> list[str]:
    """Return modules that PyTorch imports late and that take seconds: not to be in the learner's time."""
    # The compiler, when the first optimizer is made.
    optimizes = any("torch.optim" in file.read_text(encoding="utf-8") for file in lesson.folder.glob("*.py"))
    return ["torch._dynamo"] if optimizes else []


# With these, code can look into or around what grades it, or call a ready answer. None is needed for an exercise.
_ODD = (
    "ctypes", "gc", "inspect", "importlib", "subprocess", "socket", "multiprocessing", "exec", "eval", "_getframe",
    "__code__", "__closure__", "__globals__", "__subclasses__", "settrace", "setprofile", "open", "compile",
    "__import__", "builtins", "globals", "sys", "coursekit", "captum",
)  # fmt: skip


def _flags(lesson: Lesson, exercise: Exercise, mentions: Mapping[str, frozenset[str]]) -> Iterator[str]:
    others = {name for other in lesson.exercises if other is not exercise for name in other.names}
    mine = frozenset().union(*(names for owner, names in mentions.items() if owner not in others))
    for name in _ODD:
        if name in mine or f".{name}" in mine:
            yield f"the code uses `{name}`"
    for dotted in exercise.forbids:
        # A variable may well be called `adam`.
        if f".{dotted.rpartition('.')[2]}" in mine:
            yield f"the code names `{dotted.rpartition('.')[2]}`, and {exercise.code} forbids {dotted}"


def _unusable(attempt: Attempt, reference: Attempt) -> CheckFailure:
    """Explain an error that the check's own code met in an odd result of the learner's."""
    for mine, theirs in zip(attempt.trace, reference.trace, strict=False):
        found = difference(mine.outcome.value, theirs.outcome.value, mine.request.name, tolerance=None)
        if found:
            return CheckFailure(f"{found.where}: {found.says}", got=found.got, expected=found.expected)
    return CheckFailure(f"what came back could not be used: {type(attempt.error).__name__}")


def _result(attempt: Attempt, conclusion: Conclusion | None) -> CheckResult:
    diagnosis = conclusion.diagnosis if conclusion else None
    verdict, message = attempt.verdict, ""
    if verdict == "fail" and diagnosis and diagnosis.kind == "dialect":
        verdict = "pass with note"
    if verdict in ("not attempted", "skipped"):
        message = f"{attempt.failure}."
    elif verdict == "grader error":
        ours = f"The check {attempt.check.name} is broken, which is our fault and costs no points"
        message = f"{ours}: {_short(attempt.error)}"
    elif verdict != "pass":
        message = explain(*conclusion.of(attempt)) if conclusion else explain(attempt)
    named = diagnosis if verdict in ("fail", "pass with note") else None
    check = attempt.check
    return CheckResult(check.exercise.id, check.name, check.weight, verdict, message, round(attempt.seconds, 3), named)


def explain(attempt: Attempt, remarks: Sequence[tuple[str, str]] = ()) -> str:
    """Say what a failed check asked, what the code was given, what was expected and what came; one line each.

    Args:
        attempt: that failed.
        remarks: lines to add, each with a label.
    """
    failure = attempt.failure
    lines = [("asked", attempt.check.asks)]
    if failure is None:  # without a reference to compare with
        lines.append(("got", f"what came back could not be used: {_short(attempt.error)}"))
        return labelled([*lines, *remarks])
    given = ", ".join(f"{name} = {value}" for name, value in failure.inputs.items())
    if not given and attempt.trace:
        given = str(attempt.trace[-1].request)
    lines.append(("with", given))
    lines.append(("expected", failure.expected))
    lines.append(("got", failure.got))
    lines.append(("because", failure.says))
    if isinstance(failure, LearnerRaised):
        lines.append(("your line", failure.place))
    lines += [("note", note) for note in attempt.notes]
    return labelled([*lines, *remarks])


def _short(error: BaseException | None) -> str:
    text = str(error).strip()
    return printable(f"{type(error).__name__}: {text.splitlines()[0] if text else ''}", 300)
