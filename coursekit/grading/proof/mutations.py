"""What can go wrong in one place of a program: for a node of the syntax tree, the nodes that may take its place.

The changes are those that people make by mistake: another operator, another constant, a term, a line or an argument
too few, two results in the wrong order, `sum` for `mean`, an in-place method for the other kind. Docstrings,
annotations and the text of error messages are left alone: no check looks at them. Nothing here imports torch.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple


class Change(NamedTuple):
    """What may take the place of a node.

    Args:
        operator: kind of the change: `arithmetic`, `constant`, ...
        put: a node; or statements, arguments or decorators, none of which removes the node from its list.
    """

    operator: str
    put: ast.AST | list[ast.AST]


_Rule = Callable[[Any, ast.AST, str], Iterator[Change]]

_OTHER_ARITHMETIC: dict[type, type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
}
_ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)
_OTHER_COMPARISONS: dict[type, tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_PAIRS = """
    sum mean, min max, amin amax, argmin argmax, minimum maximum, sin cos, floor ceil, any all, ones zeros,
    ones_like zeros_like, var std, sqrt square, exp log, row column, triu tril, no_grad enable_grad, fan_in fan_out,
    normal_ uniform_, rand randn, rand_like randn_like, append extend, softmax log_softmax, squeeze unsqueeze
"""
_OTHER_NAMES = {
    name: other
    for pair in _PAIRS.replace("\n", " ").split(",")
    for name, other in (pair.split(), reversed(pair.split()))
}
# Out of place, as they are written most; the other way round the trailing _ tells.
_HAVE_IN_PLACE = "add sub mul div pow sqrt square exp clamp masked_fill copy zero fill lerp addcmul addcdiv"
# Calls that give back something like what they are given.
_DROPPED = """
    clone detach sqrt square abs exp log sum mean float double int list tuple sorted reversed relu tanh sigmoid
    softmax log_softmax contiguous item cos sin clamp sqrt_ transpose unsqueeze squeeze flatten requires_grad_
