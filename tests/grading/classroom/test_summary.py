"""What a class shows as a whole."""

from __future__ import annotations

import pytest

from coursekit.grading.classroom.gradebook import Record
from coursekit.grading.classroom.similarity import Pair
from coursekit.grading.classroom.summary import lines, summarize

from .records import graded, part

SUMS = ("sums", "You did not divide.")


def fails(message: str = "asked:     The average.\ngot:       3", diagnosis=None):
    return part("average", "fail", 0, 2, message, diagnosis)


def right():
    return part("average", points=2, max_points=2)


def tell(records, lesson, *pairs, **more):
    made = summarize(records, lesson, pairs, **more)
    return made, "\n".join(lines(made))


def test_verdicts_scores_and_mistakes_are_counted(course):
    records = [
        graded("ann", part("double"), fails(diagnosis=SUMS)),
        graded("bob", part("double"), fails(diagnosis=SUMS)),
        graded("cat", part("double"), right()),
        Record("dan", "dan", "dan.zip", problem="An archive."),
    ]
    made, text = tell(records, course.lesson, left_out=["readme.txt"])
    assert (made["submissions"], made["graded"]) == (4, 3)
    assert made["scores"] == {"mean": 4.6667, "median": 4, "lowest": 4, "highest": 6}
    assert made["exercises"][1] == {
        "id": "average",
        "code": "T2",
        "points": 2,
        "mean": 0.6667,
        "verdicts": {"fail": 2, "pass": 1},
    }
    (mistake,) = made["mistakes"]
    assert (mistake["count"], mistake["id"], mistake["students"]) == (2, "sums", ["ann", "bob"])
    assert made["not_graded"][0]["problem"] == "An archive."
    assert made["isolation"] == ["full"]
    for words in ("T2 average", "2  average: You did not divide. (sums)", "dan (dan.zip): An archive.", "readme.txt"):
        assert words in text


def test_a_dialect_is_no_mistake(course):
    made, _ = tell([graded("ann", part("average", "pass with note", 2, 2, "n - 1", SUMS))], course.lesson)
    assert made["mistakes"] == []


def suspicious(records, course):
    return [
        (one["exercise"], one["rejected"], one["check"])
        for one in tell(records, course.lesson)[0]["suspicious"]["found"]
    ]


@pytest.mark.parametrize(
    ("failing", "passing", "named", "found"),
    [
        (4, 2, True, [("average", 4, "")]),
        (3, 3, True, []),
        (4, 0, True, []),
        (2, 4, False, [("average", 2, "The average.")]),
        (1, 4, False, []),
        (5, 0, False, [("average", 5, ""), ("average", 5, "The average.")]),
    ],
    ids=["two thirds", "half", "too few", "one check", "one student", "all"],
)
def test_an_exercise_that_rejects_suspiciously_many_is_listed(course, failing, passing, named, found):
    wrong = part("double", "fail", 0, 4, "x", SUMS)
    records = [graded(f"f{n}", wrong, fails(diagnosis=SUMS if named else None)) for n in range(failing)]
    records += [graded(f"p{n}", part("double"), right()) for n in range(passing)]
    records += [graded(f"n{n}", part("double"), part("average", "not attempted", 0, 2)) for n in range(9)]
    listed = [one for one in suspicious(records, course) if one[0] == "average"]
    assert listed == found


def test_an_exercise_that_rejects_the_strong_is_listed(course):
    strong = [graded(f"s{n}", part("double"), fails(diagnosis=SUMS)) for n in range(3)]
    weak = [graded(f"w{n}", part("double", points=0), right()) for n in range(9)]
    assert suspicious(strong + weak, course) == [("average", 3, "")]
    assert suspicious(strong[:2] + weak, course) == []


def test_files_that_hold_nothing_of_the_lesson_do_not_count(course):
    records = [graded(f"f{n}", part("double", points=0), fails(), stray=True) for n in range(9)]
    assert suspicious(records, course) == []


def test_pairs_and_flags_are_told_by_name(course):
    records = [
        Record("ann", "ann", "ann.py", {"score": 1, "isolation": "full"}, flags=("look here",)),
        Record("ann", "ann-2", "ann/x.py", {"score": 1, "isolation": "full"}),
    ]
    made, text = tell(records, course.lesson, Pair("ann", "ann-2", 0.912, ("double",), False), not_compared=["ann-2"])
    (pair,) = made["similar"]["pairs"]
    assert (pair["first"], pair["second"], pair["functions"]) == ("ann (ann.py)", "ann (ann/x.py)", ["double"])
    assert made["similar"]["not_compared"] == ["ann (ann/x.py)"]
    assert "ann (ann.py) and ann (ann/x.py): 91%" in text
    assert "ann (ann.py): look here" in text


def test_long_lists_are_cut_on_paper_and_not_in_the_file(course):
    records = [graded(f"s{n}", part("double"), flags=("look",)) for n in range(40)]
    made, text = tell(records, course.lesson)
    assert len(made["flags"]) == 40
    assert text.count(": look") == 12
    assert "and 28 more, in summary.json" in text


def test_a_class_without_a_single_grade_is_told(course):
    made, text = tell([Record("ann", "ann", "ann.py", problem="No.")], course.lesson)
    assert (made["scores"], made["exercises"][0]["mean"]) == ({}, None)
    assert "NOT GRADED:" in text
