"""[P] Small wrong changes to a module, one at a time: what a good test must notice.

What is left alone: annotations, docstrings, decorators, ``__all__`` and ``__slots__``, texts for people (those with a blank
in them, and what an exception says), options of classes, names of type variables, and ``del`` of a parameter that is not used.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import CodeType
from typing import NamedTuple

__all__ = ["Mutant", "mutants"]

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
}  # fmt: skip
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}
_PLAIN = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.NamedExpr)
_SKIPPED_FIELDS = {"annotation", "returns", "decorator_list", "type_params"}


class Mutant(NamedTuple):
    """One changed module.

    Attributes:
        where: Qualified name of the function that is changed, as far as it can be reached by name; "" outside of any.
        what: What was changed into what, unique within the module; without line numbers, so that it keeps its name.
        code: The whole module, compiled.
    """

    where: str
    what: str
    code: CodeType


class _Site(NamedTuple):
    where: str
    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def mutants(source: str, filename: str) -> Iterator[Mutant]:
    """Make every mutant of a module, in the order of its text."""
    tree = ast.parse(source)
    seen: dict[str, int] = {}
    members = _members(tree)
    for site in list(_sites(tree, "", reachable=True)):
        for changed in (*_changes(site.node, site.parent, site.field), *_other_member(site.node, members)):
            ast.copy_location(changed, site.node)
            name = f"{site.where or 'module'}: {_text(site.node)} -> {_text(changed)}"
            seen[name] = seen.get(name, 0) + 1
            site.put(changed)
            code = compile(ast.fix_missing_locations(tree), filename, "exec")
            site.put(site.node)
            yield Mutant(site.where, name if seen[name] == 1 else f"{name} (#{seen[name]})", code)


def _members(tree: ast.AST) -> dict[str, list[str]]:
    """Names in capitals that the module takes from one class, as ``State.DEAD``: members of an enumeration."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr.isupper():
            found.setdefault(node.value.id, set()).add(node.attr)
    return {base: sorted(names) for base, names in found.items()}


def _other_member(node: ast.AST, members: dict[str, list[str]]) -> Iterator[ast.AST]:
    """The next member that the module knows, in the place of this one."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr.isupper():
        names = members[node.value.id]
        if len(names) > 1 and isinstance(node.ctx, ast.Load):
            yield ast.Attribute(node.value, names[(names.index(node.attr) + 1) % len(names)], ast.Load())


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else text[:60] + " ... " + text[-25:]


def _sites(node: ast.AST, where: str, *, reachable: bool) -> Iterator[_Site]:
    for field, value in ast.iter_fields(node):
        if field in _SKIPPED_FIELDS or (isinstance(node, ast.ClassDef) and field == "keywords"):
            continue
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if not isinstance(child, ast.AST) or _left_alone(node, child):
                continue
            yield _Site(where, node, field, index if isinstance(value, list) else None, child)
            inner, reaches = where, reachable
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                is_class = isinstance(child, ast.ClassDef)
                if reachable:
                    inner = f"{where}.{child.name}" if where else child.name
                reaches = reachable and is_class
            yield from _sites(child, inner, reachable=reaches)


def _left_alone(parent: ast.AST, child: ast.AST) -> bool:
    if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
        return True  # a docstring, or what describes an attribute
    if isinstance(child, ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "TypeVar":
        return True
    if isinstance(child, ast.Delete) and all(isinstance(target, ast.Name) for target in child.targets):
        return True
    if (
        isinstance(child, ast.Subscript)
        and isinstance(child.value, ast.Name)
        and child.value.id in {"Literal", "tuple"}
    ):
        return True  # a type that has got a name
    if isinstance(child, ast.Assign | ast.AnnAssign):
        target = child.targets[0] if isinstance(child, ast.Assign) else child.target
        return isinstance(target, ast.Name) and target.id in {"__all__", "__slots__"}
    return isinstance(parent, ast.Raise) or (isinstance(parent, ast.Assert) and child is parent.msg)


def _changes(node: ast.AST, parent: ast.AST, field: str) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare):
        for n, op in enumerate(node.ops):
            if type(op) in _COMPARE:
                ops = [_COMPARE[type(op)]() if i == n else o for i, o in enumerate(node.ops)]
                yield ast.Compare(node.left, ops, node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        yield ast.BinOp(node.left, _BINARY[type(node.op)](), node.right)
    elif isinstance(node, ast.Constant):
        yield from _constant(node.value)
    elif isinstance(node, ast.Name) and field == "func" and node.id in _CALLED:
        yield ast.Name(_CALLED[node.id], ast.Load())
    elif isinstance(node, ast.stmt):
        yield from _statement(node)
    if isinstance(node, _PLAIN) and (field == "test" or (isinstance(parent, ast.comprehension) and field == "ifs")):
        yield ast.UnaryOp(ast.Not(), node)


def _constant(value: object) -> Iterator[ast.AST]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value + 1)
    elif isinstance(value, str) and " " not in value.strip():
        yield ast.Constant(value + "~")
    elif isinstance(value, bytes):
        yield ast.Constant(value + b"~")


def _statement(node: ast.stmt) -> Iterator[ast.AST]:
    if isinstance(node, ast.Return) and node.value is not None:
        if not isinstance(node.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Continue):
        yield ast.Break()
    elif isinstance(node, ast.Break):
        yield ast.Continue()
    elif isinstance(node, ast.AugAssign) and type(node.op) in _BINARY:
        yield ast.AugAssign(node.target, _BINARY[type(node.op)](), node.value)
    elif (
        isinstance(node, ast.Raise | ast.Delete)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await))
        or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript))
    ):
        yield ast.Pass()
