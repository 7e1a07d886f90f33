"""The changes that `make mutants` makes, found in the text of a file. Most of their names stay when code moves."""

from __future__ import annotations

import ast
import copy
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {ast.Add: ast.Sub, ast.Sub: ast.Add}
# Swapped, the arguments of these mean the same, or fail at once.
NOT_SWAPPED: Final = {"isinstance", "issubclass", "getattr", "setattr", "map", "filter", "cast", "min", "max"}


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """Yield each change of a node: its kind, and what takes the node's place (``None``: the statement is dropped)."""
    match node:
        case ast.Compare(ops=[op]):
            new = copy.copy(node)
            new.ops = [COMPARISONS[type(op)]()]
            yield "compare", new
        case ast.BoolOp(op=op, values=values):
            yield "and-or", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not", operand
        case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
            yield "arithmetic", ast.BinOp(left, ARITHMETIC[type(op)](), right)
        case ast.Constant(value=bool(value)):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield "constant", ast.Constant(value + 1)
        case ast.Call(args=[first, second, *rest]) if _swaps(node):
            yield "swap", ast.Call(node.func, [second, first, *rest], node.keywords)
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "return", ast.Return(ast.Constant(None))
        case ast.Raise() | ast.AugAssign() | ast.Delete():
            yield "drop", None
        case ast.Expr(value=ast.Call() | ast.Await()):
            yield "drop", None
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "drop", None
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield from _negations(node.test)


def _negations(test: ast.expr) -> Iterator[tuple[str, ast.AST | None]]:
    """Negate a condition that no other kind of change negates."""
    if not isinstance(test, ast.Compare | ast.UnaryOp | ast.BoolOp):
        yield "negate", ast.UnaryOp(ast.Not(), test)


def _swaps(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name) and call.func.id in NOT_SWAPPED:
        return False
    return not any(isinstance(each, ast.Starred | ast.Constant) for each in call.args)


@dataclass(frozen=True)
class Mutant:
    name: str
    path: str
    line: int
    start: int
    end: int
    old: str
    new: str
    probe: tuple[int, int]
    """Where a probe goes: the byte at which the statement begins, and its column."""

    def __str__(self) -> str:
        old, new = (" ".join(text.split()) for text in (self.old, self.new))
        return f"{self.path}:{self.line}: {self.name}\n    - {old[:150]}\n    + {new[:150]}"


class Finder:
    """Finds the mutants of one file, within functions only: what runs at import, runs once for all tests."""

    def __init__(self, package: str, path: str, text: str, ordinals: Counter[str]) -> None:
        self._package, self._path, self._ordinals = package, path, ordinals
        self._source = text.encode()
        self._starts = [0]
        for line in self._source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self.mutants: list[Mutant] = []
        self._visit(ast.parse(text), (), None, within=False)

    def _visit(self, node: ast.AST, names: tuple[str, ...], statement: ast.stmt | None, *, within: bool) -> None:
        if isinstance(node, ast.JoinedStr | ast.arguments):
            return  # Python 3.11 does not know positions within f-strings; defaults are computed at import
        if isinstance(node, ast.stmt) and not self._source.startswith(b"elif", self._at(node)):
            statement = node
        if within and statement is not None:
            for kind, new in changes(node):
                self._add(kind, node, new, names, statement)
        match node:
            case ast.FunctionDef(name=name, body=body) | ast.AsyncFunctionDef(name=name, body=body):
                names, statement, within = (*names, name), None, True
                children: Iterable[ast.AST] = body
            case ast.ClassDef(name=name, body=body):
                names, children = (*names, name), body
            case ast.AnnAssign(value=value):
                children = [value] if value is not None else []
            case _:
                children = ast.iter_child_nodes(node)
        for child in children:
            self._visit(child, names, statement, within=within)

    def _at(self, node: ast.expr | ast.stmt) -> int:
        return self._starts[node.lineno - 1] + node.col_offset

    def _add(self, kind: str, node: ast.AST, new: ast.AST | None, names: tuple[str, ...], statement: ast.stmt) -> None:
        named = f"{self._package}:{'.'.join(names)} {kind}"
        self._ordinals[named] += 1
        if kind == "negate" and isinstance(node, ast.If | ast.While | ast.IfExp):
            node = node.test
        text = "pass" if new is None else ast.unparse(new) if isinstance(new, ast.stmt) else f"({ast.unparse(new)})"
        assert isinstance(node, ast.expr | ast.stmt)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._at(node)
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        probe = self._at(statement), statement.col_offset
        old = self._source[start:end].decode()
        self.mutants.append(
            Mutant(f"{named} {self._ordinals[named]}", self._path, node.lineno, start, end, old, text, probe)
        )


def mutated(source: bytes, mutant: Mutant) -> bytes:
    return source[: mutant.start] + mutant.new.encode() + source[mutant.end :]


def probed(source: bytes, tried: Mapping[int, Mutant]) -> bytes:
    """Return a file with a call before each statement that a mutant changes."""
    at: dict[tuple[int, int], list[int]] = defaultdict(list)
    for number, mutant in tried.items():
        at[mutant.probe].append(number)
    for (start, column), numbers in sorted(at.items(), reverse=True):
        call = f"__import__('_mutants_probe').hit({', '.join(map(str, numbers))})\n".encode() + b" " * column
        source = source[:start] + call + source[start:]
    return source
