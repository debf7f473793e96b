"""Mutants of a module: a comparison turned, `and` for `or`, another operation or number. Pure."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
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
_OPERATIONS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
}


@dataclass(frozen=True)
class Mutant:
    """A module with one expression, at `line`, changed from `before` to `after`."""

    line: int
    before: str
    after: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    encoded = source.encode()
    starts = [0]
    for text in encoded.splitlines(keepends=True):
        starts.append(starts[-1] + len(text))
    found: list[Mutant] = []
    out = _left_out(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.expr) or id(node) in out or node.end_lineno is None:
            continue
        begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1]
        end += node.end_col_offset or 0
        for changed in _changes(node):
            after = ast.unparse(changed)
            mutated = (encoded[:begin] + f"({after})".encode() + encoded[end:]).decode()
            if _is_code(mutated):
                found.append(Mutant(node.lineno, ast.unparse(node), after, mutated))
    return sorted(found, key=lambda mutant: mutant.line)


def _changes(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                turned = [*node.ops[:place], _COMPARISONS[type(operator)](), *node.ops[place + 1 :]]
                yield ast.Compare(node.left, turned, node.comparators)
        case ast.BoolOp(op=ast.And()):
            yield ast.BoolOp(ast.Or(), node.values)
        case ast.BoolOp():
            yield ast.BoolOp(ast.And(), node.values)
        case ast.BinOp() if type(node.op) in _OPERATIONS and not _is_of_texts(node):
            yield ast.BinOp(node.left, _OPERATIONS[type(node.op)](), node.right)
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)


def _is_of_texts(node: ast.BinOp) -> bool:
    """Texts and lists are added, never taken from each other: such a mutant is an error, not a rule."""
    lists = (ast.JoinedStr, ast.List, ast.ListComp, ast.Tuple)
    sides = (node.left, node.right)
    texts = [isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides]
    return any(texts) or any(isinstance(side, lists) for side in sides)


def _left_out(tree: ast.AST) -> set[int]:
    """Return the nodes that decide nothing at run time, or whose place in the source is not known."""
    roots: list[ast.AST] = []
    for node in ast.walk(tree):
        roots += [part for name in ("annotation", "returns") if (part := getattr(node, name, None))]
        roots += [node] if isinstance(node, ast.JoinedStr) else []
    return {id(part) for root in roots for part in ast.walk(root)}


def _is_code(source: str) -> bool:
    try:
        compile(source, "a mutant", "exec")
    except SyntaxError:
        return False
    return True
