"""Machine-made mutants of a solution: one small change in each, which a lesson's checks must notice.

Nothing here imports torch.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from coursekit.errors import LessonError
from coursekit.grading.proof.mutations import Change, changes

_LONGEST = 70  # characters of what an id shows of the code, before the change and after it
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# Subtrees that no check can see: types, and the words of an error.
_UNSEEN = ("annotation", "returns", "type_comment", "type_params", "exc", "cause", "msg")


@dataclass(frozen=True)
class Mutant:
    """A solution with one change.

    Args:
        id: where and what, in the words of the code; it holds no line number, so that it outlives other edits.
        operator: kind of the change, such as `arithmetic`.
        text: of the changed file; what the exercise does not use is left out.
    """

    id: str
    operator: str
    text: str


@dataclass
class _Site:
    """A place in a syntax tree."""

    parent: ast.AST
    field: str
    index: int | None
    within: str
    scope: tuple[str, ...] = ()  # the names of the function around it, in the order in which they come

    @property
    def node(self) -> ast.AST:
        held = getattr(self.parent, self.field)
        return held if self.index is None else held[self.index]

    @contextmanager
    def holding(self, put: ast.AST | list[ast.AST]) -> Iterator[None]:
        """Change the place for a block."""
        before = getattr(self.parent, self.field)
        if self.index is None:
            now = put
        else:
            parts = put if isinstance(put, list) else [put]
            now = [*before[: self.index], *parts, *before[self.index + 1 :]]
            if not now and self.field == "body":
                now = [ast.Pass()]
        setattr(self.parent, self.field, now)
        try:
            yield
        finally:
            setattr(self.parent, self.field, before)


def mutants(text: str, names: Sequence[str], others: Sequence[str] = ()) -> tuple[Mutant, ...]:
    """Return every mutant of some functions and classes, and of the private helpers and constants they use.

    Args:
        text: of `solution.py`.
        names: functions and classes that one exercise asks for.
        others: functions and classes of the other exercises, which are left as they are.

    Raises:
        LessonError: the text is not Python, or lacks a name.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise LessonError("solution.py", "valid Python", got=error, fix="mend it there") from None
    _strip(tree)
    used = _reached(tree, names)
    parts = {place: ast.unparse(node) for place, node in enumerate(tree.body) if _kept(node, used)}
    made: list[Mutant] = []
    seen = {*parts.values()}
    repeats: Counter[str] = Counter()
    for place in parts:
        node = tree.body[place]
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Expr) or _defined(node) & set(others):
            continue
        for site in _sites(node, _title(node)):
            for change in _all_changes(site):
                with site.holding(change.put):
                    changed = ast.unparse(node)
                if changed in seen:
                    continue
                seen.add(changed)
                says = f"{site.within}: {_difference(site, change)}"
                repeats[says] += 1
                name = says if repeats[says] == 1 else f"{says} #{repeats[says]}"
                whole = "\n\n".join(changed if other == place else part for other, part in parts.items())
                made.append(Mutant(name, change.operator, whole))
    return tuple(made)


def _all_changes(site: _Site) -> Iterator[Change]:
    yield from changes(site.node, site.parent, site.field)
    node = site.node
    name = node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else ""
    if name in site.scope and len(site.scope) > 1:
        yield Change("name", ast.Name(site.scope[site.scope.index(name) - 1]))


def _strip(tree: ast.Module) -> None:
    """Take the docstrings out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | _Definition) and ast.get_docstring(node, clean=False) is not None:
            node.body[:1] = [] if len(node.body) > 1 or isinstance(node, ast.Module) else [ast.Pass()]


def _reached(tree: ast.Module, names: Sequence[str]) -> set[str]:
    """Return the names at the top of the file that these names need, themselves included."""
    needs = {name: _loaded(node) for node in tree.body for name in _defined(node)}
    missing = [name for name in names if name not in needs]
    if missing:
        fix = "write it, or mend lesson.toml"
        raise LessonError("solution.py", f"a function or class {missing[0]}", got="none", fix=fix)
    found, todo = set(names), list(names)
    while todo:
        more = (needs[todo.pop()] & set(needs)) - found
        found |= more
        todo += more
    return found


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, _Definition):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return set()


def _loaded(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _kept(node: ast.stmt, used: set[str]) -> bool:
    defined = _defined(node)
    return not defined or bool(defined & used)


def _title(node: ast.stmt) -> str:
    return node.name if isinstance(node, _Definition) else ", ".join(sorted(_defined(node))) or "module"


def _sites(node: ast.AST, within: str, scope: tuple[str, ...] = ()) -> Iterator[_Site]:
    scope = _scope(node) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else scope
    for field, value in ast.iter_fields(node):
        if field in _UNSEEN or isinstance(node, ast.JoinedStr):
            continue
        for index, part in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(part, ast.AST):
                yield _Site(node, field, index, within, scope)
                inner = f"{within}.{part.name}" if isinstance(part, _Definition) else within
                yield from _sites(part, inner, scope)


def _scope(function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...]:
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs) if one.arg != "self"]
    names += [one.id for one in ast.walk(function) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
    return tuple(name for name in dict.fromkeys(names) if name != "_")


def _difference(site: _Site, change: Change) -> str:
    """Show the change, with the expression around it where that is short."""
    if site.field == "decorator_list":
        return f"@{ast.unparse(site.node)} -> nothing"
    if isinstance(site.parent, ast.arguments) and isinstance(change.put, ast.AST):
        name = _parameter(site.parent, site.field, site.index or 0)
        return f"{name}={_shown(site.node)} -> {name}={_shown(change.put)}"
    around = isinstance(site.parent, ast.expr | ast.keyword | ast.Return)
    context = site.parent if around and len(_shown(site.parent)) <= _LONGEST else site.node
    if context is site.node:
        after = _shown(change.put) if isinstance(change.put, ast.AST) else ("its body" if change.put else "nothing")
        return f"{_shown(site.node)} -> {after}"
    before = _shown(context)
    with site.holding(change.put):
        return f"{before} -> {_shown(context)}"


def _parameter(arguments: ast.arguments, field: str, index: int) -> str:
    if field == "kw_defaults":
        return arguments.kwonlyargs[index].arg
    positional = [*arguments.posonlyargs, *arguments.args]
    return positional[index - len(arguments.defaults)].arg


def _shown(node: ast.AST) -> str:
    lines = ast.unparse(node).splitlines()
    if isinstance(node, ast.For | ast.While) and len(lines) > 2 and lines[-1].strip() == "break":
        return f"{lines[0].rstrip(':')}, once"
    text = lines[0].rstrip(":").strip()
    return text if len(text) <= 2 * _LONGEST else f"{text[: 2 * _LONGEST - 1]}…"
