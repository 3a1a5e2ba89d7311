"""Stubs from solutions, and how the two are kept from drifting apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from coursekit.errors import LessonError
from coursekit.grading.authoring.stubs import body_lines, drift, exercise_names, stub_of, stub_source, worked

from ..conftest import SOLUTION

SOLUTION_WITH_ALL = '''"""Reference solutions.

Tensors in, tensors out.
"""

from __future__ import annotations

import math
import os.path as path
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rule = Callable[[Tensor], "Decay"]
Decay = float
EPS = 1e-8
_SECRET = F.relu


@torch.no_grad()
def step(
    p: Tensor,  # (n,)
    *,
    rule: Rule,
    eps: float = EPS,
) -> Tensor:
    """Take one step.

    With "quotes" and a \\\\ in it.
    """
    # The answer.
    return _helper(p, eps)


def _helper(p, eps):
    return math.sqrt(eps) * p


class Mine(torch.optim.Optimizer):
    """An optimizer."""

    scale = 3.0

    def __init__(self, params: Iterable[Any]) -> None:
        """Keep the parameters."""
        super().__init__(params, {})

    @property
    def rate(self) -> float:
        """Return the rate."""
        return path.sep

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        return self._inner()

    def _inner(self):
        return 0
'''

STUB_WITH_ALL = '''"""Your exercises: write each body below, then run pytest on this folder.

Tensors in, tensors out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

Rule = Callable[[Tensor], "Decay"]
Decay = float
EPS = 1e-8


def step(
    p: Tensor,  # (n,)
    *,
    rule: Rule,
    eps: float = EPS,
) -> Tensor:
    """Take one step.

    With "quotes" and a \\\\ in it.
    """
    raise NotImplementedError("T1: write step")


class Mine(torch.optim.Optimizer):
    """An optimizer."""

    def __init__(self, params: Iterable[Any]) -> None:
        """Keep the parameters."""
        raise NotImplementedError("T2: write Mine.__init__")

    @property
    def rate(self) -> float:
        """Return the rate."""
        raise NotImplementedError("T2: write Mine.rate")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        raise NotImplementedError("T2: write Mine.step")
'''
NAMES = {"step": "T1", "Mine": "T2"}


def test_the_stub_keeps_interfaces_to_the_letter_and_no_answers():
    assert stub_source(SOLUTION_WITH_ALL, NAMES) == STUB_WITH_ALL


def test_the_stub_runs_and_raises(course):
    names: dict[str, object] = {}
    exec(stub_source(SOLUTION, exercise_names(course.lesson)), names)
    with pytest.raises(NotImplementedError, match="T1: write double"):
        names["double"](1)  # type: ignore[operator]


def test_torch_is_kept_for_the_learner():
    text = 'import torch\nimport math\n\n\ndef f(x):\n    """Doc."""\n    return torch.sin(math.pi * x)\n'
    assert "import torch  # noqa: F401" in stub_source(text, {"f": "T1"})
    assert "math" not in stub_source(text, {"f": "T1"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def g(x):\n    '''Doc.'''\n", "solution.py: a function or class f. Got none"),
        ("def f(x):\n    return x\n", "solution.py, line 1: a docstring of f. Got none"),
        ("def f(x):\n", "solution.py: valid Python"),
    ],
    ids=["missing", "docstring", "syntax"],
)
def test_a_solution_without_what_a_stub_needs(text, words):
    with pytest.raises(LessonError, match=words):
        stub_source(text, {"f": "T1"})


def test_no_drift_between_a_stub_and_its_solution_whatever_the_bodies():
    assert drift(STUB_WITH_ALL, SOLUTION_WITH_ALL, list(NAMES)) == []
    worked = STUB_WITH_ALL.replace('raise NotImplementedError("T1: write step")', "x = 1\n    return x")
    assert worked != STUB_WITH_ALL
    worked += "\n\ndef _my_own_helper(x):\n    return x\n"
    assert drift(worked, SOLUTION_WITH_ALL, list(NAMES)) == []


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("eps: float = EPS", "eps: float = 1e-6", "step: the signature is"),
        ("    *,\n", "", "step: the signature is"),
        (") -> Tensor:", "):", "step: the signature is"),
        ("Take one step.\n\n", "Take a step.\n\n", "step: the docstring differs from the solution's"),
        ("class Mine(torch.optim.Optimizer)", "class Mine", "Mine: the signature is class Mine()"),
        ("def step(\n", "def stepp(\n", "step is missing"),
        ("def rate(self)", "def rates(self)", "Mine.rate is missing"),
        ("    @property\n", "", "Mine.rate: the signature is rate(self) -> float, in the solution @property rate"),
        ("Keep the parameters", "Keep them", "Mine.__init__: the docstring differs"),
    ],
    ids=["default", "star", "returns", "docstring", "base", "name", "method", "property", "method-docstring"],
)
def test_drift_is_found(old, new, finding):
    changed = STUB_WITH_ALL.replace(old, new, 1)
    assert changed != STUB_WITH_ALL
    ast.parse(changed)
    (found,) = drift(changed, SOLUTION_WITH_ALL, list(NAMES))
    assert finding in found


def test_drift_of_what_is_not_python():
    with pytest.raises(LessonError, match=r"exercises.py: valid Python"):
        drift("def f(:", SOLUTION_WITH_ALL, list(NAMES))


UNSORTED = '''"""Reference."""
from torch import Tensor
import torch
from lessons.toy.config import Size
import numpy as np
from __future__ import annotations
from collections.abc import Callable
import torch.nn as nn
import abc


