"""Collecting a lesson's checks, and the answers whose verdicts are known."""

from __future__ import annotations

import sys

import pytest

from coursekit import catalog
from coursekit.errors import LessonError
from coursekit.grading.answers import answers
from coursekit.grading.checks import collect, lesson_in

from .conftest import CHECKS


def test_checks_are_collected_with_exercise_weight_and_parameters(course):
    found = course.checks()
    assert [(check.name, check.exercise.id, check.weight) for check in found] == [
        ("test_one", "double", 1),
        ("test_many[f64]", "double", 3),
        ("test_average", "average", 1),
    ]
    assert found[0].asks == "One number doubles."
    assert str(found[1].parameters) == "{'dtype': torch.float64}"


def test_statistical_checks_are_marked(course):
    marked = CHECKS.replace(
        '@pytest.mark.exercise("average")', '@pytest.mark.exercise("average")\n@pytest.mark.statistical'
    )
    course.write("test_exercises.py", marked)
    assert [check.statistical for check in course.checks()] == [False, False, True]


CHECK = 'import pytest\n@pytest.mark.exercise("double")\n{marks}\ndef test_a({arguments}):\n    {docstring}\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CHECK.format(marks="", arguments="learner", docstring="pass"), "a docstring: what the check asks for"),
        (CHECK.format(marks="", arguments="learner, tmp_path", docstring='"""A."""'), "Got the fixture tmp_path"),
        (CHECK.format(marks="", arguments="rng", docstring='"""A."""'), "Got no learner"),
        (CHECK.format(marks="@pytest.mark.points(0)", arguments="learner", docstring='"""A."""'), "Got 0. Fix"),
        (CHECK.format(marks="@pytest.mark.points(True)", arguments="learner", docstring='"""A."""'), "Got True. Fix"),
        (CHECK.format(marks="", arguments="learner", docstring='"""A."""').replace("double", "dubble"), "did you mean"),
        (
            CHECK.format(marks="", arguments="learner", docstring='"""A."""').replace('("double")', "()"),
            "marked exercise",
        ),
        ("import no_such_module", "checks that pytest can collect"),
        ("def test_a(:", "checks that pytest can collect"),
    ],
    ids=["docstring", "fixture", "learner", "zero", "bool", "unknown", "unnamed", "import", "syntax"],
)
def test_what_is_no_check_is_refused(course, text, words):
    course.write("test_exercises.py", text)
    with pytest.raises(LessonError, match=words):
        course.checks()


def test_a_lesson_without_checks_is_refused(course):
    (course.folder / "test_exercises.py").unlink()
    with pytest.raises(LessonError, match=r"a file test_exercises.py. Got none"):
        collect(course.lesson)


def test_a_lesson_is_found_by_its_folder(course, monkeypatch):
    assert lesson_in(course.folder).id == "toy"
    with pytest.raises(LessonError, match=r"a lesson of the course\. Got a folder outside of it"):
        lesson_in(course.root)
    monkeypatch.delenv("COURSEKIT_ROOT")
    monkeypatch.setattr(catalog, "__file__", "/nowhere/coursekit/catalog.py")
    monkeypatch.chdir("/")
    assert lesson_in(course.folder).id == "toy"
    monkeypatch.delenv("COURSEKIT_ROOT")
    with pytest.raises(LessonError, match="a lesson of the course"):
        lesson_in(course.root)


def test_answers_are_found_in_order(course):
    found = answers([catalog.load(course.lesson, "wrong_answers"), catalog.load(course.lesson, "alternatives")])
    assert [answer.id for answer in found[:3]] == ["squares", "triples", "rounds"]
    assert [(one.kind, one.replaces, one.says) for one in found if one.kind == "dialect"] == [
        ("dialect", "average", "Divided by n - 1: the unbiased kind.")
    ]
    assert found[0].code(3) == 9
    assert found[-1].kind == "alternative"


def test_two_answers_of_one_name_are_refused(course):
    course.write(
        "alternatives.py",
        "from coursekit.grading.answers import alternative\n"
        + 2
        * """
@alternative("double", says="again")
def again(x):
    return x
""",
    )
    with pytest.raises(LessonError, match=r"answers with names of their own\. Got again twice"):
        answers([catalog.load(course.lesson, "alternatives")])


def test_marking_answers_loads_no_torch():
    """Nor does the plugin, which every pytest run on the machine loads."""
    import subprocess

    code = (
        "import sys, coursekit.grading.answers, coursekit.grading.plugin, coursekit.grading.authoring.stubs\n"
        "import coursekit.grading.verdicts, coursekit.grading.submission, coursekit.grading.saves\n"
        "import coursekit.grading.authoring.restore, coursekit.grading.reporting\n"
        "print([name for name in ('torch', 'numpy', 'lightning', 'torchmetrics') if name in sys.modules])"
    )
    heavy = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert heavy.strip() == "[]"
    code = "import sys, coursekit.grading.plugin; print([n for n in ('pydantic', 'yaml') if n in sys.modules])"
    heavy = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert heavy.strip() == "[]"
