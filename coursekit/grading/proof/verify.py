"""Proof of a lesson's checks: what must pass passes, what must fail fails, and every known mistake is named.

submission                expected
the stub                  not attempted
the solution              pass
every alternative         pass
every dialect             pass with note, and the note is its own
every wrong answer        fail, and the diagnosis is its own
every null answer         fail, without a single point (`null-zeros`, `null-none`, ...; listed as `wrong`)
every mutant              fail, timeout or crashed; one that survives is declared equivalent, or is a dialect
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from coursekit.catalog import Exercise, Lesson
from coursekit.errors import ArgumentError
from coursekit.grading.authoring.stubs import exercise_names, stub_source
from coursekit.grading.checks import Check, collect
from coursekit.grading.judge import Judge
from coursekit.grading.proof.findings import findings, place, vacuous
from coursekit.grading.proof.hunt import Fate, Hunt
from coursekit.grading.proof.mutants import Mutant, mutants
from coursekit.grading.proof.nulls import null_answers
from coursekit.grading.proof.rows import Row, RowKind, Survivor, Verification
from coursekit.grading.runs import Candidate
from coursekit.grading.submission import parse
from coursekit.grading.verdicts import Verdict, judge_exercise
from coursekit.runtime import threads

Progress = Callable[[int, int, str], None]  # rows done, rows in all, the exercise
_Known = tuple[RowKind, Candidate, Verdict]


def verify(
    lesson: Lesson,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    exercise: str | None = None,
    with_mutants: bool = True,
    progress: Progress = lambda *_: None,
) -> Verification:
    """Put every submission whose verdict is known through a lesson's checks.

    Args:
        lesson: from the catalogue.
        seeds: of the inputs; a row must be as expected with each of them.
        exercise: id or code of the only exercise to look at; None looks at all.
        with_mutants: make mutants of the solution too.
        progress: told after each row.

    Raises:
        ArgumentError: there are no seeds.
        LessonError: a file of the lesson is missing or not well formed, or there is no such exercise.
    """
    if not seeds:
        raise ArgumentError("verify", "at least one seed", got="none", fix="give seeds, such as (0, 1, 2)")
    chosen = lesson.exercises if exercise is None else (lesson.exercise(exercise),)
    checks = collect(lesson)
    proof = _Proof(lesson, checks, seeds, chosen, with_mutants, progress)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), threads(1):
        for one in chosen:
            proof.add(one)
    solution = proof.judges[0].reference.submission.text
    missing = [*findings(lesson, chosen, checks, proof.judges[0].answers, solution), *proof.findings]
    operators = {name: (proof.killed[name], total) for name, total in sorted(proof.made.items())}
    return Verification(tuple(proof.rows), tuple(missing), tuple(seeds), operators, tuple(proof.survivors))


class _Proof:
    """A proof in the making."""

    def __init__(
        self,
        lesson: Lesson,
        checks: Sequence[Check],
        seeds: Sequence[int],
        exercises: Sequence[Exercise],
        with_mutants: bool,
        progress: Progress,
    ) -> None:
        self.rows: list[Row] = []
        self.findings: list[str] = []
        self.survivors: list[Survivor] = []
        self.made: Counter[str] = Counter()  # mutants of each operator
        self.killed: Counter[str] = Counter()
        self.judges = [Judge(lesson, checks, seed) for seed in seeds]
        self._lesson = lesson
        self._checks = checks
        self._seeds = seeds
        self._progress = progress
        self._noticed: set[str] = set()  # names of checks that refused a wrong answer
        solution = self.judges[0].reference.submission
        stub = parse(stub_source(solution.text, exercise_names(lesson)), lesson.folder / "exercises.py")
        self._known = {one.id: list(_known(self.judges[0], one, Candidate("stub", stub))) for one in exercises}
        self._mutants: dict[str, tuple[Mutant, ...]] = {one.id: () for one in exercises}
        if with_mutants:
            self._mutants = {one.id: mutants_of(lesson, one, solution.text) for one in exercises}
        self._with_mutants = with_mutants
        self._total = sum(map(len, [*self._known.values(), *self._mutants.values()]))

    def add(self, exercise: Exercise) -> None:
        """Prove one exercise."""
        known = [self._row(exercise, *submission) for submission in self._known[exercise.id]]
        checks = [check for check in self._checks if check.exercise.id == exercise.id]
        # A check that refuses the solution would kill every mutant, and prove nothing by it.
        refused = any(row.kind == "solution" and not row.ok for row in known)
        if not self._with_mutants or refused or not checks:
            return
        hunt = Hunt(self._lesson, exercise, self._checks, self._seeds, {one.name for one in checks} - self._noticed)
        declared = {entry.mutant: entry.because for entry in exercise.equivalent}
        for mutant in self._mutants[exercise.id]:
            fate = hunt.fate(mutant)
            if fate.verdict == "timeout" and mutant.id in declared:
                fate = hunt.fate(mutant, patient=True)
            self._told(exercise, mutant, fate, declared.pop(mutant.id, None))
        file = place(self._lesson, "lesson.toml")
        for name in declared:
            self.findings.append(f"{exercise.id} declares `{name}` equivalent, and there is no such mutant: see {file}")
        self.findings += vacuous(self._lesson, [one for one in checks if one.name in hunt.unproven])

    def _row(self, exercise: Exercise, kind: RowKind, candidate: Candidate, expected: Verdict) -> Row:
        """Add the row of the first seed that is not as it must be, or that of the last."""
        null = candidate.id.startswith("null-")
        for judge in self.judges:
            results = judge.results(candidate, exercise)
            report = judge_exercise(exercise, results)
            named = report.diagnosis.id if report.diagnosis else None
            if kind == "wrong" and not null:
                self._noticed.update(one.check for one in results if one.verdict == "fail")
            if null or kind == "stub":
                right = report.points == 0
            elif kind in ("wrong", "dialect"):
                right = named == candidate.id
            else:
                right = report.points == report.max_points
            ok = report.verdict == expected and right
            row = Row(self._lesson.id, exercise.id, candidate.id, kind, expected, report.verdict, named, ok)
            if not ok:
                break
        self._add(row)  # pyright: ignore[reportPossiblyUnboundVariable]  there is at least one seed
        return row  # pyright: ignore[reportPossiblyUnboundVariable]

    def _told(self, exercise: Exercise, mutant: Mutant, fate: Fate, because: str | None) -> None:
        self.made[mutant.operator] += 1
        expected: Verdict = "fail"
        if fate.survived:
            reason = because or (f"a dialect: {fate.note.says}" if fate.note else "")
            self.survivors.append(Survivor(exercise.id, mutant.id, reason))
            expected = fate.verdict if reason else "fail"
        else:
            self.killed[mutant.operator] += 1
            if because:
                expected = "pass"
                file = place(self._lesson, "lesson.toml")
                says = f"{exercise.id} declares `{mutant.id}` equivalent, and {fate.check} refuses it"
                self.findings.append(f"{says}: take it out of {file}, or mend the check")
        ok = fate.verdict == expected or (expected == "fail" and not fate.survived)
        note = fate.note.id if fate.note else None
        self._add(Row(self._lesson.id, exercise.id, mutant.id, "mutant", expected, fate.verdict, note, ok))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        self._progress(len(self.rows), self._total, row.exercise)


def mutants_of(lesson: Lesson, exercise: Exercise, solution_text: str) -> tuple[Mutant, ...]:
    """Return the mutants of one exercise; what the other exercises ask for is left as it is.

    Args:
        lesson: from the catalogue.
        exercise: of the lesson.
        solution_text: the text of `solution.py`.

    Raises:
        LessonError: the solution is not Python, or lacks a name.
    """
    others = [name for one in lesson.exercises if one.id != exercise.id for name in one.names]
    return mutants(solution_text, exercise.names, others)


def _known(judge: Judge, exercise: Exercise, stub: Candidate) -> Iterator[_Known]:
    yield "stub", stub, "not attempted"
    yield "solution", judge.reference, "pass"
    expected: dict[str, Verdict] = {"alternative": "pass", "dialect": "pass with note", "wrong": "fail"}
    for answer in judge.answers:
        if answer.replaces in exercise.names:
            yield answer.kind, judge.replacing(answer), expected[answer.kind]
    for name, replaced in null_answers(_written(judge.reference, exercise)).items():
        yield "wrong", Candidate(name, judge.reference.submission, replaced), "fail"


def _written(solution: Candidate, exercise: Exercise) -> dict[str, Any]:
    """Return the solution's own functions and classes of an exercise."""
    names: dict[str, Any] = {"__name__": "solution"}
    exec(compile(solution.submission.text, str(solution.submission.path), "exec"), names)
    return {name: names[name] for name in exercise.names}
