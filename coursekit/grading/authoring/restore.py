"""One definition of the learner's file back to its stub; every other byte stays. Nothing here imports torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from coursekit.errors import SubmissionError

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# As Python counts lines; `str.splitlines` would also split at a form feed.
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_STATEMENT = re.compile(r"[@A-Za-z_\"']")  # begins a statement at the left margin; a closing bracket does not
_BOM = "\ufeff"


def definition(text: str, name: str) -> str:
    """Return the text of a function or class, decorators included, without a line end; empty where there is none.

    Args:
        text: valid Python.
        name: of a function or class at the top level.
    """
    lines = _LINES.findall(text)
    place = _parsed_place(text, lines, name)
    return "".join(lines[slice(*place)]).rstrip("\r\n") if place else ""


def restored(text: str, name: str, stub: str, where: str) -> str:
    """Return a learner's file with a stub in the place of one definition.

    Where the name is defined several times, the last one counts, as it does for Python; where it is not defined, the
    stub is added at the end. In a file that is not Python, the definition ends before the next statement at the
    left margin.

    Args:
        text: of the file.
        name: of the function or class.
        stub: its text.
        where: the file, for messages.

    Raises:
        SubmissionError: the file is not Python, and the definition cannot be told from the rest.
    """
    mark, text = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    lines = _LINES.findall(text)
    end = _line_end(lines)
    stub = end.join(stub.splitlines())
    try:
        place = _parsed_place(text, lines, name)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        place = _guessed_place(lines, name, where)
    if place is None:
        gap = end * 2 if not text or text.endswith(("\n", "\r")) else end * 3
        return f"{mark}{text}{gap if text else ''}{stub}{end}"
    first, last = place
    after = lines[last:]
    return (
        mark
        + "".join(lines[:first])
        + stub
        + (end if after or lines[last - 1].endswith(("\n", "\r")) else "")
        + "".join(after)
    )


def _parsed_place(text: str, lines: Sequence[str], name: str) -> tuple[int, int] | None:
    """Return the first line of a definition and the one after its last, counted from 0."""
    found = [node for node in ast.parse(text).body if isinstance(node, _Definition) and node.name == name]
    if not found:
        return None
    node = found[-1]
    first = min([node.lineno, *(one.lineno for one in node.decorator_list)]) - 1
    return first, _with_comments(lines, node.end_lineno or node.lineno)


def _guessed_place(lines: Sequence[str], name: str, where: str) -> tuple[int, int]:
    pattern = re.compile(rf"(?:async\s+def|def|class)\s+{re.escape(name)}\b")
    starts = [number for number, line in enumerate(lines) if pattern.match(line)]
    if len(starts) != 1:
        got = f"{len(starts)} lines that begin with `def {name}` or `class {name}`, in a file that is not Python"
        raise SubmissionError(where, f"one definition of {name}", got=got, fix="reset the whole file with --all")
    first = starts[0]
    last = next((n for n in range(first + 1, len(lines)) if _STATEMENT.match(lines[n])), len(lines))
    while first and lines[first - 1].startswith("@"):
        first -= 1
    # Blank lines, and comments at the left margin, belong to what follows.
    while last > starts[0] + 1 and (not lines[last - 1].strip() or lines[last - 1].startswith("#")):
        last -= 1
    return first, last


def _with_comments(lines: Sequence[str], last: int) -> int:
    """Return the line after the indented comments that follow a definition: they belong to its body."""
    end = last
    while end < len(lines) and (not lines[end].strip() or re.match(r"[ \t]+#", lines[end])):
        end += 1
    while end > last and not lines[end - 1].strip():
        end -= 1
    return end


def _line_end(lines: Sequence[str]) -> str:
    """Return how the first line ends."""
    first = lines[0] if lines else ""
    return next((end for end in ("\r\n", "\n", "\r") if first.endswith(end)), "\n")
