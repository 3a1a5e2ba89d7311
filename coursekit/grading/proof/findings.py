"""What is missing in a lesson, in sentences that name the file to open."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from coursekit.catalog import Exercise, Lesson
from coursekit.errors import LessonError
from coursekit.grading.answers import Answer
from coursekit.grading.authoring.stubs import body_lines, drift, exercise_names
from coursekit.grading.checks import FILE, Check

ALTERNATIVES = 2  # that each exercise needs, at least
WRONG_ANSWERS = 5
PLACEHOLDER = "TODO"  # what `coursekit new` writes where the author's words belong
_LEAK = 12  # characters, without blanks, from which a line of the solution gives the answer away

_WANTED = (("alternative", ALTERNATIVES, "alternatives.py"), ("wrong", WRONG_ANSWERS, "wrong_answers.py"))
# The author's own files: exercises.py belongs to the learner.
_FILES = ("README.md", "lesson.toml", "config.py", "lesson.py", "solution.py", "alternatives.py", "wrong_answers.py")
_FILES += ("probes.py", FILE)


def findings(
    lesson: Lesson,
    exercises: Sequence[Exercise],
    checks: Sequence[Check],
    answers: Sequence[Answer],
    solution_text: str,
) -> Iterator[str]:
    """Yield what is missing in a lesson.

    Args:
        lesson: from the catalogue.
        exercises: of the lesson, that are looked at.
        checks: of the lesson.
        answers: of the lesson.
        solution_text: the text of `solution.py`.
    """
    yield from _of_the_lesson(lesson, answers)
    for exercise in exercises:
        if not any(check.exercise.id == exercise.id for check in checks):
            yield f"{exercise.id} has no check: write one in {place(lesson, FILE)}"
        for kind, least, file in _WANTED:
            count = sum(answer.kind == kind and answer.replaces in exercise.names for answer in answers)
            if count < least:
                more = f"write more in {place(lesson, file)}"
                yield f"{exercise.id} has {count} of kind {kind}, and needs {least}: {more}"
        yield from _hints(lesson, exercise, solution_text)
    yield from _stubs(lesson, exercises, solution_text)


def vacuous(lesson: Lesson, checks: Sequence[Check]) -> Iterator[str]:
    """Yield a sentence for each check that never refused what a wrong answer or a mutant returned.

    Args:
        lesson: from the catalogue.
        checks: that did not.
    """
    for check in checks:
        if not check.skip:
            says = "never refuses what a wrong answer or a mutant returns: it proves nothing"
            yield f"{check.name} {says}; mend it in {place(lesson, FILE)}"


def place(lesson: Lesson, file: str) -> str:
    """Return the path of a lesson's file as an author in the course's folder types it."""
    return str(Path("lessons", lesson.id, file))


def _of_the_lesson(lesson: Lesson, answers: Sequence[Answer]) -> Iterator[str]:
    known = exercise_names(lesson)
    for answer in answers:
        if answer.replaces not in known:
            file = "alternatives.py" if answer.kind == "alternative" else "wrong_answers.py"
            says = f"{answer.id} replaces {answer.replaces}, which no exercise asks for"
            yield f"{says}: mend it in {place(lesson, file)}"
    minutes = sum(exercise.minutes for exercise in lesson.exercises)
    if minutes > lesson.minutes:
        says = f"the lesson takes {lesson.minutes} minutes, and its exercises together {minutes}"
        yield f"{says}: mend `minutes` in {place(lesson, 'lesson.toml')}"
    for name in _FILES:
        file = lesson.folder / name
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        for number, line in enumerate(lines, start=1):
            if re.search(rf"\b{PLACEHOLDER}\b", line):
                says = line[line.index(PLACEHOLDER) + len(PLACEHOLDER) :].strip(" :\"',-]>")
                yield f"still to be written in {place(lesson, name)}, line {number}: {says or 'see there'}"


def _hints(lesson: Lesson, exercise: Exercise, solution_text: str) -> Iterator[str]:
    file = place(lesson, "lesson.toml")
    if len({" ".join(hint.lower().split()) for hint in exercise.hints}) < len(exercise.hints):
        yield f"{exercise.id} has a hint twice, and needs three of rising strength: mend it in {file}"
    lines = {re.sub(r"\s+", "", line) for line in body_lines(solution_text, exercise.names)}
    for number, hint in enumerate(exercise.hints, start=1):
        shown = re.sub(r"\s+", "", hint)
        if not shown:
            yield f"{exercise.id} has an empty hint {number}: write it in {file}"
        for line in sorted(line for line in lines if len(line) >= _LEAK and line in shown):
            yield f"{exercise.id} gives a line of the solution away in hint {number} (`{line}`): mend it in {file}"


def _stubs(lesson: Lesson, exercises: Sequence[Exercise], solution_text: str) -> Iterator[str]:
    file = lesson.folder / "exercises.py"
    where, fix = place(lesson, "exercises.py"), f"make it with `coursekit stubs {lesson.id}`"
    if not file.is_file():
        yield f"{where} is missing: {fix}"
        return
    names = [name for exercise in exercises for name in exercise.names]
    try:
        changes = drift(file.read_text(encoding="utf-8"), solution_text, names)
    except (LessonError, UnicodeDecodeError) as error:
        changes = [str(error)]
    yield from (f"{where}: {change}" for change in changes)
