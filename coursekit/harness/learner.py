"""The learner's own code inside a lesson's experiment (`coursekit run LESSON --mine`).

It runs in this process: it is the learner's own machine. Grading, which may meet strangers' code, does not.
"""

from __future__ import annotations

import ast
import hashlib
import traceback
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coursekit.catalog import Lesson
from coursekit.errors import CourseError, SubmissionError


class LearnerCode:
    """A learner's file, executed once.

    Args:
        path: the file.
        lesson: whose exercises it solves.

    Raises:
        SubmissionError: it cannot be read, is not Python, or fails when imported.
    """

    def __init__(self, path: Path, lesson: Lesson) -> None:
        self.path, self.lesson = path, lesson
        try:
            source = path.read_bytes()
            tree = ast.parse(source, str(path))
        except OSError as error:
            raise SubmissionError(
                str(path), "a readable file", got=(error.strerror or str(error)).lower(), fix="name your exercises file"
            ) from None
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            raise SubmissionError(f"{path}{line}", "valid Python", got=error, fix="mend it there") from None
        self.sha256 = hashlib.sha256(source).hexdigest()
        self._stubs = {node.name for node in tree.body if isinstance(node, _DEFINITIONS) and _is_stub(node)}
        self._module = types.ModuleType(path.stem)
        with self.blamed_for_its_errors():
            exec(compile(tree, str(path), "exec"), self._module.__dict__)

    def has(self, name: str) -> bool:
        """Return whether the learner has written this function or class (it is there, and no stub)."""
        return hasattr(self._module, name) and name not in self._stubs

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._module, name)
        except AttributeError:
            raise SubmissionError(
                str(self.path), f"a function or class {name}", got="none", fix=f"write {name}, or take the stub back"
            ) from None

    @contextmanager
    def blamed_for_its_errors(self) -> Iterator[None]:
        """Turn an error inside the learner's file into one that names its line.

        Raises:
            SubmissionError: the learner's code raised.
        """
        try:
            yield
        except CourseError:
            raise
        except Exception as error:
            frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(self.path)]
            if not frames:
                raise
            line = frames[-1].lineno
            raise SubmissionError(
                f"{self.path}, line {line}",
                "code that runs",
                got=f"{type(error).__name__}: {error}",
                fix=f"mend it, then check it with `coursekit grade {self.lesson.id}`",
            ) from error


_DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def _is_stub(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Return whether a function's body, or one of a class's methods, still only raises NotImplementedError."""
    if isinstance(node, ast.ClassDef):
        return any(_is_stub(part) for part in node.body if isinstance(part, ast.FunctionDef))
    body = [part for part in node.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
    return len(body) == 1 and isinstance(body[0], ast.Raise) and "NotImplementedError" in ast.unparse(body[0])
