"""Filters such as `N_total < 1e6 and tokenizer == "bytes"`: Python parses them, and nothing in them is executed."""

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

Scalar = str | int | float | bool | None

_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_ORDER = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}
# A longer expression could exhaust Python's parser, and no filter needs one.
LONGEST = 1000


class ExpressionError(ValueError):
    """The text is not an expression that can be evaluated; the message says why, in a phrase."""


class MissingValue(Exception):
    """The expression reads a name that has no value here."""


def parse_expression(text: str, names: Collection[str]) -> ast.expr:
    """Parse a boolean expression over `names`, of comparisons, `in`, and/or/not, + - * / % ** and literals.

    ExpressionError if the text is not an expression, or contains anything else.
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"longer than {LONGEST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree, names)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ExpressionError(reason or type(error).__name__) from None
    return tree


def holds(tree: ast.expr, values: Mapping[str, Scalar]) -> bool:
    """Whether the expression is true of these values.

    Raises:
        MissingValue: a value it needs is None or absent.
        ExpressionError: a division by zero, an overflow, or a comparison of text with a number.
    """
    try:
        return bool(_value(tree, values))
    except (TypeError, ArithmeticError) as error:
        raise ExpressionError(str(error)) from None


def _check(node: ast.AST, names: Collection[str]) -> None:
    match node:
        case ast.Name(id=name):
            if name not in names:
                raise ExpressionError(f"unknown name {name!r}; there are {', '.join(sorted(names))}")
            return
        case ast.Constant(value=value):
            if not isinstance(value, (str, int, float)):
                raise ExpressionError(f"literal {value!r}")
            return
        case ast.BoolOp() | ast.Tuple() | ast.List():
            pass
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
            pass
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd()):
            pass
        case ast.Compare(ops=ops) if all(
            type(op) in _ORDER or isinstance(op, (ast.Eq, ast.NotEq, ast.In, ast.NotIn)) for op in ops
        ):
            pass
        case _:
            raise ExpressionError(f"{type(node).__name__} is not allowed in a filter")
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            _check(child, names)


def _value(node: ast.AST, values: Mapping[str, Scalar]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            value = values.get(name)
            if value is None:
                raise MissingValue(name)
            return value
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return [_value(element, values) for element in elements]
        case ast.BoolOp(op=op, values=parts):
            decide = any if isinstance(op, ast.Or) else all
            return decide(_value(part, values) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, values)
        case ast.UnaryOp(op=op, operand=operand):
            return _number(_value(operand, values)) * (-1 if isinstance(op, ast.USub) else 1)
        case ast.BinOp(left=left, op=op, right=right):
            # Computed in floats, because powers of integers could fill the memory.
            result = _ARITHMETIC[type(op)](_number(_value(left, values)), _number(_value(right, values)))
            return _number(result)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [_value(side, values) for side in (left, *comparators)]
            return all(_compare(op, a, b) for op, a, b in zip(ops, sides, sides[1:], strict=False))
    raise ExpressionError(f"{type(node).__name__} is not allowed in a filter")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _compare(op: ast.cmpop, a: Any, b: Any) -> bool:
    if isinstance(op, (ast.In, ast.NotIn)):
        if not isinstance(b, list):
            raise TypeError("`in` needs a list on its right")
        return (a in b) == isinstance(op, ast.In)
    if isinstance(a, str) != isinstance(b, str):
        raise TypeError(f"{a!r} and {b!r} cannot be compared")
    if isinstance(op, (ast.Eq, ast.NotEq)):
        return (a == b) == isinstance(op, ast.Eq)
    return _ORDER[type(op)](a, b)
