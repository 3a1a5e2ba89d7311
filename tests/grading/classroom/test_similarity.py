"""Near-identical submissions: disguised copies are found, honest answers are not, on lesson 1's own right answers."""

from __future__ import annotations

import ast
import copy
import random
from itertools import combinations
from pathlib import Path

import pytest

from coursekit.grading.authoring.stubs import exercise_names, stub_source
from coursekit.grading.classroom.similarity import (
    COMMON,
    FEWEST,
    SMALLEST_CLASS,
    THRESHOLD,
    Prints,
    every_gram,
    fingerprints,
    pairs,
)

FOLDER = Path(__file__).resolve().parents[3] / "lessons" / "optimization"
SOLUTION = (FOLDER / "solution.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def answers() -> dict[str, list[ast.stmt]]:
    """Every right answer to each function of lesson 1: the solution's, then the alternatives."""
    found: dict[str, list[ast.stmt]] = {}
    for node in ast.parse(SOLUTION).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = [node]
    for node in ast.parse((FOLDER / "alternatives.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.decorator_list:
            marker = node.decorator_list[0]
            assert isinstance(marker, ast.Call)
            name = ast.literal_eval(marker.args[0])
            other = copy.deepcopy(node)
            other.name, other.decorator_list = name, []
            found[name].append(other)
    return {name: nodes for name, nodes in found.items() if len(nodes) > 1}


@pytest.fixture(scope="module")
def stub() -> frozenset[int]:
    from coursekit import catalog

    return every_gram(stub_source(SOLUTION, exercise_names(catalog.lesson("optimization"))))


def share(first: str, second: str, stub: frozenset[int] = frozenset()) -> float:
    """Return what `pairs` would say of two files, listed or not."""
    one, other = fingerprints(first, "1", stub=stub), fingerprints(second, "2", stub=stub)
    assert one is not None
    assert other is not None
    return len(one.all & other.all) / min(len(one.all), len(other.all))


def write(nodes) -> str:
    return "\n\n\n".join(ast.unparse(node) for node in nodes) + "\n"


# Disguises


class Renamed(ast.NodeTransformer):
    """Other names for everything that the file itself names."""

    def __init__(self, tree: ast.Module) -> None:
        stored = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        self.own = {*stored, *(node.arg for node in ast.walk(tree) if isinstance(node, ast.arg))}

    def visit_Name(self, node):
        return ast.Name(f"my_{node.id}" if node.id in self.own else node.id, node.ctx)

    def visit_arg(self, node):
        return ast.arg(f"my_{node.arg}")


class Swapped(ast.NodeTransformer):
    """a + b as b + a, a * b as b * a."""

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if isinstance(node.op, ast.Add | ast.Mult):
            node.left, node.right = node.right, node.left
        return node


class Chatty(ast.NodeTransformer):
    """Two lines that do nothing in every function."""

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        rng = random.Random(node.name)
        for line in ("unused = 0", "print('here')"):
            node.body.insert(rng.randrange(1, len(node.body) + 1), ast.parse(line).body[0])
        return node


def renamed(text: str) -> str:
    tree = ast.parse(text)
    return ast.unparse(Renamed(tree).visit(tree))


def without_comments(text: str) -> str:
    return ast.unparse(ast.parse(text))


def other_order(text: str) -> str:
    tree = ast.parse(text)
    tree.body.sort(key=lambda node: random.Random(ast.unparse(node)).random())
    return ast.unparse(tree)


def other_words(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            node.body[0] = ast.parse("'''I wrote this myself, honestly.'''").body[0]
            node.body.append(ast.Pass())
    return ast.unparse(ast.fix_missing_locations(tree))


def through(*visitors):
    def disguise(text: str) -> str:
        tree = ast.parse(text)
        for visitor in visitors:
            tree = visitor().visit(tree)
        return ast.unparse(ast.fix_missing_locations(tree))

    return disguise


def padded(text: str) -> str:
    """With as much of other code behind it."""
    return text + "\n\n" + (Path(ast.__file__).read_text(encoding="utf-8"))[:60_000].rpartition("\n\n\n")[0]


def everything(text: str) -> str:
    return other_order(renamed(through(Swapped, Chatty)(other_words(text))))


DISGUISES = {
    "none": str,
    "comments": without_comments,
    "names": renamed,
    "order": other_order,
    "docstrings": other_words,
    "swaps": through(Swapped),
    "prints": through(Chatty),
    "padding": padded,
    "everything": everything,
}


@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
def test_a_disguised_copy_of_any_file_is_found(answers, stub, disguise):
    """The threshold is 0.8; the worst disguise of the worst file leaves 0.826."""
    count = 0
    for number in range(4):
        original = write(nodes[number % len(nodes)] for nodes in answers.values())
        assert share(original, disguise(original), stub) > THRESHOLD + 0.02
        one = fingerprints(original, "1", stub=stub)
        other = fingerprints(disguise(original), "2", stub=stub)
        assert one is not None
        assert other is not None
        (pair,) = pairs({"a": one, "b": other})
        assert (pair.first, pair.second) == ("a", "b")
        assert {"MyAdamW", "train_accumulated"} <= set(pair.parts)
        count += 1
    assert count == 4


def test_honest_files_are_far_apart(answers, stub):
    """Right answers to all nine functions, none in common: at most 0.19 is shared, where 0.8 is flagged."""
    shares = []
    for shift in range(1, 3):
        for number in range(3):
            pick = [(nodes[number % 3], nodes[(number + shift) % 3]) for nodes in answers.values()]
            shares.append(share(write(one for one, _ in pick), write(other for _, other in pick), stub))
    assert len(shares) == 6
    assert max(shares) < 0.2


def test_honest_answers_to_one_function_are_apart_too(answers, stub):
    shares = {
        (name, i, j): share(write([one]), write([other]), stub)
        for name, nodes in answers.items()
        for (i, one), (j, other) in combinations(enumerate(nodes), 2)
    }
    assert len(shares) == sum(len(nodes) * (len(nodes) - 1) // 2 for nodes in answers.values()) >= 45
    assert max(shares.values()) < 0.4


def test_a_few_functions_in_common_are_no_flag(answers, stub):
    """With four of the nine functions word for word alike, no pair of a class is listed."""
    rng = random.Random(0)
    for _ in range(30):
        alike = set(rng.sample(sorted(answers), 4))
        one = write(nodes[0] for nodes in answers.values())
        other = write(nodes[0 if name in alike else 1] for name, nodes in answers.items())
        assert share(one, other, stub) < THRESHOLD


def test_the_stub_alone_is_nothing(stub):
    text = stub_source(SOLUTION, {"rmsprop_step": "O2", "MyAdamW": "O4"})
    made = fingerprints(text, "same", stub=stub)
    assert made is not None
    assert not made.all
    assert pairs({"a": made, "b": made}) == []


def test_equal_bytes_are_listed_however_short():
    short = fingerprints("def double(x):\n    return [2 * v + 0 * v - v for v in x if v]\n", "same")
    other = fingerprints("def double(y):\n    return [2 * v + 0 * v - v for v in y if v]\n", "other")
    assert short is not None
    assert other is not None
    assert 0 < len(short.all) < FEWEST
    assert [(pair.first, pair.second, pair.identical) for pair in pairs({"a": short, "b": short, "c": other})] == [
        ("a", "b", True)
    ]


def test_what_most_of_a_class_wrote_counts_little():
    """Two students whose only likeness is the idiom of the class are not listed; a small class has no idioms."""
    idiom = frozenset(range(100))
    files = {f"s{n}": Prints(str(n), {"f": idiom | frozenset(range(1000 * n, 1000 * n + 20))}) for n in range(1, 13)}
    assert pairs(files) == []
    few = dict(list(files.items())[: SMALLEST_CLASS - 1])
    assert len(pairs(few)) == len(few) * (len(few) - 1) // 2
    copied = {**files, "copy": Prints("copy", {"f": files["s1"].all})}
    assert [(pair.first, pair.second) for pair in pairs(copied)] == [("s1", "copy")]
    assert COMMON * len(files) < len(files)


@pytest.mark.parametrize(
    "text", ["def (", "x = '\x00'", "(" * 10_000, "-" * 100_000 + "1", "x\n" * 60_000], ids=range(5)
)
def test_what_cannot_be_compared_is_said(text):
    assert fingerprints(text) is None


def test_nothing_at_all_can_be_compared():
    for text in ("", "# nothing", "pass", "import torch", "'''words'''"):
        made = fingerprints(text)
        assert made is not None
        assert not made.all
