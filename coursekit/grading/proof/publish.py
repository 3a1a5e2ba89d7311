"""The published proof of a lesson: `VERIFIED.md`, the same text from the same lesson on every machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from coursekit.catalog import Exercise, Lesson
from coursekit.errors import LessonError
from coursekit.files import write_atomically
from coursekit.grading.answers import Answer
from coursekit.grading.proof.nulls import NULL_ANSWERS
from coursekit.grading.proof.rows import Survivor, Verification
from coursekit.grading.proof.verify import mutants_of

FILE = "VERIFIED.md"
_COLUMNS = {
    "alternative": "right otherwise",
    "dialect": "dialects",
    "wrong": "wrong",
    "null": "null",
    "mutant": "mutants",
}
_Counts = Mapping[str, Mapping[str, int]]  # for each exercise, how many submissions of each kind


def publish(lesson: Lesson, proof: Verification) -> Path:
    """Write the page of a lesson whose proof is whole.

    Raises:
        LessonError: something in the proof is not as it must be, or it leaves something out.
        OutputError: the file cannot be written.
    """
    where = f"verify {lesson.id} --publish"
    if not proof.ok:
        raise LessonError(where, "a proof without a gap", got="the rows and findings above", fix="mend these first")
    if {row.exercise for row in proof.rows} != {exercise.id for exercise in lesson.exercises} or not proof.operators:
        fix = "leave out --exercise and --no-mutants"
        raise LessonError(where, "the proof of the whole lesson", got="a part of it", fix=fix)
    return write_atomically(lesson.folder / FILE, page(lesson, proof))


def page(lesson: Lesson, proof: Verification) -> str:
    """Return the text of `VERIFIED.md`; it holds no date and no time."""
    killed = sum(died for died, _ in proof.operators.values())
    made = sum(total for _, total in proof.operators.values())
    changes = [f"| {name} | {total} | {died} |" for name, (died, total) in sorted(proof.operators.items())]
    lines = [
        f"# How the graders of *{lesson.id}* were proved",
        "",
        f"Written by `coursekit verify {lesson.id} --publish`. Do not edit it by hand, and do not show it to learners:",
        "it quotes the solution. Every stub is *not attempted*; every solution, and what is right otherwise, passes;",
        "every dialect passes with its own note; every wrong answer fails and is recognised as itself; every answer",
        "that does no work (*null*) gets no point.",
        "",
        f"Inputs were drawn with {_seeds(proof.seeds)}.",
        "",
        _table(lesson, _counted(proof)),
        "",
        "## Machine-made mutants",
        "",
        f"Each makes one small change to a solution. {killed} of {made} die ({100 * killed / max(made, 1):.1f} %).",
        "",
        "| change | made | died |",
        "|---|---:|---:|",
        *changes,
        "",
        "## Mutants that survive, and why they are right",
        "",
        *[_line(lesson.exercise(one.exercise), one) for one in proof.survivors],
    ]
    return "\n".join(lines).rstrip() + "\n"


def stale(lesson: Lesson, answers: Sequence[Answer], solution_text: str, text: str) -> list[str]:
    """Return what a page does not say of the lesson as it is now, found without running anything.

    Args:
        lesson: from the catalogue.
        answers: of the lesson.
        solution_text: the text of its `solution.py`.
        text: of the page.
    """
    counts = {
        exercise.id: Counter(
            {"null": len(NULL_ANSWERS), "mutant": len(mutants_of(lesson, exercise, solution_text))}
            | Counter(answer.kind for answer in answers if answer.replaces in exercise.names)
        )
        for exercise in lesson.exercises
    }
    wanted = _table(lesson, counts).splitlines()
    for exercise in lesson.exercises:
        wanted += [_line(exercise, Survivor(exercise.id, one.mutant, one.because)) for one in exercise.equivalent]
    written = set(text.splitlines())
    return [line for line in wanted if line not in written]


def _counted(proof: Verification) -> _Counts:
    counts: dict[str, Counter[str]] = {}
    for row in proof.rows:
        null = row.submission in NULL_ANSWERS
        counts.setdefault(row.exercise, Counter())["null" if null else row.kind] += 1
    return counts


def _table(lesson: Lesson, counts: _Counts) -> str:
    lines = [f"| exercise | {' | '.join(_COLUMNS.values())} |", f"|---|{'---:|' * len(_COLUMNS)}"]
    for exercise in lesson.exercises:
        cells = [str(counts.get(exercise.id, {}).get(kind, 0)) for kind in _COLUMNS]
        lines.append(f"| {exercise.code} {exercise.title} | {' | '.join(cells)} |")
    sums = [str(sum(of.get(kind, 0) for of in counts.values())) for kind in _COLUMNS]
    return "\n".join([*lines, f"| together | {' | '.join(sums)} |"])


def _line(exercise: Exercise, survivor: Survivor) -> str:
    return f"- {exercise.code}, `{survivor.mutant}`: {survivor.because}"


def _seeds(seeds: Sequence[int]) -> str:
    listed = list(seeds)
    if len(listed) > 1 and listed == list(range(listed[0], listed[-1] + 1)):
        return f"the seeds {listed[0]} to {listed[-1]}"
    return f"the seed{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"
