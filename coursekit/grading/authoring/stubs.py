"""Stubs from solutions: `exercises.py` is made from `solution.py`, so that the two never drift apart.

A stub keeps names, signatures and docstrings to the letter. Nothing here imports torch.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence

from coursekit.catalog import Lesson
from coursekit.errors import LessonError

_FIRST_LINE = "Your exercises: write each body below, then run pytest on this folder."
# Part of how a method is called, and no hint at how it is written.
_KEPT_DECORATORS = ("property", "staticmethod", "classmethod")
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def exercise_names(lesson: Lesson) -> dict[str, str]:
    """Return every function and class that the learner writes in a lesson, with the code of its exercise."""
    return {name: exercise.code for exercise in lesson.exercises for name in exercise.names}


def stub_source(solution_text: str, names: Mapping[str, str]) -> str:
    """Return the text of `exercises.py`.

    Kept are the functions and classes asked for, what their signatures need (imports, aliases, constants), and
    `import torch`. A class keeps its public and special methods. Decorators go, since `@torch.no_grad()` is
    part of the answer.

    Args:
        solution_text: the text of `solution.py`.
        names: what the learner writes, with the code of its exercise (see `exercise_names`).

    Raises:
        LessonError: the solution lacks a name, or one of its docstrings.
    """
    tree = _tree(solution_text, "solution.py")
    wanted = _definitions(tree, names, "solution.py")
    lines = solution_text.splitlines()
    bodies = [_stub(lines, node, f"{names[node.name]}: write {node.name}") for node in wanted]
    support = _support(tree, lines, "\n".join(bodies))
    text = "\n\n\n".join([f"{_module_docstring(tree)}\n\n{support}".rstrip(), *bodies]) + "\n"
    _tree(text, "the stub made from solution.py")
    return text


def stub_of(solution_text: str, name: str, code: str) -> str:
    """Return the stub of one function or class alone, without what its signature needs.

    Args:
        solution_text: the text of `solution.py`.
        name: of the function or class.
        code: of its exercise.

    Raises:
        LessonError: the solution lacks the name, or its docstring.
    """
    (node,) = _definitions(_tree(solution_text, "solution.py"), [name], "solution.py")
    return _stub(solution_text.splitlines(), node, f"{code}: write {name}")


def worked(exercises_text: str) -> str:
    """Say what in a file of exercises someone wrote, and no stub holds; empty when there is nothing.

    Args:
        exercises_text: the text of `exercises.py`.
    """
    try:
        tree = ast.parse(exercises_text)
    except (SyntaxError, ValueError):
        return "text that is not Python"
    for node in tree.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, _Definition):
            if not _is_stub(node):
                return f"work in {node.name}"
        elif not docstring and not isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign):
            return f"work in line {node.lineno}"
    return ""


def _is_stub(node: _Definition) -> bool:
    if isinstance(node, ast.ClassDef):
        parts = [part for part in node.body if not _is_text(part)]
        return bool(parts) and all(isinstance(part, _Definition) and _is_stub(part) for part in parts)
    body = [part for part in node.body if not _is_text(part)]
    return len(body) == 1 and isinstance(body[0], ast.Raise) and "NotImplementedError" in ast.unparse(body[0])


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def drift(exercises_text: str, solution_text: str, names: Sequence[str]) -> list[str]:
    """Return how the stubs differ from the solution in names, signatures and docstrings; bodies are the learner's.

    Args:
        exercises_text: the text of `exercises.py`.
        solution_text: the text of `solution.py`.
        names: what the learner writes.

    Raises:
        LessonError: one of the two is not Python, or the solution lacks a name.
    """
    theirs = {
        node.name: node
        for node in _tree(exercises_text, "exercises.py").body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    found = []
    for node in _definitions(_tree(solution_text, "solution.py"), names, "solution.py"):
        if node.name not in theirs:
            found.append(f"{node.name} is missing")
            continue
        mine, other = dict(_interface(node, node.name)), dict(_interface(theirs[node.name], node.name))
        for part, (signature, docstring) in mine.items():
            if part not in other:
                found.append(f"{part} is missing")
            elif other[part][0] != signature:
                found.append(f"{part}: the signature is {other[part][0]}, in the solution {signature}")
            elif other[part][1] != docstring:
                found.append(f"{part}: the docstring differs from the solution's")
    return found


def body_lines(solution_text: str, names: Sequence[str]) -> list[str]:
    """Return the lines of code that a learner writes: bodies without docstrings, comments and blank lines.

    Args:
        solution_text: the text of `solution.py`.
        names: functions and classes.

    Raises:
        LessonError: the text is not Python, or lacks a name.
    """
    lines = solution_text.splitlines()
    found = []
    for node in _definitions(_tree(solution_text, "solution.py"), names, "solution.py"):
        for function in [node, *_methods(node)] if isinstance(node, ast.ClassDef) else [node]:
            body = [] if isinstance(function, ast.ClassDef) else function.body
            for part in body[1:] if ast.get_docstring(function) is not None else body:
                found += [line.partition("  #")[0].strip() for line in lines[part.lineno - 1 : part.end_lineno]]
    return [line for line in found if line and not line.startswith("#")]


def _tree(text: str, where: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise LessonError(where, "valid Python", got=error, fix="mend it there") from None


def _definitions(tree: ast.Module, names: Mapping[str, str] | Sequence[str], where: str) -> list[_Definition]:
    """Return the definitions of these names, in the order of the file."""
    found = [node for node in tree.body if isinstance(node, _Definition) and node.name in names]
    missing = [name for name in names if name not in [node.name for node in found]]
    if missing:
        raise LessonError(where, f"a function or class {missing[0]}", got="none", fix="write it, or mend lesson.toml")
    return found


def _stub(lines: Sequence[str], node: _Definition, task: str) -> str:
    """Return one definition as its own text, from `def` or `class` to the end of the docstring, with a stub body."""
    docstring = node.body[0]
    if ast.get_docstring(node) is None or docstring.lineno == node.lineno:
        where = f"solution.py, line {node.lineno}"
        raise LessonError(where, f"a docstring of {node.name}", got="none", fix="write one")
    kept = lines[node.lineno - 1 : docstring.end_lineno]
    if not isinstance(node, ast.ClassDef):
        body = f'{" " * docstring.col_offset}raise NotImplementedError("{task}")'
        return "\n".join([*_decorators(node), *kept, body])
    methods = [_stub(lines, method, f"{task}.{method.name}") for method in _methods(node)]
    return "\n\n".join(["\n".join(kept), *methods])


def _methods(node: ast.ClassDef) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            special = part.name.startswith("__") and part.name.endswith("__")
            if special or not part.name.startswith("_"):
                yield part


def _decorators(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    indent = " " * node.col_offset
    kept = [ast.unparse(one) for one in node.decorator_list]
    return [f"{indent}@{one}" for one in kept if one in _KEPT_DECORATORS]


def _support(tree: ast.Module, lines: Sequence[str], bodies: str) -> str:
    """Return the imports, aliases and constants that the signatures use, with the blank lines between them."""
    needed = _used(ast.parse(bodies))
    assigned = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    while more := {name for node in assigned if _targets(node) & needed for name in _used(node)} - needed:
        needed |= more  # an alias may stand on another
    groups: dict[int, list[tuple[tuple[int, str], str]]] = {}
    for node in tree.body:
        for group, place, text in _import(node, needed) if isinstance(node, ast.Import | ast.ImportFrom) else ():
            groups.setdefault(group, []).append((place, text))
    parts = ["\n".join(text for _, text in sorted(groups[group])) for group in sorted(groups)]
    last = 0  # line at which the assignment kept before ends
    for node in assigned:
        if _targets(node) & needed:
            text = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            together = last and "" not in lines[last : node.lineno - 1]
            parts = [*parts[:-1], f"{parts[-1]}\n{text}"] if together else [*parts, text]
            last = node.end_lineno or node.lineno
    return "\n\n".join(parts)


def _targets(node: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {name for target in targets for name in _used(target)}


def _import(node: ast.Import | ast.ImportFrom, needed: set[str]) -> Iterator[tuple[int, tuple[int, str], str]]:
    """Yield the parts of an import that are needed, each with its group and its place, as ruff sorts them."""
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    used = [alias for alias in node.names if (alias.asname or alias.name).partition(".")[0] in needed]
    if module == "__future__":
        used = node.names
    if isinstance(node, ast.ImportFrom):
        if used:
            yield _group(module), (1, module.lower()), ast.unparse(ast.ImportFrom(module, used, node.level))
        return
    for alias in node.names:
        if alias in used:
            yield _group(alias.name), (0, alias.name.lower()), ast.unparse(ast.Import([alias]))
        elif alias.name == "torch" and alias.asname is None:
            yield _group("torch"), (0, "torch"), "import torch  # noqa: F401  (yours to use)"


def _group(module: str) -> int:
    """Return where a module's import stands: __future__, Python's own, others', the course's."""
    package = module.partition(".")[0]
    if package == "__future__":
        return 0
    if package in sys.stdlib_module_names:
        return 1
    return 3 if package in ("coursekit", "lessons") else 2


def _used(tree: ast.AST) -> set[str]:
    """Return every name in a tree, and every text that could be one: annotations may be quoted."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.update(re.findall(r"\w+", node.value))
    return found


def _module_docstring(tree: ast.Module) -> str:
    """Return the docstring of the stub: ours, then what the solution's says after its first paragraph."""
    rest = (ast.get_docstring(tree) or "").partition("\n\n")[2].strip()
    return f'"""{_FIRST_LINE}\n\n{rest}\n"""' if rest else f'"""{_FIRST_LINE}"""'


def _interface(node: _Definition, name: str) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Yield the signature and docstring of a definition and of its public methods, by dotted name."""
    docstring = ast.get_docstring(node)
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, [*node.bases, *node.keywords]))
        yield name, (f"class {node.name}({bases})", docstring)
        for method in _methods(node):
            yield from _interface(method, f"{name}.{method.name}")
        return
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    decorators = "".join(f"{one.strip()} " for one in _decorators(node))
    yield name, (f"{decorators}{node.name}({ast.unparse(node.args)}){returns}", docstring)
