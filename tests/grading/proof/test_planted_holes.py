"""The engine tests itself: a hole that is planted in a grader is reported, and where there is none, nothing is."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from coursekit import catalog
from coursekit.grading.authoring.stubs import exercise_names, stub_source
from coursekit.grading.proof.rows import Verification
from coursekit.grading.proof.verify import verify

from ..conftest import CHECKS, SOLUTION, TOML, WRONG, forget_lessons

# Nothing in it can be changed without an effect, so a survivor is a hole.
TIGHT = SOLUTION.replace("@torch.no_grad()\n", "")
TIGHT = TIGHT.replace("_divided(x.sum(), x.numel() + eps)\n", "(x.sum() + eps) / x.numel()\n")
CALLED = "close(learner.double(x), "
NULLS = {f"null-{kind}" for kind in ("none", "first-argument", "zeros", "nan", "empty")}
HEAD = '\n\n@pytest.mark.exercise("double")\ndef test_hole(learner, rng):\n    """A hole."""\n'


def reported(proof: Verification) -> set[str]:
    """Return the submissions whose rows are not as they must be."""
    assert not proof.ok
    return {row.submission for row in proof.rows if not row.ok}


@pytest.fixture
def tight(course):
    """The toy lesson, with stubs and without a hole."""
    course.write("solution.py", TIGHT)
    toml = TOML.replace(
        'names = ["average"]',
        'names = ["average"]\nequivalent = [\n  '
        + ",\n  ".join(f'{{ mutant = "{one}", because = "nobody asks for another eps than 0" }}' for one in EPS)
        + ",\n]",
    )
    course.write("lesson.toml", toml)
    course.write("exercises.py", stub_source(TIGHT, exercise_names(course.lesson)))
    return course


EPS = (
    "average: (x.sum() + eps) / x.numel() -> (x.sum() - eps) / x.numel()",
    "average: (x.sum() + eps) / x.numel() -> x.sum() / x.numel()",
)


def test_a_lesson_without_a_hole_is_clean(tight):
    proof = verify(tight.lesson, (0,))
    assert [row for row in proof.rows if not row.ok] == []
    assert proof.findings == ()


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        pytest.param("dtype=dtype)\n", "dtype=dtype).float()\n", {"rounds"}, id="no-float64"),
        pytest.param(f"{CALLED}2 * x", "got = learner.double(x)\n    close(got, got", {"null-zeros"}, id="itself"),
        pytest.param("2 * x, where", "2 * x, rtol=10, where", {"null-zeros"}, id="tolerance"),
        pytest.param(f"{CALLED}2 * x", "got = learner.double(x)\n    close(got, got * 1", {"null-zeros"}, id="theirs"),
        pytest.param("x = torch.tensor([3.0])", "x = torch.tensor([0.0])", {"null-zeros"}, id="zeros"),
        pytest.param("got[0], x.mean()", "x.mean(), x.mean()", NULLS, id="reference-twice"),
    ],
)  # fmt: skip
def test_a_check_that_is_loosened_is_reported(tight, old, new, found):
    text = CHECKS.replace(old, new)
    assert text != CHECKS
    tight.write("test_exercises.py", text)
    assert reported(verify(tight.lesson, (0,))) >= found


PROVES_NOTHING = {
    "holds-true": """
    learner.double(torch.ones(2))
    holds(True, "it doubles")
""",
    "catches-all": """
    try:
        close(learner.double(torch.ones(2)), 2, where="double(x)")
    except Exception:
        pass
""",
    "only-for-the-stub": """
    try:
        learner.double(torch.ones(2))
    except NotImplementedError:
        raise
""",
    "spares-none": """
    got = learner.double(torch.ones(2))
    if got is None:
        return
    close(got, 2 * torch.ones(2), where="double(x)")
""",
    "empty-loop": """
    for x in ():
        close(learner.double(x), 2 * x, where="double(x)")
    learner.double(torch.ones(2))
""",
    "only-the-type": """
    got = learner.double(torch.ones(2))
    holds(got is None or isinstance(got, torch.Tensor), "a tensor comes")
""",
}


@pytest.mark.parametrize("body", PROVES_NOTHING.values(), ids=PROVES_NOTHING)
def test_a_check_that_proves_nothing_is_reported(tight, body):
    """Each of them gives points for nothing."""
    tight.write("test_exercises.py", CHECKS.replace("import close", "import close, holds") + HEAD + body.lstrip("\n"))
    assert reported(verify(tight.lesson, (0,))) & NULLS


def test_a_check_that_is_deleted_is_reported(tight):
    many = CHECKS[CHECKS.index('@pytest.mark.exercise("T1")') : CHECKS.index('@pytest.mark.exercise("average")')]
    tight.write("test_exercises.py", CHECKS.replace(many, ""))
    assert "rounds" in reported(verify(tight.lesson, (0,)))


def test_all_checks_of_an_exercise_deleted_are_reported(tight):
    tight.write("test_exercises.py", CHECKS[: CHECKS.index('@pytest.mark.exercise("average")')])
    proof = verify(tight.lesson, (0,))
    assert "average has no check: write one in lessons/toy/test_exercises.py" in proof.findings


def test_points_moved_to_a_trivial_check_are_reported(tight):
    trivial = HEAD.replace("\ndef", "\n@pytest.mark.points(100)\ndef")
    body = "    holds(learner.double(torch.ones(2)) is not None, 'something comes')\n"
    tight.write("test_exercises.py", CHECKS.replace("import close", "import close, holds") + trivial + body)
    assert reported(verify(tight.lesson, (0,))) >= NULLS - {"null-none"}


def test_a_check_that_knows_the_named_mistakes_alone_is_reported(tight):
    """It refuses what the wrong answers return, and takes everything else: only mutants find that out."""
    spares = """
    got = learner.average(x=torch.tensor([1.0, 2.0, 6.0]))
    known = [9.0, 2.0, 6.0, 0.0, 1.0, 3.6968]
    number = float(got) if isinstance(got, torch.Tensor) and got.numel() == 1 else 0.0
    holds(number == number and not any(abs(number - bad) < 1e-2 for bad in known), "it is an average")