def f(x: Tensor, g: Callable, n: np.ndarray, m: nn.Module, s: Size, b: abc.ABC):
    """Doc."""
    return x
'''


def test_imports_are_sorted_as_ruff_sorts_them(tmp_path):
    text = stub_source(UNSORTED, {"f": "T1"})
    file = tmp_path / "exercises.py"
    file.write_text(text)
    ruff = [str(Path(sys.executable).with_name("ruff")), "check", "--isolated", "--select", "I,E4,F401", "-q"]
    done = subprocess.run([*ruff, "--config", "lint.isort.known-first-party=['lessons']", str(file)], check=False)
    assert done.returncode == 0, text
    assert [line for line in text.splitlines() if "import" in line] == [
        "from __future__ import annotations",
        "import abc",
        "from collections.abc import Callable",
        "import numpy as np",
        "import torch  # noqa: F401  (yours to use)",
        "import torch.nn as nn",
        "from torch import Tensor",
        "from lessons.toy.config import Size",
    ]


def test_the_stub_of_one_function_alone():
    assert (
        stub_of(SOLUTION_WITH_ALL, "step", "T1")
        == STUB_WITH_ALL[STUB_WITH_ALL.index("def step(") : STUB_WITH_ALL.index("\n\n\nclass Mine")]
    )


def test_the_lines_that_a_learner_writes():
    assert body_lines(SOLUTION_WITH_ALL, ["step"]) == ["return _helper(p, eps)"]
    assert body_lines(SOLUTION_WITH_ALL, ["Mine"]) == [
        "super().__init__(params, {})",
        "return path.sep",
        "return self._inner()",
    ]


@pytest.mark.parametrize(
    ("old", "new", "work"),
    [
        ("", "", ""),
        ('raise NotImplementedError("T1: write step")', "return p", "work in step"),
        ('raise NotImplementedError("T2: write Mine.rate")', "return 1", "work in Mine"),
        ("\n\nclass Mine", "\n\ndef _mine(x):\n    return x\n\n\nclass Mine", "work in _mine"),
        ("EPS = 1e-8\n", "EPS = 1e-8\nprint(EPS)\n", "work in line 17"),
        ("def step(", "def step(:", "text that is not Python"),
    ],
    ids=["stubs", "function", "method", "helper", "statement", "syntax"],
)
def test_what_someone_wrote_among_stubs(old, new, work):
    assert worked(STUB_WITH_ALL.replace(old, new, 1) if old else STUB_WITH_ALL) == work
