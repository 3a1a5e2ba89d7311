"""A file that holds answers: the learner's, or the reference. Read once, executed afresh for every exercise.

Nothing here imports torch; the file itself may.
"""

from __future__ import annotations
import __future__

import ast
import hashlib
import os
import stat
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import CodeType, ModuleType

from coursekit.errors import SubmissionError
from coursekit.grading.text import printable

MAX_BYTES = 256 * 1024
MODULE_NAME = "exercises"  # the name under which the learner's code sees itself
_MOST_NAMES, _LONGEST_NAME = 5000, 100
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Statement:
    """One top-level statement, compiled.

    Args:
        line: on which it starts.
        code: to be executed in the module.
    """

    line: int
    code: CodeType


@dataclass(frozen=True)
class Source:
    """The text of a file of answers, of which nothing was looked at yet.

    Args:
        path: the file.
        sha256: of its bytes.
        text: of the file.
    """

    path: Path
    sha256: str
    text: str


@dataclass(frozen=True)
class Submission:
    """One file of Python that answers exercises.

    Args:
        path: the file.
        sha256: of its bytes.
        text: of the file.
        statements: at the top level, in order. Each is executed alone, so that one that fails does not hide
            the others.
        stubs: names of functions and classes whose bodies only raise NotImplementedError.
        problem: why the file, or one statement, is not Python; empty when all of it is.
        mentions: every name that the code uses, by the function or class at the top level in which it stands; the
            empty name owns the rest. An attribute and what is imported have a dot in front.
    """

    path: Path
    sha256: str
    text: str
    statements: tuple[Statement, ...]
    stubs: frozenset[str]
    problem: str = ""
    mentions: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def module(self) -> ModuleType:
        """Return an empty module in which the statements can be executed."""
        made = ModuleType(MODULE_NAME)
        made.__file__ = str(self.path)
        return made

    def line(self, number: int) -> str:
        """Return one line of the text, stripped; empty when there is no such line."""
        lines = self.text.splitlines()
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""


def read(path: Path) -> Submission:
    """Read a file of answers that may be parsed in this process: the reference, or a learner's who is trusted.

    Raises:
        SubmissionError: there is no such file, or it is not one that can be read as text.
    """
    source = read_source(path)
    return parse(source.text, path, source.sha256)


def read_source(path: Path) -> Source:
    """Read a file of answers, and no more than that.

    A symbolic link is refused: what is graded is the file that was named, and not what it points at. Text that
    is not Python is no error here: it gets a verdict, with the line.

    Args:
        path: a regular file of at most 256 KiB of UTF-8.

    Raises:
        SubmissionError: there is no such file, or it is not one that can be read as text.
    """
    where = str(path)
    if path.is_symlink():
        raise SubmissionError(where, "a regular file", got="a symbolic link", fix="name the file it points to")
    # Without O_NONBLOCK, opening a named pipe waits for ever; without O_NOFOLLOW, a link may slip in just now.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SubmissionError(where, "a readable file", got=reason.lower(), fix="name your exercises file") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SubmissionError(where, "a regular file", got="something else", fix="name your exercises file")
    with os.fdopen(descriptor, "rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise SubmissionError(where, f"at most {MAX_BYTES // 1024} KiB", got="more", fix="hand in the code alone")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SubmissionError(
            where, "UTF-8 text", got=f"{error.reason} at byte {error.start}", fix="save the file as UTF-8"
        ) from None
    return Source(path, hashlib.sha256(raw).hexdigest(), text)


def parse(text: str, path: Path, sha256: str = "") -> Submission:
    """Compile the text of a file of answers, statement by statement.

    Args:
        text: Python.
        path: the file that tracebacks and messages name.
        sha256: of the file's bytes; empty takes that of the text.
    """
    sha256 = sha256 or hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a learner's odd escape sequence is no fault
        try:
            tree = ast.parse(text, str(path))
        except _NOT_PYTHON as error:
            return Submission(path, sha256, text, (), frozenset(), _describe(error, path))
        flags = _future_flags(tree)
        statements, problem = [], ""
        for node in tree.body:
            try:
                code = compile(ast.Module([node], []), str(path), "exec", flags, dont_inherit=True)
            except _NOT_PYTHON as error:  # such as a `return` outside of a function
                problem = problem or _describe(error, path)
            else:
                statements.append(Statement(node.lineno, code))
    stubs = frozenset(node.name for node in tree.body if isinstance(node, _DEFINITIONS) and _is_stub(node))
    return Submission(path, sha256, text, tuple(statements), stubs, problem, _mentions(tree))


# A bomb of nested operators ends the parser with one of the last two.
_NOT_PYTHON = (SyntaxError, ValueError, MemoryError, RecursionError)


def _describe(error: BaseException, path: Path) -> str:
    if not isinstance(error, SyntaxError):
        return printable(f"{path.name} is not Python: {str(error) or type(error).__name__}.")
    shown = f": `{(error.text or '').strip()[:200]}`" if error.text else ""
    return printable(f"{path.name}, line {error.lineno}: {error.msg}{shown}.")


def _future_flags(tree: ast.Module) -> int:
    """Return the compiler flags of the file's `from __future__` lines, which every statement needs."""
    names = [
        alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
        for alias in node.names
    ]
    flags = 0
    for name in names:
        flags |= getattr(getattr(__future__, name, None), "compiler_flag", 0)
    return flags


def _mentions(tree: ast.Module) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for statement in tree.body[:_MOST_NAMES]:
        owner = statement.name[:_LONGEST_NAME] if isinstance(statement, _DEFINITIONS) else ""
        mine = found.setdefault(owner, set())
        for node in ast.walk(statement):
            mine.update(name[:_LONGEST_NAME] for name in _names(node))
    return {owner: frozenset(islice(names, _MOST_NAMES)) for owner, names in found.items()}


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [f".{node.attr}"]
    dotted = node.name if isinstance(node, ast.alias) else node.module if isinstance(node, ast.ImportFrom) else ""
    return [f".{part}" for part in (dotted or "").split(".") if part]


def _is_stub(node: ast.stmt) -> bool:
    """Return whether a function, or each public method of a class, only raises NotImplementedError."""
    if isinstance(node, ast.ClassDef):
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
        return bool(methods) and all(_is_stub(method) for method in methods)
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    body = [part for part in node.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
    if len(body) != 1 or not isinstance(body[0], ast.Raise) or body[0].exc is None:
        return False
    raised = body[0].exc.func if isinstance(body[0].exc, ast.Call) else body[0].exc
    return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
