"""Machine-made mutants: every kind of change, and ids that outlive other edits."""

from __future__ import annotations

import ast
import re

import pytest

from coursekit.errors import LessonError
from coursekit.grading.proof.mutants import mutants


def made(body: str, before: str = "", name: str = "f", signature: str = "x, y") -> dict[str, str]:
    """Return the operator of each mutant's id, for a function f(x, y) of these lines."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return {one.id: one.operator for one in mutants(f"{before}\n\ndef f({signature}):\n{lines}", [name])}


@pytest.mark.parametrize(
    ("body", "operator", "changes"),
    [
        ("return x + 7", "arithmetic", {"return x + 7 -> return x - 7"}),
        ("return -x", "arithmetic", {"return -x -> return x"}),
        ("x += y", "arithmetic", {"x += y -> x -= y"}),
        ("return x - 7", "operand order", {"return x - 7 -> return 7 - x"}),
        ("return x * y", "term dropped", {"return x * y -> return x", "return x * y -> return y"}),
        ("return 3", "constant", {f"return 3 -> return {n}" for n in (4, 2, -3, 6)}),
        ("return 0", "constant", {"return 0 -> return 1", "return 0 -> return -1"}),
        ("return 0.5", "constant", {f"return 0.5 -> return {n}" for n in (1.0, 0.25, -0.5, 1.5)}),
        ("return True", "constant", {"return True -> return False"}),
        ("return x == 'he'", "constant", {"x == 'he' -> x == 'he_'"}),
        ("return x['he']", "constant", set()),
        ("return x.sum(dim=1)", "argument", {"x.sum(dim=1) -> x.sum()"}),
        ("return max(x, y)", "argument", {"return max(x, y) -> return max(y, x)"}),
        ("return x < y", "comparison", {"return x < y -> return x <= y", "return x < y -> return x >= y"}),
        ("return x is y", "comparison", {"return x is y -> return x is not y"}),
        ("return x and y", "boolean", {f"return x and y -> return {new}" for new in ("x or y", "x", "y")}),
        ("if x:\n    y = x\nreturn y", "condition", {"if x -> if not x", "if x -> if True"}),
        ("if x < y:\n    y = x", "condition", {"if x < y -> if True"}),
        ("return x if y else 7", "condition", {f"return x if y else 7 -> return {new}" for new in ("x", "7")}),
        ("[y for y in x if y]", "condition", {f"[y for y in x if y] -> [y for y in x{e}]" for e in (" if not y", "")}),
        ("for y in x:\n    continue", "loop", {"for y in x -> for y in x, once", "continue -> break"}),
        ("x.f()\nreturn x", "statement", {"x.f() -> nothing", "return x -> nothing"}),
        ("return x, y", "result order", {"return (x, y) -> return (y, x)"}),
        ("x, y = y\nreturn x", "result order", {"(x, y) -> (y, x)"}),
        ("return x.mean()", "method", {"return x.mean() -> return x.sum()"}),
        ("x.mul_(y)", "method", {"x.mul_(y) -> x.mul(y)"}),
        ("return x.mul(y)", "method", {"return x.mul(y) -> return x.mul_(y)"}),
        ("return torch.nn.utils.clip_(x, y)", "method", set()),
        ("x.clamp(max=y)", "method", {"x.clamp(max=y) -> x.clamp(min=y)", "x.clamp(max=y) -> x.clamp_(max=y)"}),
        ("return x.clone()", "call dropped", {"return x.clone() -> return x"}),
        ("return math.sqrt(x)", "call dropped", {"return math.sqrt(x) -> return x"}),
        ("return x[1:]", "slice", {"x[1:] -> x[1 + 1:]", "x[1:] -> x[1:-1]"}),
        ("range(x)", "slice", {"range(x) -> range(x + 1)", "range(x) -> range(x - 1)"}),
        ("with y:\n    x.f()", "context", {"with y -> its body"}),
        ("return x.mT", "axis", {"return x.mT -> return x"}),
        ("return y", "name", {"return y -> return x"}),
    ],
)  # fmt: skip
def test_each_kind_of_change(body, operator, changes):
    found = {one.removeprefix("f: ") for one, kind in made(body).items() if kind == operator}
    assert found == changes


def test_defaults_and_decorators():
    text = "@torch.no_grad()\ndef f(x, p=0.5, *, up=True):\n    return x\n\n\n@property\ndef g(x):\n    pass\n"
    found = {one.id: one.operator for one in mutants(text, ["f"])}
    assert found["f: @torch.no_grad() -> nothing"] == "decorator"
    assert found["f: p=0.5 -> p=0.25"] == found["f: up=True -> up=False"] == "default"
    assert not mutants("class C:\n    @property\n    def g(self):\n        pass\n", ["C"])


SOLUTION = '''
"""Doc with 1 + 1."""
import math

_EPS = 1e-6
OTHER = 7


def f(x: "Literal[1]", y: int) -> "Tuple[1]":
    """Add 1 + 1."""
    if x < 0:
        raise ValueError(f"f: x must be {1 + 1}. Got {x}.")
    return _half(x) + g(y)


def _half(x):
    return x / 2 + _EPS


def g(x):
    return 3 * x


class C:
    """A class."""

    def m(self, x):
        """Return x."""
        return x + 1
'''


def test_only_what_can_matter_is_changed():
    """Helpers and constants too; not docstrings, annotations, error texts, or another exercise's function."""
    found = mutants(SOLUTION, ["f"], others=["g", "C"])
    assert {one.id.partition(":")[0] for one in found} == {"f", "_half", "_EPS"}
    assert not [one for one in found if re.search(r"Literal|Tuple|ValueError\(", one.id.partition(" -> ")[2])]
    assert "f: raise ValueError(f'f: x must be {1 + 1}. Got {x}.') -> nothing" in {one.id for one in found}
    assert {one.id.partition(":")[0] for one in mutants(SOLUTION, ["C"])} == {"C.m"}
    for one in found:
        names = {node.name for node in ast.parse(one.text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert names == {"f", "_half", "g"}, "what the exercise needs stays, the rest goes"


def test_every_mutant_is_python_and_differs_from_every_other():
    found = mutants(SOLUTION, ["f"])
    texts = [ast.unparse(ast.parse(one.text)) for one in found]
    assert len(texts) == len(set(texts)) > 20
    assert len({one.id for one in found}) == len(found)


def test_ids_hold_no_place():
    before = [one.id for one in mutants(SOLUTION, ["f"])]
    assert before == [one.id for one in mutants("# moved\n\n\n" + SOLUTION, ["f"])]
    twice = [one.id for one in mutants("def f(x):\n    y = 1 + x\n    z = 1 + x\n    return y, z\n", ["f"])]
    assert "f: 1 + x -> 1 - x" in twice
    assert "f: 1 + x -> 1 - x #2" in twice


def test_names_do_not_bleed_out_of_an_emptied_body():
    (one,) = [one for one in mutants("def f(x):\n    return x\n", ["f"]) if one.operator == "statement"]
    assert "pass" in one.text


@pytest.mark.parametrize(
    ("text", "words"),
    [("def f(:", "solution.py: valid Python"), ("def g(x): ...", "solution.py: a function or class f. Got none")],
    ids=["syntax", "missing"],
)
def test_a_solution_that_cannot_be_changed(text, words):
    with pytest.raises(LessonError, match=words):
        mutants(text, ["f"])
