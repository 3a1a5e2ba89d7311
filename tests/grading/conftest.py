"""Made-up lessons for the tests of grading: two exercises, written into a temporary folder."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coursekit import catalog
from coursekit.catalog import Lesson
from coursekit.grading.checks import Check, collect
from coursekit.grading.judge import Judge
from coursekit.grading.runs import Candidate
from coursekit.grading.submission import parse, read
from coursekit.grading.verdicts import CheckResult, ExerciseReport

TOML = """
title = "Toy"
order = 1
minutes = 5
goal = "Double numbers, and take their mean."

[[exercises]]
id = "double"
code = "T1"
title = "Doubling"
names = ["double"]
points = 4
difficulty = 1
minutes = 1
seconds = 20
hints = ["one", "two", "three"]
source = "arithmetic"
explanation = "Doubling adds a number to itself."
forbids = ["torch.add"]

[[exercises]]
id = "average"
code = "T2"
title = "Average"
names = ["average"]
points = 2
difficulty = 1
minutes = 1
seconds = 20
hints = ["one", "two", "three"]
source = "arithmetic"
explanation = "The average is the sum over the count."
"""

SOLUTION = '''
"""Reference solutions of the toy lesson.

Tensors in, tensors out.
"""

from __future__ import annotations

import math
import torch
from torch import Tensor


def double(x: Tensor) -> Tensor:
    """Return 2x, for x of any shape."""
    return 2 * x


@torch.no_grad()
def average(x: Tensor, eps: float = 0.0) -> Tensor:
    """Return the average of x (n,), with eps added to the count."""
    return _divided(x.sum(), x.numel() + eps)


def _divided(a, b):
    return a / b if math.isfinite(b) else 0 * a
'''

CHECKS = '''
import pytest
import torch

from coursekit.grading import close
from lessons.toy import probes


@pytest.mark.exercise("double")
def test_one(learner, rng):
    """One number doubles."""
    x = torch.tensor([3.0])
    close(learner.double(x), 2 * x, where="double(x)")


@pytest.mark.exercise("T1")
@pytest.mark.points(3)
@pytest.mark.parametrize("dtype", [torch.float64], ids=["f64"])
def test_many(learner, rng, dtype):
    """Many numbers double, in float64 too."""
    x = 1 + torch.rand(4, generator=rng, dtype=dtype)
    close(learner.double(x), 2 * x, where="double(x)", inputs={"x": x})


@pytest.mark.exercise("average")
def test_average(learner, rng):
    """The average of three numbers."""
    x = 1 + torch.rand(3, generator=rng)
    got = learner.run(probes.in_a_tuple, x=x)
    close(got[0], x.mean(), where="average(x)")
'''

PROBES = '''
def in_a_tuple(code, x):
    """Return the average and its type."""
    got = code.average(x)
    return got, type(got).__name__
'''

WRONG = """
from coursekit.grading.answers import dialect, wrong


@wrong("double", says="You squared.")
def squares(x):
    return x * x


@wrong("double", says="You tripled.")
def triples(x):
    return 3 * x


@wrong("double", says="You lose the precision of float64.")
def rounds(x):
    return (2 * x.float()).to(x.dtype)


@wrong("double", says="You wrote into the argument.")
def writes(x):
    return x.mul_(2)


@wrong("double", says="You doubled the shape.")
def doubles_the_shape(x):
    return (2 * x)[:, None]


@dialect("average", says="Divided by n - 1: the unbiased kind.")
def unbiased(x, eps=0.0):
    return x.sum() / (x.numel() - 1)


@wrong("average", says="You did not divide.")
def sums(x, eps=0.0):
    return x.sum()


@wrong("average", says="You took the middle.")
def median(x, eps=0.0):
    return x.median()


@wrong("average", says="You took the largest.")
def largest(x, eps=0.0):
    return x.max()


@wrong("average", says="You returned a number.")
def a_number(x, eps=0.0):
    return x.mean().item()


@wrong("average", says="You took the root.")
def root(x, eps=0.0):
    return x.square().mean().sqrt()
