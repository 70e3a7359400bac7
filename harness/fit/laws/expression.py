"""A law that is written as an expression, such as `E + A/N**alpha + B/D**beta`, without a declaration of its own.

What a declaration says is found from the expression: which names are columns, the units of the constants, in which of
them the response is linear, their ranges and starts.
"""

import ast
import functools
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax.numpy as jnp

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, PositiveColumn
from harness.fit.laws.units import Inconsistent, exponents_in, units_of
from sweeps.errors import InputError
from sweeps.expression import ExpressionError, names_in, parse_expression

# Names that are columns whether or not the table has columns so named: usual names fill these roles.
_SIZES = ("N", "D", "U", "flops")
_FORM = re.compile(r"(?:(?P<response>\w+)\s*(?:\((?P<columns>[\w\s,]*)\))?\s*=)?(?P<formula>[^=]+)")
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log": jnp.log, "log2": jnp.log2, "log10": jnp.log10, "exp": jnp.exp, "sqrt": jnp.sqrt, "abs": jnp.abs,
    "min": jnp.minimum, "max": jnp.maximum,
}  # fmt: skip
_EXPECTED = (
    "the id of a law (`isogap laws` lists them), or an expression, such as 'E + A/N**alpha' or "
    "'lr = c * tokens**a * dim**b', with"
)


def is_expression(text: str) -> bool:
    """Whether a text can only be an expression, and not the id of a law."""
    return re.fullmatch(r"[\w-]*", text.strip()) is None


def law_of_expression(text: str, names: Collection[str] = ()) -> Law:
    """The law that a text such as `L = E + A/N**alpha` declares.

    The response is the name before the equals sign, by default L. `L(N, D) = ...` says which names are columns.
    Otherwise those are columns that are among `names`, and N, D, U and flops; every other name is a constant.

    Args:
        names: the columns of the table, and the roles that `--set` fills.

    Raises:
        InputError: a text that is no such expression, or has no columns or no constants.
    """
    form = _FORM.fullmatch(text.strip())
    if form is None:
        raise _refused(text, "one equals sign at most, behind the response")
    formula = " ".join(form["formula"].replace("^", "**").split())
    try:
        tree = parse_expression(formula, None)
        _check(tree)
    except ExpressionError as error:
        raise _refused(text, str(error)) from None
    read = names_in(tree)
    if form["columns"] is None:
        columns = tuple(name for name in read if name in names or name in _SIZES)
    else:
        columns = tuple(dict.fromkeys(name for name in re.split(r"[\s,]+", form["columns"]) if name))
        if not set(columns) <= set(read):
            raise _refused(text, "columns in the brackets that the expression reads")
    response = form["response"] or "L"
    if response in read:
        raise _refused(text, f"a response that the expression does not read, and {response} is one")
    for kind, found in (("column", set(columns)), ("constant", set(read) - set(columns))):
        if not found:
            known = f"; the table has {', '.join(sorted(names))}" if names else ""
            raise _refused(text, f"at least one {kind}, and it reads only {', '.join(read) or 'numbers'}{known}")
    return _declared(response, columns, formula)


@functools.cache
def _declared(response: str, columns: tuple[str, ...], formula: str) -> Law:
    """The law of a checked expression; the same object each time, so that its programs are compiled once."""
    tree = parse_expression(formula, None)
    constants = [name for name in names_in(tree) if name not in columns]
    linear = _linear_in(tree, constants)
    falling, rising = exponents_in(tree)
    try:
        units = units_of(tree, set(columns), response)
    except Inconsistent:
        units = None
    kinds = {"linear": set(linear), "falling": falling - rising, "exponents": falling | rising}

    def predict(parameters: Parameters, given: Columns):
        return _value(tree, {**parameters, **{name: PositiveColumn(given[name]) for name in columns}})

    gap = response == "G"
    return Law(
        id=f"{response}({', '.join(columns)}) = {formula}",
        formula=f"{response} = {formula}",
        response=response,
        parameters=tuple(_parameter(name, kinds, units) for name in constants),
        columns=columns,
        predict=predict,
        source="an expression of the user",
        objective="normal" if gap else "log_huber",
        linear=linear,
        contrast=gap,
    )


