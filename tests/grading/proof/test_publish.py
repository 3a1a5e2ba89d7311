"""The published proof of a lesson, and how it is known to be out of date."""

from __future__ import annotations

import pytest

from coursekit import catalog
from coursekit.errors import LessonError
from coursekit.grading.answers import answers
from coursekit.grading.authoring.stubs import exercise_names, stub_source
from coursekit.grading.proof.publish import FILE, page, publish, stale
from coursekit.grading.proof.verify import verify

from ..conftest import SOLUTION, TOML, WRONG

TIGHT = SOLUTION.replace("@torch.no_grad()\n", "").replace(", eps: float = 0.0", "")
TIGHT = TIGHT.replace("_divided(x.sum(), x.numel() + eps)\n", "x.sum() / x.numel()\n")
LIVES = "double: return 1 * (2 * x) -> return 2 * x"
PAGE = """# How the graders of *toy* were proved

Written by `coursekit verify toy --publish`. Do not edit it by hand, and do not show it to learners:
it quotes the solution. Every stub is *not attempted*; every solution, and what is right otherwise, passes;
every dialect passes with its own note; every wrong answer fails and is recognised as itself; every answer
that does no work (*null*) gets no point.

Inputs were drawn with the seeds 0 to 1.

| exercise | right otherwise | dialects | wrong | null | mutants |
|---|---:|---:|---:|---:|---:|
| T1 Doubling | 2 | 0 | 5 | 5 | 14 |
| T2 Average | 2 | 1 | 5 | 5 | 7 |
| together | 4 | 1 | 10 | 10 | 21 |

## Machine-made mutants

Each makes one small change to a solution. 20 of 21 die (95.2 %).
"""


@pytest.fixture
def proved(course):
    """The toy lesson with stubs, and with one mutant that is declared equivalent."""
    solution = course.write("solution.py", TIGHT.replace("return 2 * x", "return 1 * (2 * x)"))
    because = f'equivalent = [{{ mutant = "{LIVES}", because = "it multiplies by one, no more" }}]\n'
    course.write("lesson.toml", TOML.replace('names = ["double"]\n', f'names = ["double"]\n{because}'))
    course.write("exercises.py", stub_source(solution.read_text(), exercise_names(course.lesson)))
    return course


def known(course):
    return answers(catalog.load(course.lesson, part) for part in ("alternatives", "wrong_answers"))


def test_the_page_says_what_was_proved_and_nothing_of_when(proved):
    proof = verify(proved.lesson, (0, 1))
    text = page(proved.lesson, proof)
    assert text[: len(PAGE)] == PAGE
    assert text.endswith(
        "## Mutants that survive, and why they are right\n\n"
        f"- T1, `{LIVES}`: it multiplies by one, no more\n"
    )  # fmt: skip
    assert text == page(proved.lesson, verify(proved.lesson, (0, 1)))
    assert publish(proved.lesson, proof) == proved.folder / FILE
    assert (proved.folder / FILE).read_text() == text


@pytest.mark.parametrize(
    ("file", "old", "new", "line"),
    [
        ("wrong_answers.py", WRONG, WRONG[: WRONG.index('@wrong("average", says="You took the root')], "| T2 Average"),
        ("solution.py", "x.sum() / x.numel()", "(x.sum() / x.numel()) * 1", "| T2 Average"),
        ("lesson.toml", "no more", "and no more", f"- T1, `{LIVES}`: it multiplies by one, and no more"),
    ],
    ids=["answer", "mutants", "reason"],
)
def test_a_page_that_is_out_of_date_is_known_without_a_run(proved, file, old, new, line):
    text = page(proved.lesson, verify(proved.lesson, (0,)))
    solution = proved.folder / "solution.py"
    assert stale(proved.lesson, known(proved), solution.read_text(), text) == []
    changed = (proved.folder / file).read_text().replace(old.lstrip("\n"), new.lstrip("\n"))
    (proved.folder / file).write_text(changed)
    catalog._lessons.cache_clear()
    answered = known(proved) if file != "wrong_answers.py" else known(proved)[:-1]
    found = stale(proved.lesson, answered, solution.read_text(), text)
    assert [one for one in found if one.startswith(line)]


def test_a_proof_with_a_gap_is_not_published(proved):
    with pytest.raises(LessonError, match=r"a proof without a gap\. Got the rows and findings above"):
        publish(proved.lesson, verify(catalog.lesson("toy").model_copy(update={"minutes": 1}), (0,)))
    assert not (proved.folder / FILE).exists()


@pytest.mark.parametrize("part", [{"exercise": "T1"}, {"with_mutants": False}], ids=["exercise", "no-mutants"])
def test_a_part_of_the_proof_is_not_published(proved, part):
    with pytest.raises(LessonError, match=r"the proof of the whole lesson\. Got a part of it"):
        publish(proved.lesson, verify(proved.lesson, (0,), **part))
