"""The units of the constants of an expression, as products of powers of columns and response (`law.Parameter.unit`).

Terms that are added have one unit, exponents and arguments of functions have none. In `E + A/N**alpha` for a loss L
that gives E the unit L and A the unit L N^alpha.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass


class Inconsistent(Exception):
    """No units make the expression consistent, as in `a + b*log(N)`; the fit then goes on columns as they are."""


@dataclass(frozen=True, order=True)
class Monomial:
    """A product of numbers and constants, as it stands in an exponent: factor * above / below."""

    factor: float
    above: tuple[str, ...] = ()
    below: tuple[str, ...] = ()

    def times(self, other: "Monomial") -> "Monomial":
        """The product."""
        above, below = sorted(self.above + other.above), sorted(self.below + other.below)
        for name in list(above):
            if name in below:
                above.remove(name)
                below.remove(name)
        return Monomial(self.factor * other.factor, tuple(above), tuple(below))

    def inverse(self) -> "Monomial":
        """One over it."""
        return Monomial(1.0 / self.factor, self.below, self.above)

    def text(self) -> str:
        """As `Parameter.unit` writes it, such as -2*a/b."""
        size = abs(self.factor)
        first = [f"{size:f}".rstrip("0").rstrip(".")] if size != 1.0 or not self.above else []
        return ("-" if self.factor < 0 else "") + "*".join([*first, *self.above]) + "".join(f"/{n}" for n in self.below)


# Column -> the terms of its exponent; a quantity without a unit has none.
Unit = Mapping[str, tuple[Monomial, ...]]
_NONE: Unit = {}
_ONE = (Monomial(1.0),)


def units_of(tree: ast.expr, columns: set[str], response: str) -> dict[str, str]:
    """The unit of every constant of a law's expression; empty for constants without one.

    Raises Inconsistent where there are none.
    """
    falling, rising = exponents_in(tree)
    found: dict[str, Unit] = dict.fromkeys(falling | rising, _NONE)
    _require(tree, {response: _ONE}, columns, found)
    return {name: " ".join(_factor(column, power) for column, powers in unit.items() for power in powers)
            for name, unit in found.items()}  # fmt: skip


def exponents_in(tree: ast.expr) -> tuple[set[str], set[str]]:
    """The names in exponents: those with which a power falls, as in `A/N**alpha` or `A*N**-alpha`, and all others."""
    falling: set[str] = set()
    rising: set[str] = set()

    def walk(node: ast.AST, sign: float) -> None:
        match node:
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                terms = _terms(right)
                for name in {inner.id for inner in ast.walk(right) if isinstance(inner, ast.Name)}:
                    falls = terms is not None and len(terms) == 1 and name in terms[0].above
                    falls = falls and all(term.factor * sign < 0 for term in terms or ())
                    (falling if falls else rising).add(name)
                walk(left, sign)
            case ast.BinOp(left=left, op=ast.Div(), right=right):
                walk(left, sign)
                walk(right, -sign)
            case _:
                for child in ast.iter_child_nodes(node):
                    walk(child, sign)

    walk(tree, 1.0)
    return falling, rising


def _factor(column: str, power: Monomial) -> str:
    return column if power == _ONE[0] else f"{column}^{power.text()}"


def _terms(node: ast.AST) -> tuple[Monomial, ...] | None:
    """An exponent as a sum of monomials; None if it is none."""
    match node:
        case ast.Constant(value=value) if isinstance(value, int | float):
            return (Monomial(float(value)),)
        case ast.Name(id=name):
            return (Monomial(1.0, (name,)),)
        case ast.UnaryOp(op=op, operand=operand):
            terms = _terms(operand)
            return _times(terms, (Monomial(-1.0 if isinstance(op, ast.USub) else 1.0),)) if terms else None
        case ast.BinOp(left=left, op=op, right=right):
            first, second = _terms(left), _terms(right)
            if first is None or second is None:
                return None
            if isinstance(op, ast.Add):
                return first + second
            if isinstance(op, ast.Sub):
                return first + _times(second, (Monomial(-1.0),))
            if isinstance(op, ast.Mult):
                return _times(first, second)
            if isinstance(op, ast.Div) and len(second) == 1 and second[0].factor:
                return _times(first, (second[0].inverse(),))
    return None


def _times(first: tuple[Monomial, ...], second: tuple[Monomial, ...]) -> tuple[Monomial, ...]:
    return tuple(a.times(b) for a in first for b in second)


def _product(first: Unit, second: Unit, sign: float) -> Unit:
    """first * second^sign, with equal terms of an exponent added."""
    sums: dict[str, dict[tuple, float]] = {}
    for unit, factor in ((first, 1.0), (second, sign)):
        for column, powers in unit.items():
            for power in powers:
                terms = sums.setdefault(column, {})
                key = (power.above, power.below)
                terms[key] = terms.get(key, 0.0) + factor * power.factor
    unit = {
        c: tuple(sorted(Monomial(f, *key) for key, f in terms.items() if abs(f) > 1e-12)) for c, terms in sums.items()
    }
    return {column: powers for column, powers in unit.items() if powers}


def _power(unit: Unit, exponent: ast.AST) -> Unit:
    """The unit to the power of an exponent; Inconsistent if there is a unit and the exponent is no sum of monomials."""
    terms = _terms(exponent)
    if unit and not terms:
        raise Inconsistent
    return {column: tuple(sorted(_times(powers, terms or ()))) for column, powers in unit.items()}


def _root(unit: Unit, exponent: ast.AST) -> Unit:
    """The unit whose power is `unit`; Inconsistent if there is a unit and the exponent is not one monomial."""
    match _terms(exponent):
        case (Monomial(factor=factor) as only,) if factor:
            return {column: tuple(sorted(_times(powers, (only.inverse(),)))) for column, powers in unit.items()}
    if unit:
        raise Inconsistent
    return unit


def _require(node: ast.AST, unit: Unit, columns: set[str], found: dict[str, Unit]) -> None:
    """Give the constants of a part the units with which the part has this unit; Inconsistent if there are none."""
    match node:
        case ast.Name(id=name) if name not in columns and name not in found:
            found[name] = unit
        case ast.UnaryOp(operand=operand):
            _require(operand, unit, columns, found)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            _require(left, unit, columns, found)
            _require(right, unit, columns, found)
        case ast.BinOp(op=ast.Mult() | ast.Div()):
            unknown = []
            for factor, sign in sorted(_factors(node), key=lambda entry: not isinstance(entry[0], ast.Name)):
                own = _known(factor, columns, found)
                if own is None:
                    unknown.append((factor, sign))
                else:
                    unit = _product(unit, own, -sign)
            for factor, sign in unknown:
                _require(factor, _product(_NONE, unit, sign), columns, found)
                unit = _NONE
            if unit:
                raise Inconsistent
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            _require(left, _root(unit, right), columns, found)
        case ast.Call(func=ast.Name(id="sqrt"), args=[part]):
            _require(part, _product(unit, unit, 1.0), columns, found)
        case ast.Call(func=ast.Name(id="abs" | "min" | "max"), args=parts):
            for part in parts:
                _require(part, unit, columns, found)
        case _:
            if _known(node, columns, found) != unit:
                raise Inconsistent


def _known(node: ast.AST, columns: set[str], found: dict[str, Unit]) -> Unit | None:
    """The unit of a part, if it follows from its columns and from constants whose units are known."""
    match node:
        case ast.Constant():
            return _NONE
        case ast.Name(id=name):
            return {name: _ONE} if name in columns else found.get(name)
        case ast.UnaryOp(operand=operand):
            return _known(operand, columns, found)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            base = _known(left, columns, found)
            return None if base is None else _power(base, right)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub(), right=right):
            return _alike([left, right], columns, found)
        case ast.BinOp(left=left, op=op, right=right):
            first, second = _known(left, columns, found), _known(right, columns, found)
            sign = -1.0 if isinstance(op, ast.Div) else 1.0
            return None if first is None or second is None else _product(first, second, sign)
        case ast.Call(func=ast.Name(id="sqrt")):
            return None
        case ast.Call(func=ast.Name(id="abs" | "min" | "max"), args=parts):
            return _alike(parts, columns, found)
        case ast.Call(args=[part]):
            _require(part, _NONE, columns, found)
            return _NONE
    return None


def _alike(parts: list[ast.expr], columns: set[str], found: dict[str, Unit]) -> Unit | None:
    """The one unit of parts that are added or compared, as far as one of them has a known unit."""
    unit = next((own for part in parts if (own := _known(part, columns, found)) is not None), None)
    if unit is not None:
        for part in parts:
            _require(part, unit, columns, found)
    return unit


def _factors(node: ast.AST, sign: float = 1.0) -> list[tuple[ast.AST, float]]:
    """The factors of a product, and 1 or -1 for those above and below the line."""
    match node:
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _factors(left, sign) + _factors(right, sign)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _factors(left, sign) + _factors(right, -sign)
        case ast.UnaryOp(operand=operand):
            return _factors(operand, sign)
    return [(node, sign)]