def _parameter(name: str, kinds: Mapping[str, set[str]], units: Mapping[str, str] | None) -> Parameter:
    """A constant with its range and starts: those of centred columns, or wide ones where units are not consistent."""
    if name in kinds["exponents"]:
        if name in kinds["falling"]:
            return Parameter(name, "identity", 0.0, 4.0, (0.1, 0.25, 0.5, 1.0))
        return Parameter(name, "identity", -4.0, 4.0, (-0.5, 0.1, 0.7))
    if units is None:
        if name in kinds["linear"]:
            return Parameter(name, "identity", -1e6, 1e6, (1.0,))
        return Parameter(name, "log", 1e-12, 1e15, (1e-2, 1.0, 1e2, 1e4, 1e6, 1e9))
    unit = units[name]
    if name in kinds["linear"]:
        return Parameter(name, "log", 1e-8, 1e4, (0.1,), unit=unit)
    if "/" in unit:  # such as N L^1/alpha, whose size depends on an exponent
        return Parameter(name, "log", 1e-80, 1e80, (1e-6, 1.0, 1e6), unit=unit)
    return Parameter(name, "log", 1e-8, 1e8, (0.01, 1.0, 100.0), unit=unit)


def _refused(text: str, expected: str) -> InputError:
    return InputError("fit", "law", text, f"{_EXPECTED} {expected}")


def _check(node: ast.AST) -> None:
    """Raise ExpressionError for what an expression may hold elsewhere but a law may not."""
    match node:
        case ast.Name():
            return
        case ast.Constant(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
            return
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC or isinstance(op, ast.Pow):
            pass
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            pass
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _FUNCTIONS:
            for argument in arguments:
                _check(argument)
            return
        case ast.Call(func=ast.Name(id=name)):
            raise ExpressionError(f"one of the functions {', '.join(_FUNCTIONS)}, not {name}")
        case _:
            raise ExpressionError(f"names, numbers, + - * / ** and functions, not {type(node).__name__}")
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            _check(child)


def _value(node: ast.AST, values: Mapping[str, Any]) -> Any:
    """The value of a checked expression, for numbers and traced arrays alike."""
    match node:
        case ast.Constant(value=value) if isinstance(value, int | float):
            return float(value)
        case ast.Name(id=name):
            return values[name]
        case ast.UnaryOp(op=op, operand=operand):
            return _value(operand, values) * (-1.0 if isinstance(op, ast.USub) else 1.0)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base, exponent = _value(left, values), _value(right, values)
            if isinstance(base, PositiveColumn):
                return base**exponent
            # A negative base has powers of numbers only.
            return jnp.power(base, exponent) if isinstance(exponent, float) else jnp.exp(exponent * jnp.log(base))
        case ast.BinOp(left=left, op=op, right=right):
            sides = (_value(side, values) for side in (left, right))
            return _ARITHMETIC[type(op)](*(jnp.asarray(x) if isinstance(x, PositiveColumn) else x for x in sides))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name](*(jnp.asarray(_value(argument, values)) for argument in arguments))
    raise ExpressionError(f"{type(node).__name__} is not allowed in a law")


def _linear_in(tree: ast.expr, constants: list[str]) -> tuple[str, ...]:
    """Constants in which the expression is linear, all of them together; the earlier ones are preferred."""
    chosen: set[str] = set()
    for name in constants:
        if _is_linear(tree, chosen | {name}):
            chosen.add(name)
    return tuple(name for name in constants if name in chosen)


def _is_linear(node: ast.AST, names: set[str]) -> bool:
    def reads(part: ast.AST) -> bool:
        return any(isinstance(inner, ast.Name) and inner.id in names for inner in ast.walk(part))

    match node:
        case ast.UnaryOp(operand=operand):
            return _is_linear(operand, names)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            return _is_linear(left, names) and _is_linear(right, names)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return not (reads(left) and reads(right)) and _is_linear(left, names) and _is_linear(right, names)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return not reads(right) and _is_linear(left, names)
        case ast.Name():
            return True
    return not reads(node)
