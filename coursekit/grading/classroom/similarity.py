"""Near-identical submissions, for a person to look at: fingerprints of the code's structure. No torch here.

Winnowing (Schleimer, Wilkerson & Aiken 2003), over the syntax tree instead of the text: comments, docstrings,
annotations, names of variables, the order of functions and the order of factors leave no trace. What the stub holds
does not count, and what most of the class wrote alike counts little.

The numbers below were chosen on lesson 1. Files made of its right answers, no function in common, share at most 0.19
of their fingerprints; with four of the nine functions word for word the same, 0.76. A copy with every name changed,
all swapped that can be, and two useless lines in every function still shares 0.83 (see the tests).
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

GRAM = 6  # nodes of the tree in one fingerprint; more, and each useless line that a copy adds hides more
WINDOW = 4  # of so many neighbouring grams one is kept, so every copied run of GRAM + WINDOW - 1 nodes is seen
THRESHOLD = 0.8
FEWEST = 40  # fingerprints two submissions must share: short right answers are alike by nature
COMMON = 0.5  # share of a class beyond which a fingerprint is an idiom
IDIOM = 0.2  # what an idiom counts, where anything else counts 1
SMALLEST_CLASS = 10  # in which something can be common
_MOST_NODES = 50_000
_SILENT = (ast.arg, ast.Pass, ast.Import, ast.ImportFrom, ast.expr_context)
_LEFT_OUT = ("annotation", "returns", "type_comment", "type_params", "decorator_list")
# A bomb of nested operators ends the parser with one of the last two.
NOT_PYTHON = (SyntaxError, ValueError, MemoryError, RecursionError)


@dataclass(frozen=True)
class Prints:
    """The fingerprints of one file.

    Args:
        sha256: of the file's bytes.
        parts: fingerprints of each top-level definition; those of all other lines under an empty name.
    """

    sha256: str
    parts: Mapping[str, frozenset[int]]

    @cached_property
    def all(self) -> frozenset[int]:
        """Those of the whole file."""
        return frozenset[int]().union(*self.parts.values())


@dataclass(frozen=True)
class Pair:
    """Two submissions that a person should look at.

    Args:
        first: key of one.
        second: key of the other.
        share: of the smaller one's fingerprints that the other has too, from 0 to 1.
        parts: the functions and classes that are near-identical by themselves.
        identical: the files are equal byte for byte.
    """

    first: str
    second: str
    share: float
    parts: tuple[str, ...]
    identical: bool


def fingerprints(text: str, sha256: str = "", *, stub: frozenset[int] = frozenset()) -> Prints | None:
    """Return the fingerprints of a file; None for what is not Python, or is too large to be anyone's answer.

    Args:
        text: Python.
        sha256: of the file's bytes.
        stub: what does not count (see `every_gram`).
    """
    try:
        tree = ast.parse(text)
        if sum(1 for _ in ast.walk(tree)) > _MOST_NODES:
            return None
        parts: dict[str, frozenset[int]] = {}
        for node in tree.body:
            name = getattr(node, "name", "")
            parts[name] = parts.get(name, frozenset()) | (frozenset(_winnow(grams(node))) - stub)
    except NOT_PYTHON:
        return None
    return Prints(sha256, parts)


def every_gram(text: str, size: int = GRAM) -> frozenset[int]:
    """Return all fingerprints that any window could choose from a text, such as the stub's."""
    return frozenset(gram for node in ast.parse(text).body for gram in grams(node, size))


def pairs(files: Mapping[str, Prints]) -> list[Pair]:
    """Return the pairs that are near-identical, the most alike first.

    Args:
        files: fingerprints by key of the submission.
    """
    owners = Counter(gram for file in files.values() for gram in file.all)
    common = COMMON * len(files) if len(files) >= SMALLEST_CLASS else len(files)
    idioms = frozenset(gram for gram, count in owners.items() if count > common)
    found = []
    for (first, one), (second, other) in combinations(files.items(), 2):
        identical = bool(one.all) and one.sha256 == other.sha256 != ""
        share = _share(one.all, other.all, idioms)
        if identical or (share >= THRESHOLD and len(one.all & other.all) >= FEWEST):
            alike = [
                name
                for name, mine in one.parts.items()
                if name and mine and _share(mine, other.parts.get(name, frozenset())) >= THRESHOLD
            ]
            found.append(Pair(first, second, round(share, 3), tuple(alike), identical))
    return sorted(found, key=lambda pair: (-pair.identical, -pair.share, pair.first, pair.second))


def _share(one: frozenset[int], other: frozenset[int], idioms: frozenset[int] = frozenset()) -> float:
    """Return which share of the smaller set the larger one has, with idioms counting less."""
    smaller = min(_weight(one, idioms), _weight(other, idioms))
    return _weight(one & other, idioms) / smaller if smaller else 0.0


def _weight(prints: frozenset[int], idioms: frozenset[int]) -> float:
    return len(prints) - (1 - IDIOM) * len(prints & idioms)


def _winnow(hashes: list[int]) -> Iterator[int]:
    for start in range(max(len(hashes) - WINDOW + 1, min(len(hashes), 1))):  # one window when they are few
        yield min(hashes[start : start + WINDOW])


def grams(node: ast.stmt, size: int = GRAM) -> list[int]:
    """Return the hash of every run of `size` words in a statement; of all its words when there are fewer."""
    told = words(node)
    runs = ("\0".join(told[start : start + size]) for start in range(max(len(told) - size + 1, min(len(told), 1))))
    return [int.from_bytes(hashlib.blake2b(run.encode(errors="replace"), digest_size=8).digest()) for run in runs]


def words(node: ast.AST) -> list[str]:
    """Return a tree as a list of words, without what can be changed and leave the code the same."""
    silent = isinstance(node, _SILENT) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    if silent:
        return []
    if isinstance(node, ast.Name):
        return ["name"]
    if isinstance(node, ast.Constant):
        return [repr(node.value)]
    if isinstance(node, ast.AnnAssign):
        return ["Assign", *words(node.target), *(words(node.value) if node.value else [])]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        # Sorted, since swapping them is the cheapest disguise.
        return [type(node.op).__name__, *(word for side in sorted(_sides(node)) for word in side)]
    told = [f".{node.attr}" if isinstance(node, ast.Attribute) else type(node).__name__]
    if isinstance(node, ast.keyword):
        told = [f"{node.arg}="]
    for field, value in ast.iter_fields(node):
        hidden = field in _LEFT_OUT or (field == "args" and isinstance(value, ast.arguments))
        for child in () if hidden else value if isinstance(value, list) else (value,):
            told += words(child) if isinstance(child, ast.AST) else []
    return told


def _sides(node: ast.BinOp) -> list[list[str]]:
    return [words(node.left), words(node.right)]