"""
_KEPT_DECORATORS = ("property", "staticmethod", "classmethod")
_COUNTING = ("range", "islice")
_TRANSPOSED = ("T", "mT", "H", "mH")


def changes(node: ast.AST, parent: ast.AST, field: str) -> Iterator[Change]:
    """Yield what may take the place of a node.

    Args:
        node: of a syntax tree, which is not changed.
        parent: the node that holds it.
        field: of the parent, in which it stands.
    """
    if field == "decorator_list":
        if ast.unparse(node) not in _KEPT_DECORATORS:
            yield Change("decorator", [])
        return
    for rule in _RULES.get(type(node), ()):
        yield from rule(node, parent, field)


def _arithmetic(node: ast.BinOp, parent: ast.AST, field: str) -> Iterator[Change]:
    if type(node.op) in _OTHER_ARITHMETIC:
        yield Change("arithmetic", ast.BinOp(node.left, _OTHER_ARITHMETIC[type(node.op)](), node.right))
    if isinstance(node.op, _ORDERED):
        yield Change("operand order", ast.BinOp(node.right, node.op, node.left))
    yield Change("term dropped", node.left)
    yield Change("term dropped", node.right)


def _sign(node: ast.UnaryOp, parent: ast.AST, field: str) -> Iterator[Change]:
    if isinstance(node.op, ast.USub):
        yield Change("arithmetic", node.operand)
    elif isinstance(node.op, ast.Not):
        yield Change("condition", node.operand)


def _updated(node: ast.AugAssign, parent: ast.AST, field: str) -> Iterator[Change]:
    if type(node.op) in _OTHER_ARITHMETIC:
        yield Change("arithmetic", ast.AugAssign(node.target, _OTHER_ARITHMETIC[type(node.op)](), node.value))
    # The line number stands for all that unparsing asks of an assignment.
    yield Change("statement", ast.Assign([node.target], node.value, lineno=0))


def _comparison(node: ast.Compare, parent: ast.AST, field: str) -> Iterator[Change]:
    for place, operator in enumerate(node.ops):
        for other in _OTHER_COMPARISONS[type(operator)]:
            ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
            yield Change("comparison", ast.Compare(node.left, ops, node.comparators))


def _boolean(node: ast.BoolOp, parent: ast.AST, field: str) -> Iterator[Change]:
    yield Change("boolean", ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))
    for place in range(len(node.values)):
        rest = [*node.values[:place], *node.values[place + 1 :]]
        yield Change("boolean", rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest))


def _branch(node: ast.If, parent: ast.AST, field: str) -> Iterator[Change]:
    yield from _negated(node, ast.If(_not(node.test), node.body, node.orelse))
    yield Change("condition", ast.If(ast.Constant(True), node.body, node.orelse))
    if node.orelse:
        yield Change("condition", ast.If(ast.Constant(False), node.body, node.orelse))


def _choice(node: ast.IfExp, parent: ast.AST, field: str) -> Iterator[Change]:
    yield Change("condition", node.body)
    yield Change("condition", node.orelse)


def _filter(node: ast.comprehension, parent: ast.AST, field: str) -> Iterator[Change]:
    for place, test in enumerate(node.ifs):
        rest = [*node.ifs[:place], *node.ifs[place + 1 :]]
        yield Change("condition", ast.comprehension(node.target, node.iter, rest, node.is_async))
        if not isinstance(test, ast.Compare):
            ifs = [*node.ifs[:place], _not(test), *node.ifs[place + 1 :]]
            yield Change("condition", ast.comprehension(node.target, node.iter, ifs, node.is_async))


def _loop(node: ast.For | ast.While, parent: ast.AST, field: str) -> Iterator[Change]:
    once = [*node.body, ast.Break()]
    if isinstance(node, ast.For):
        yield Change("loop", ast.For(node.target, node.iter, once, node.orelse, lineno=0))
    else:
        yield from _negated(node, ast.While(_not(node.test), node.body, node.orelse))
        yield Change("loop", ast.While(node.test, once, node.orelse))


def _negated(node: ast.If | ast.While, put: ast.AST) -> Iterator[Change]:
    # The negation of one comparison is another, and `not not x` is x: both are made where they stand.
    simple = isinstance(node.test, ast.Compare) and len(node.test.ops) == 1
    if not simple and not (isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not)):
        yield Change("condition", put)


def _not(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _constant(node: ast.Constant, parent: ast.AST, field: str) -> Iterator[Change]:
    operator = "default" if field in ("defaults", "kw_defaults") else "constant"
    value = node.value
    others: Iterable[object] = ()
    if isinstance(value, bool):
        others = (not value,)
    elif isinstance(value, int):
        others = (value + 1, value - 1, -value, 2 * value)
    elif isinstance(value, float):
        others = (2 * value, value / 2, -value, value + 1)
    elif isinstance(value, str) and not isinstance(parent, ast.Expr | ast.Subscript | ast.Dict):
        others = (f"{value}_",)  # a misspelt key would only raise KeyError
    for other in dict.fromkeys(others):
        if other != value:
            yield Change(operator, ast.Constant(other))


def _argument(node: ast.keyword, parent: ast.AST, field: str) -> Iterator[Change]:
    if isinstance(parent, ast.Call):
        yield Change("argument", [])
        if node.arg in ("min", "max"):
            yield Change("method", ast.keyword("max" if node.arg == "min" else "min", node.value))


def _call(node: ast.Call, parent: ast.AST, field: str) -> Iterator[Change]:
    plain = not any(isinstance(part, ast.Starred) for part in node.args)
    if plain and len(node.args) >= 2:
        first, second, *rest = node.args
        yield Change("argument", ast.Call(node.func, [second, first, *rest], node.keywords))
    name = _name(node.func)
    if plain and name in _COUNTING and node.args:
        *rest, last = node.args
        for operator in (ast.Add(), ast.Sub()):
            yield Change("slice", ast.Call(node.func, [*rest, ast.BinOp(last, operator, ast.Constant(1))], []))
    if name in _DROPPED.split() and not isinstance(parent, ast.Expr):
        if isinstance(node.func, ast.Attribute) and not _is_module(node.func.value):
            yield Change("call dropped", node.func.value)
        elif plain and len(node.args) == 1:
            yield Change("call dropped", node.args[0])
    # A function of a module, such as `clip_grad_norm_`, has no other kind; a method has.
    in_place = isinstance(node.func, ast.Attribute) and not _is_module(node.func.value)
    for other in _other_names(name, in_place):
        yield Change("method", ast.Call(_renamed(node.func, other), node.args, node.keywords))


def _other_names(name: str, in_place: bool) -> Iterator[str]:
    if name in _OTHER_NAMES:
        yield _OTHER_NAMES[name]
    elif in_place and name.endswith("_") and not name.startswith("_"):
        yield name.removesuffix("_")
    if in_place and name in _HAVE_IN_PLACE.split():
        yield f"{name}_"


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _renamed(function: ast.expr, name: str) -> ast.expr:
    return ast.Attribute(function.value, name) if isinstance(function, ast.Attribute) else ast.Name(name)


def _is_module(value: ast.expr) -> bool:
    while isinstance(value, ast.Attribute):
        value = value.value
    return isinstance(value, ast.Name) and value.id in ("torch", "math", "F", "np", "nn", "functional")


def _attribute(node: ast.Attribute, parent: ast.AST, field: str) -> Iterator[Change]:
    if node.attr in _TRANSPOSED and not _is_module(node.value):
        yield Change("axis", node.value)


def _slice(node: ast.Slice, parent: ast.AST, field: str) -> Iterator[Change]:
    one = ast.Constant(1)
    lower = ast.BinOp(node.lower, ast.Add(), one) if node.lower else one
    yield Change("slice", ast.Slice(lower, node.upper, node.step))
    upper = ast.BinOp(node.upper, ast.Sub(), one) if node.upper else ast.UnaryOp(ast.USub(), one)
    yield Change("slice", ast.Slice(node.lower, upper, node.step))
    if node.step:
        yield Change("slice", ast.Slice(node.lower, node.upper, None))


def _removed(node: ast.stmt, parent: ast.AST, field: str) -> Iterator[Change]:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if not docstring and not (isinstance(node, ast.AnnAssign) and node.value is None):
        yield Change("statement", [])


def _left(node: ast.Continue | ast.Break, parent: ast.AST, field: str) -> Iterator[Change]:
    yield Change("loop", ast.Break() if isinstance(node, ast.Continue) else ast.Continue())


def _unwrapped(node: ast.With, parent: ast.AST, field: str) -> Iterator[Change]:
    yield Change("context", list(node.body))


def _order(node: ast.Tuple, parent: ast.AST, field: str) -> Iterator[Change]:
    targets = isinstance(node.ctx, ast.Store)
    # Swapping the targets of `a, b = c, d` is swapping its values.
    twice = targets and isinstance(parent, ast.Assign) and isinstance(parent.value, ast.Tuple)
    if twice or not isinstance(parent, ast.Return | ast.Assign | ast.For | ast.comprehension | ast.Yield):
        return
    for place in range(len(node.elts) - 1):
        swapped = list(node.elts)
        swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
        yield Change("result order", ast.Tuple(swapped, node.ctx))


_RULES: dict[type, tuple[_Rule, ...]] = {
    ast.BinOp: (_arithmetic,),
    ast.UnaryOp: (_sign,),
    ast.AugAssign: (_updated, _removed),
    ast.Compare: (_comparison,),
    ast.BoolOp: (_boolean,),
    ast.If: (_branch, _removed),
    ast.IfExp: (_choice,),
    ast.comprehension: (_filter,),
    ast.For: (_loop, _removed),
    ast.While: (_loop, _removed),
    ast.Constant: (_constant,),
    ast.keyword: (_argument,),
    ast.Call: (_call,),
    ast.Attribute: (_attribute,),
    ast.Slice: (_slice,),
    ast.Expr: (_removed,),
    ast.Assign: (_removed,),
    ast.AnnAssign: (_removed,),
    ast.Return: (_removed,),
    ast.Raise: (_removed,),
    ast.Delete: (_removed,),
    ast.Continue: (_left, _removed),
    ast.Break: (_left, _removed),
    ast.With: (_unwrapped,),
    ast.Tuple: (_order,),
}
