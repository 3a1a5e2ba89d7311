"""Does a folder for students hold code of the answers? Looked for as a tree, and as text. No torch here.

As a tree, each function of `solution.py`, `alternatives.py` and `wrong_answers.py` is sought in every Python file: its
whole body with names left out, and its fingerprints (see `similarity.py`), of which a copy with changed lines keeps
most. As text, runs of its lines are sought in every file, whatever its kind, in comments and quotations too.

In lesson 1, where nothing leaks, a file holds at most 0.39 of a function's fingerprints, and no run of lines.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coursekit.grading.classroom import similarity

SECRET = ("solution.py", "alternatives.py", "wrong_answers.py")
_GRAM = 10  # nodes of the tree in one fingerprint
_SHARE = 0.6  # of a function's fingerprints
_FEWEST = 8  # fingerprints, below which a function says too little
_SMALLEST = 8  # words of a body that is compared as a whole
_LONG_LINE = 60  # characters that say enough alone
_LONG_RUN = 40  # characters of neighbouring lines
_SHORTEST = 8  # characters of a line in a run
# Wrong answers share calls with the checks; what they give away is less, and has to be longer.
_RUN = {"solution.py": 2, "alternatives.py": 2, "wrong_answers.py": 3}
_MARKS = re.compile(r"^[\s>#*|`-]+")  # of comments, quotations and lists


@dataclass(frozen=True)
class Leak:
    """Code of the answers in a file that is not theirs.

    Args:
        file: that holds it.
        line: where it begins.
        source: what it is part of.
    """

    file: Path
    line: int
    source: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: code of {self.source}"


class Answers:
    """All that must not be given away of one lesson.

    Args:
        texts: of its `SECRET` files, by name.
        stub: text of the stubs, which everyone is given.
    """

    def __init__(self, texts: Mapping[str, str], stub: str) -> None:
        given = similarity.every_gram(stub, _GRAM)
        lines = frozenset(_plain(line) for line in stub.splitlines())
        self._bodies = [body for name, text in texts.items() for body in _bodies(name, text, given)]
        self._runs = [run for name, text in texts.items() for run in _runs(name, text, lines)]

    def leaks_in(self, files: Iterable[Path]) -> list[Leak]:
        """Return where code of the answers stands in other files, one place for each file and function.

        Args:
            files: to search; what is not UTF-8, such as a picture, holds no code.
        """
        found: dict[tuple[Path, str], Leak] = {}
        for file in files:
            try:
                text = file.read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError):
                continue
            leaks = [*_in_text(file, text, self._runs)]
            leaks += _in_tree(file, text, self._bodies) if file.suffix == ".py" else []
            for leak in leaks:
                found.setdefault((leak.file, leak.source), leak)
        return list(found.values())


# ------------------------------------------------------------------------------------------- trees


@dataclass(frozen=True)
class _Body:
    source: str
    statements: tuple[str, ...]  # without names; empty when they are too few
    grams: frozenset[int]  # empty when they are too few


def _bodies(name: str, text: str, given: frozenset[int]) -> Iterator[_Body]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            told = [similarity.words(part) for part in node.body]
            statements = tuple(" ".join(words) for words in told if words)
            grams = frozenset(similarity.grams(node, _GRAM)) - given
            enough = sum(map(len, told)) >= _SMALLEST
            yield _Body(
                f"{node.name} in {name}", statements if enough else (), grams if len(grams) >= _FEWEST else frozenset()
            )


def _in_tree(file: Path, text: str, bodies: Sequence[_Body]) -> Iterator[Leak]:
    try:
        tree = ast.parse(text)
        grams = {node.lineno: frozenset(similarity.grams(node, _GRAM)) for node in tree.body}
        blocks = list(_blocks(tree))
    except similarity.NOT_PYTHON:
        return
    every = frozenset[int]().union(*grams.values())
    for body in bodies:
        if body.grams and len(body.grams & every) >= _SHARE * len(body.grams):
            yield Leak(file, max(grams, key=lambda line: len(body.grams & grams[line])), body.source)
            continue
        size = len(body.statements)
        for lines, statements in blocks if size else ():
            for start in range(len(statements) - size + 1):
                if statements[start : start + size] == body.statements:
                    yield Leak(file, lines[start], body.source)


def _blocks(tree: ast.Module) -> Iterator[tuple[list[int], tuple[str, ...]]]:
    """Yield every block of statements in a tree: their lines, and the statements without names."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and block:
                told = [(part.lineno, " ".join(similarity.words(part))) for part in block]
                yield [line for line, words in told if words], tuple(words for _, words in told if words)


# -------------------------------------------------------------------------------------------- text


@dataclass(frozen=True)
class _Run:
    source: str
    text: str
    first: str


def _runs(name: str, text: str, given: frozenset[str]) -> Iterator[_Run]:
    """Yield what is sought as text: long lines, and neighbouring lines of one function."""
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        source = f"{node.name} in {name}"
        told = [_plain(line) for line in lines[node.lineno - 1 : node.end_lineno] if not line.lstrip().startswith("#")]
        told = [line for line in told if line and line not in given and not line.startswith(("def ", "class ", '"""'))]
        most = _LONG_LINE if _RUN[name] == 2 else 2 * _LONG_LINE
        yield from (_Run(source, line, line) for line in told if len(line) >= most)
        for start in range(len(told) - _RUN[name] + 1):
            run = told[start : start + _RUN[name]]
            if min(map(len, run)) >= _SHORTEST and sum(map(len, run)) >= _LONG_RUN:
                yield _Run(source, " ".join(run), run[0])


def _in_text(file: Path, text: str, runs: Sequence[_Run]) -> Iterator[Leak]:
    lines = text.splitlines()
    kept = [_plain(line) for line in lines]
    bare = [_plain(line) for line in lines if not line.lstrip().startswith("#")]
    whole = [" ".join(filter(None, some)) for some in (kept, bare)]
    if file.suffix == ".toml":  # where a line may end as \n
        whole.append(" ".join(" ".join(map(_plain, value.splitlines())) for value in _strings(text)))
    for run in runs:
        if any(run.text in some for some in whole):
            line = next((number for number, line in enumerate(kept, 1) if run.first in line), 1)
            yield Leak(file, line, run.source)


def _plain(line: str) -> str:
    return " ".join(_MARKS.sub("", line).split())


def _strings(text: str) -> Iterator[str]:
    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping | list):
            for part in value.values() if isinstance(value, Mapping) else value:
                yield from walk(part)

    try:
        yield from walk(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return