"""
    text = CHECKS[: CHECKS.index('@pytest.mark.exercise("average")')].replace("import close", "import close, holds")
    text += HEAD.replace("double", "average") + spares.lstrip("\n")
    tight.write("test_exercises.py", text)
    found = reported(verify(tight.lesson, (0,), exercise="average"))
    assert [one for one in found if one.startswith("average: ")], "mutants that live without a reason"


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        pytest.param("    return 3 * x", "    return 2 * x", {"triples"}, id="equals-the-solution"),
        pytest.param("    return x * x", "    return 3 * x", {"triples"}, id="twins"),
        pytest.param("x.sum() / (x.numel() - 1)", "x.sum() / x.numel()", {"unbiased"}, id="dialect-without-effect"),
    ],
)
def test_a_known_answer_that_is_not_what_it_says_is_reported(tight, old, new, found):
    tight.write("wrong_answers.py", WRONG.replace(old, new))
    assert reported(verify(tight.lesson, (0,))) == found


# ------------------------------------------------------------------------------ copies of lesson 1


@pytest.fixture
def lesson_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return the folder of a copy of lesson 1, in a course of its own."""
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "lessons"}
    path = list(sys.path)
    forget_lessons()
    real = Path(__file__).resolve().parents[3] / "lessons"
    folder = tmp_path / "lessons" / "optimization"
    shutil.copytree(real / "optimization", folder, ignore=shutil.ignore_patterns("__pycache__", "figures"))
    shutil.copy(real / "__init__.py", folder.parent)
    monkeypatch.setenv("COURSEKIT_ROOT", str(tmp_path))
    sys.path.insert(0, str(tmp_path))
    yield folder
    forget_lessons()
    sys.modules.update(kept)
    sys.path[:] = path


def planted(folder: Path, file: str, pattern: str, put: str, exercise: str) -> Verification:
    """Change a file of the lesson and prove one exercise."""
    text = (folder / file).read_text(encoding="utf-8")
    changed, count = re.subn(pattern, put, text, count=1, flags=re.DOTALL)
    assert count == 1, pattern
    (folder / file).write_text(changed, encoding="utf-8")
    return verify(catalog.lesson("optimization"), (0,), exercise=exercise, with_mutants=False)


def deleted(name: str) -> str:
    """Return a pattern for one check, from its mark to the next blank lines."""
    return rf"@pytest\.mark\.exercise\(\"\w+\"\)\n(?:@pytest[^\n]*\n)*def {name}\(.*?(?=\n\n\n|\Z)"


@pytest.mark.parametrize(
    ("exercise", "file", "pattern", "put", "found"),
    [
        ("O1", "test_exercises.py", deleted("test_sgd_returns_new_memory"), "", "buffer-shares-the-gradient"),
        ("O1", "test_exercises.py", r"EXACT = 1e-12", "EXACT = 10.0", "null-zeros"),
        ("O1", "test_exercises.py", r"close\(got, expected, where=f", "close(got, got, where=f", "null-zeros"),
        ("O5", "test_exercises.py", deleted("test_clip_in_place"), "", "rebinds-the-gradient"),
        ("O6", "test_exercises.py", deleted("test_schedule_only_warmup"), "", "divides-by-zero-without-a-fall"),
        ("O6", "wrong_answers.py", r"min \+ \(base - min\)", "min + 0.5 * (base - min)", "cosine-without-the-half"),
        ("O8", "probes.py", r"SGD\(\[\{.*?\}\], lr", "SGD(model.parameters(), lr", "schedules-the-first-group"),
        ("O8", "test_exercises.py", deleted("test_cycle_after_the_end"), "", "cycle-climbs-again"),
    ],
    ids=["memory", "tolerance", "itself", "in-place", "only-warmup", "equals", "one-group", "after-the-end"],
)  # fmt: skip
def test_holes_in_lesson_one_are_reported(lesson_one, exercise, file, pattern, put, found):
    assert found in reported(planted(lesson_one, file, pattern, put, exercise))


def test_a_copy_of_lesson_one_is_clean(lesson_one):
    proof = verify(catalog.lesson("optimization"), (0,), exercise="O1")
    assert proof.ok
    assert {row.kind for row in proof.rows} == {"stub", "solution", "alternative", "wrong", "mutant"}