"""

ALTERNATIVES = """
from coursekit.grading.answers import alternative


@alternative("double", says="subtraction")
def by_subtraction(x):
    return x - (-x)


@alternative("double", says="a power of two")
def by_shift(x):
    return x.mul(2)


@alternative("average", says="torch's own")
def by_mean(x, eps=0.0):
    return x.mean()


@alternative("average", says="a dot product")
def by_dot(x, eps=0.0):
    return x @ (x * 0 + 1) / len(x)
"""

RIGHT_DOUBLE = "def double(x):\n    return 2 * x\n"
RIGHT_AVERAGE = "def average(x, eps=0.0):\n    return x.sum() / x.numel()\n"


@dataclass
class Course:
    """A course of one lesson `toy`, in a folder of its own."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "lessons" / "toy"

    @property
    def lesson(self) -> Lesson:
        return catalog.lesson("toy")

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return file

    def hurry(self) -> None:
        """Give each check a quarter of a second; to be called before the lesson is read."""
        self.write("lesson.toml", TOML.replace("seconds = 20", "seconds = 0.25"))

    def submission(self, *parts: str) -> Path:
        """Write a learner's file outside of the course."""
        file = self.root / "mine.py"
        file.write_text("\n\n".join(textwrap.dedent(part) for part in parts), encoding="utf-8")
        return file

    def checks(self) -> tuple[Check, ...]:
        return collect(self.lesson)


@dataclass
class Graded:
    """What the judge finds in one submission."""

    judge: Judge
    learner: Candidate

    def report(self, exercise: str = "double") -> ExerciseReport:
        return self.judge.report(self.learner, self.judge.lesson.exercise(exercise))

    def results(self, exercise: str = "double") -> list[CheckResult]:
        return self.judge.results(self.learner, self.judge.lesson.exercise(exercise))


def forget_lessons() -> None:
    """Forget the modules of a made-up course, and any real one of the same name."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "lessons"]:
        del sys.modules[name]


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Course]:
    """The toy lesson, complete and right, as the only lesson of the course."""
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "lessons"}
    path = list(sys.path)
    forget_lessons()
    made = Course(tmp_path)
    made.folder.mkdir(parents=True)
    (made.folder.parent / "__init__.py").write_text("")
    (made.folder / "__init__.py").write_text("")
    for name, text in {
        "lesson.toml": TOML,
        "solution.py": SOLUTION,
        "test_exercises.py": CHECKS,
        "probes.py": PROBES,
        "wrong_answers.py": WRONG,
        "alternatives.py": ALTERNATIVES,
    }.items():
        made.write(name, text)
    monkeypatch.setenv("COURSEKIT_ROOT", str(tmp_path))
    sys.path.insert(0, str(tmp_path))
    yield made
    forget_lessons()
    sys.modules.update(kept)
    sys.path[:] = path


@pytest.fixture
def graded(course: Course) -> Callable[..., Graded]:
    """Grade a learner's text in this process, without a pytest of its own."""

    def grade(*parts: str, seed: int = 0) -> Graded:
        judge = Judge(course.lesson, course.checks(), seed)
        return Graded(judge, Candidate("learner", read(course.submission(*parts))))

    return grade


@pytest.fixture
def run_pytest() -> Callable[..., tuple[int, str]]:
    """Run a pytest inside this one, with our plugin alone; return its exit status and what it printed."""

    def run(*options: object) -> tuple[int, str]:
        printed = io.StringIO()
        ours = ["--disable-plugin-autoload", "-p", "coursekit.grading.plugin", "-p", "no:cacheprovider", "-s"]
        ours += ["-p", "no:unraisableexception"]  # it collects all of torch's garbage, twice
        place = ["-c", os.devnull, "--import-mode=importlib", "-W", "error"]
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = pytest.main([*ours, *place, *map(str, options)])
        return int(status), printed.getvalue()

    return run


@pytest.fixture
def candidate() -> Callable[..., Candidate]:
    """Make a candidate of a text."""

    def make(text: str) -> Candidate:
        return Candidate("learner", parse(textwrap.dedent(text), Path("mine.py")))

    return make
