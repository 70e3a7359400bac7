"""Expressions such as `N_total < 1e6 and tokenizer == "bytes"`: Python parses them, and nothing in them is executed.

One grammar serves the filters of a sweep, conditions on the rows of a table, and roles computed from columns: names,
numbers, strings, + - * / % **, comparisons, `in`, and/or/not, and the functions below. A name that is not a Python
name, such as the column "Val Loss", is written in backticks: `Val Loss`. Numbers may be written 20M or 0.5B, and a
column of texts that are all numbers (`sweeps.numbers`) is one of numbers where it meets a number.
"""

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from sweeps.numbers import SUFFIXES, parse_number

Scalar = str | int | float | bool | None

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_ORDER = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}
# What `and` and `or` are between rows; users of pandas write & and |.
_LOGIC: dict[type[ast.AST], np.ufunc] = {
    ast.And: np.logical_and,
    ast.BitAnd: np.logical_and,
    ast.Or: np.logical_or,
    ast.BitOr: np.logical_or,
}
NUMERIC: dict[str, np.ufunc] = {
    "log": np.log, "log2": np.log2, "log10": np.log10, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs, "floor": np.floor,
    "ceil": np.ceil, "min": np.minimum, "max": np.maximum,
}  # fmt: skip
_TWO_NUMBERS = ("min", "max")
_OF_TEXT = {"contains": str.__contains__, "startswith": str.startswith, "endswith": str.endswith}
FUNCTIONS = (*NUMERIC, *_OF_TEXT, "missing")
# A longer expression could exhaust Python's parser, and nobody needs one.
LONGEST = 1000
# A string, which is left alone; a name in backticks; or a number that Python cannot read, such as 20M.
_NOT_PYTHON = re.compile(
    r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|`([^`]*)`"""
    rf"""|(?<![\w.])((?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[{"".join(SUFFIXES)}])(?!\w)""", re.IGNORECASE
)  # fmt: skip
_WRITTEN = "a number is written 20M, 2e7 or 20000000"


class ExpressionError(ValueError):
    """The text is not an expression that can be evaluated; the message says why, in a phrase."""


class MissingValue(Exception):
    """The expression reads a name that has no value here."""


def parse_expression(text: str, names: Collection[str] | None) -> ast.expr:
    """The tree of an expression over `names`, or over any names for None.

    ExpressionError if the text is not an expression, or has anything else in it.
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"longer than {LONGEST} characters")
    if "\0" in text:
        raise ExpressionError("a null character")
    quoted: dict[str, str] = {}

    def identifier(match: re.Match) -> str:
        if match[1]:
            return match[1]
        if match[3]:
            return repr(parse_number(match[3]))
        return next((i for i, name in quoted.items() if name == match[2]), None) or _new(quoted, match[2], text)

    try:
        tree = ast.parse(_NOT_PYTHON.sub(identifier, text.strip()), mode="eval").body
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                node.id = quoted.get(node.id, node.id)
        _check(tree, names)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        if reason and "decimal" in reason:  # 20MB, and the zeros of 20,000,000
            reason = _WRITTEN
        raise ExpressionError(reason or type(error).__name__) from None
    return tree


def _new(quoted: dict[str, str], name: str, text: str) -> str:
    """An identifier that does not occur in the text, for a name in backticks."""
    count = len(quoted)
    while f"quoted_{count}" in text or f"quoted_{count}" in quoted:
        count += 1
    quoted[f"quoted_{count}"] = name
    return f"quoted_{count}"


def names_in(tree: ast.expr) -> list[str]:
    """The names that an expression reads, each once, in their order."""
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in called]
    return list(dict.fromkeys(name.id for name in sorted(names, key=lambda node: (node.lineno, node.col_offset))))


def holds(tree: ast.expr, values: Mapping[str, Scalar]) -> bool:
    """Whether the expression is true of these values.

    Raises:
        MissingValue: a value it needs is None or absent.
        ExpressionError: a division by zero, an overflow, or a comparison of text with a number.
    """
    known = {name: value for name, value in values.items() if value is not None}
    row = _Row({name: np.array([v], object if isinstance(v, str) else None) for name, v in known.items()})
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        try:
            return bool(evaluate_rows(tree, row, 1)[0])
        except ArithmeticError as error:
            raise ExpressionError(str(error)) from None


class _Row(dict[str, np.ndarray]):
    def __missing__(self, name: str) -> np.ndarray:
        raise MissingValue(name)


def rows_where(
    tree: ast.expr, columns: Mapping[str, Shaped[np.ndarray, "rows"]], rows: int
) -> Bool[np.ndarray, "rows"]:
    """The rows for which a condition holds; a comparison with a missing value does not.

    ExpressionError if the expression has no truth value, or compares text with numbers.
    """
    with np.errstate(all="ignore"):
        result = evaluate_rows(tree, columns, rows)
    if result.dtype != bool:
        raise ExpressionError("it is not true or false")
    return result


def evaluate_rows(tree: ast.expr, columns: Mapping[str, Shaped[np.ndarray, "rows"]], rows: int) -> np.ndarray:
    """The value of an expression in every row: numbers, texts (dtype object) or truth values.

    Args:
        columns: numbers, truth values, or texts (dtype object; None or nan where there is none).
    """
    try:
        value = _value(tree, columns)
    except TypeError as error:
        raise ExpressionError(str(error)) from None
    if isinstance(value, list):
        raise ExpressionError(f"a list is not a value; {_WRITTEN}")
    return np.broadcast_to(np.asarray(value, object if isinstance(value, str) else None), (rows,))


def _check(node: ast.AST, names: Collection[str] | None) -> None:
    match node:
        case ast.Name(id=name):
            if names is not None and name not in names:
                raise ExpressionError(f"unknown name {name!r}; there are {', '.join(sorted(map(str, names)))}")
            return
        case ast.Constant(value=value):
            if not isinstance(value, (str, int, float)):
                raise ExpressionError(f"literal {value!r}")
            return
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            _check_call(name, len(arguments))
            for argument in arguments:
                _check(argument, names)
            return
        case ast.BoolOp() | ast.Tuple() | ast.List():
            pass
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC or type(op) in _LOGIC:
            pass
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd() | ast.Invert()):
            pass
        case ast.Compare(ops=ops) if all(
            type(op) in _ORDER or isinstance(op, (ast.Eq, ast.NotEq, ast.In, ast.NotIn)) for op in ops
        ):
            pass
        case _:
            raise ExpressionError(f"{type(node).__name__} is not allowed in an expression")
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            _check(child, names)


def _check_call(name: str, arguments: int) -> None:
    if name not in FUNCTIONS:
        raise ExpressionError(f"unknown function {name!r}; there are {', '.join(FUNCTIONS)}")
    wanted = 2 if name in _TWO_NUMBERS or name in _OF_TEXT else 1
    if arguments != wanted:
        raise ExpressionError(f"{name} takes {wanted} argument{'s' * (wanted > 1)}")


def _value(node: ast.AST, values: Mapping[str, Any]) -> Any:
    def of(part: ast.AST) -> Any:
        return _value(part, values)

    match node:
        case ast.Constant(value=value):
            # Integers as floats: their powers could be made to fill the memory.
            return np.float64(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        case ast.Name(id=name):
            return values[name]
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return [of(element) for element in elements]
        case ast.BoolOp(op=op, values=parts):
            result = _truth(of(parts[0]))
            for part in parts[1:]:
                # As in Python: what cannot change the result is not asked, so a value may be missing there.
                if (result if isinstance(op, ast.Or) else ~result).all():
                    break
                result = _LOGIC[type(op)](result, _truth(of(part)))
            return result
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            return ~_truth(of(operand))
        case ast.UnaryOp(op=op, operand=operand):
            return _number(of(operand)) * (-1.0 if isinstance(op, ast.USub) else 1.0)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _LOGIC:
            return _LOGIC[type(op)](_truth(of(left)), _truth(of(right)))
        case ast.BinOp(left=left, op=op, right=right):
            return _ARITHMETIC[type(op)](_number(of(left)), _number(of(right)))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _call(name, [of(argument) for argument in arguments])
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = [of(side) for side in (left, *comparators)]
            result = _compare(ops[0], sides[0], sides[1])
            for op, a, b in zip(ops[1:], sides[1:], sides[2:], strict=False):
                result = np.logical_and(result, _compare(op, a, b))
            return result
    raise ExpressionError(f"{type(node).__name__} is not allowed in an expression")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype.kind == "O")


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool | np.bool_) or (isinstance(value, np.ndarray) and value.dtype.kind == "b")


def _meant(value: Any) -> Any:
    """Numbers in place of texts that are all numbers, such as 20M; other values as they are."""
    if not _is_text(value):
        return value
    cells = np.asarray(value, object)
    numbers = []
    for cell in cells.flat:
        number = parse_number(cell) if isinstance(cell, str) else np.nan
        if number is None:
            return value
        numbers.append(number)
    return value if np.all(np.isnan(numbers)) else np.reshape(numbers, cells.shape)[()]


def _number(value: Any) -> Any:
    """A number or an array of numbers, as floats."""
    value = _meant(value)
    if isinstance(value, list) or _is_text(value) or _is_truth(value):
        raise TypeError(f"{_shown(value)} is not a number")
    return value if isinstance(value, float) or not isinstance(value, np.ndarray) else value.astype(float)


def _truth(value: Any) -> Any:
    if _is_truth(value):
        return np.asarray(value)
    raise TypeError(f"{_shown(value)} is not true or false")


def _shown(value: Any) -> str:
    """A value for a message; of a column of texts, the first cell that is no number."""
    if isinstance(value, np.ndarray) and value.ndim:
        no_number = (cell for cell in value if isinstance(cell, str) and parse_number(cell) is None)
        return _shown(next(no_number, value[0])) if len(value) else "an empty column"
    return f"{value:.15g}" if isinstance(value, float) else str(value) if _is_truth(value) else repr(value)


def _call(name: str, arguments: list[Any]) -> Any:
    if name == "missing":
        value = np.asarray(arguments[0], object if _is_text(arguments[0]) else None)
        return np.not_equal(value, value) | np.vectorize(lambda cell: cell is None, otypes=[bool])(value)
    if name in _OF_TEXT:
        text, part = arguments
        if not _is_text(text) or not isinstance(part, str):
            raise TypeError(f"{name} takes a column of text and a text")
        test = _OF_TEXT[name]
        return np.array([isinstance(t, str) and test(t, part) for t in np.atleast_1d(np.asarray(text, object))], bool)
    return NUMERIC[name](*map(_number, arguments))


def _compare(op: ast.cmpop, a: Any, b: Any) -> Any:
    if isinstance(op, (ast.In, ast.NotIn)):
        if not isinstance(b, list):
            raise TypeError("`in` needs a list on its right")
        found = np.zeros(np.shape(a), bool)
        for element in b:
            one, other = _alike(a, element)
            if not isinstance(other, list) and _is_text(one) == _is_text(other):
                found = found | _equal(one, other)
        return found if isinstance(op, ast.In) else ~found
    a, b = _alike(a, b)
    if isinstance(a, list) or isinstance(b, list) or _is_text(a) != _is_text(b):
        raise TypeError(f"{_shown(a)} and {_shown(b)} cannot be compared")
    if isinstance(op, (ast.Eq, ast.NotEq)):
        return _equal(a, b) if isinstance(op, ast.Eq) else ~_equal(a, b)
    if _is_text(a):
        first, second = np.broadcast_arrays(np.asarray(a, object), np.asarray(b, object))
        both = [(isinstance(x, str) and isinstance(y, str), x, y) for x, y in zip(first.flat, second.flat, strict=True)]
        return np.array([known and _ORDER[type(op)](x, y) for known, x, y in both], bool).reshape(first.shape)
    return np.asarray(_ORDER[type(op)](_number(a), _number(b)))


def _alike(a: Any, b: Any) -> tuple[Any, Any]:
    """Two values to be compared: as numbers if both mean numbers, else as they are."""
    numbers = _meant(a), _meant(b)
    return (a, b) if any(map(_is_text, numbers)) else numbers


def _equal(a: Any, b: Any) -> Any:
    kind = object if _is_text(a) or _is_text(b) else None
    return np.asarray(np.equal(np.asarray(a, kind), np.asarray(b, kind)), bool)
