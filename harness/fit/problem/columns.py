"""Columns of a table in their roles, as checked arrays; and the rows for which a condition holds."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped

from harness.fit.laws.law import Law
from harness.fit.problem.sizes import FROM_FLOPS
from sweeps.errors import InputError
from sweeps.expression import ExpressionError, names_in, parse_expression, rows_where
from sweeps.numbers import parse_number

# The roles that measure how large a run is.
SIZE_ROLES = ("N", "D", "U", "flops")
# Sizes that differ by less are one size. Unique tokens that are all of D, rounded, differed from D by 0.03 %; the sizes
# of a design differ by several percent at least.
ROUNDING = 0.002
MOST_NAMED = 30  # columns that a refusal names


def own_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that a table was read with, before roles were added to them."""
    names = frame.attrs.get("columns", frame.columns)
    return [str(name) for name in names if name not in ("holdout", "file_row")]


def names_of(frame: pd.DataFrame) -> str:
    """The names of a table's own columns, the first ones of many, for a line about a name that it lacks."""
    names = own_columns(frame)
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def check_roles(frame: pd.DataFrame, roles: Sequence[str], source: str, vectors: Collection[str] = ()) -> None:
    """Refuse a table that lacks roles, all of which are named; `vectors` are the roles of several columns."""
    lacking = [role for role in roles if role not in frame.columns and not vector_columns(frame, role)]
    if not lacking:
        return
    options = " ".join(f"--set {role}={'COLUMN,COLUMN,...' if role in vectors else '...'}" for role in lacking)
    what = f"a column for the role {lacking[0]}" if len(lacking) == 1 else f"columns for the roles {', '.join(lacking)}"
    computed = [f"{role} = {FROM_FLOPS[role]}" for role in lacking if role in FROM_FLOPS]
    hint = f", or for flops, of which {computed[0]}" if len(computed) == 1 and {"N", "D"} & {*frame.columns} else ""
    raise InputError(source, ", ".join(lacking), f"the columns {names_of(frame)}", f"{what} ({options}){hint}")


def column_of(frame: pd.DataFrame, role: str, source: str, signed: bool = False) -> Float[np.ndarray, "rows"]:
    """The numbers of a role; InputError if missing, not numeric, not finite or, unless `signed`, not positive."""
    check_roles(frame, [role], source)
    try:
        values = frame[role].to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        column = pd.Series(frame[role])
        values, fault = numbers_of(column)
        if fault is not None:
            raise InputError(source, role, str(column.iloc[fault]), "numbers") from None
    bad = ~np.isfinite(values) | (False if signed else values <= 0)
    if bad.any():
        expected = "finite numbers" if signed else "finite numbers above zero"
        raise InputError(source, role, float(values[np.argmax(bad)]), f"{expected} in every row ({bad.sum()} are not)")
    return values


def numbers_of(column: pd.Series, suffixes: bool = True) -> tuple[Float[np.ndarray, "rows"], int | None]:
    """The numbers of a column, nan where a cell is empty; and the position of the first cell that is not a number."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=float, na_value=np.nan), None
    values = np.full(len(column), np.nan)
    for position, cell in enumerate(column):
        if isinstance(cell, str):
            number = parse_number(cell, suffixes)
            if number is None:
                return values, position
            values[position] = number
        elif isinstance(cell, int | float) and not isinstance(cell, bool):
            values[position] = cell
        elif not pd.isna(cell):
            return values, position
    return values, None


def numbers_or_nan(frame: pd.DataFrame, name: str) -> Float[np.ndarray, "rows"]:
    """A column as numbers, nan where a cell is none: for columns that are looked at but that no law reads."""
    return np.asarray(pd.to_numeric(pd.Series(frame[name]), errors="coerce"), float)


def levels(values: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "levels"]:
    """The distinct values of positive numbers in order; of values that differ by rounding only, the least."""
    distinct, kept, at = np.unique(values), [], 0
    while at < len(distinct):
        kept.append(distinct[at])
        at = int(np.searchsorted(distinct, distinct[at] * (1.0 + ROUNDING), side="right"))
    return np.array(kept)


def vector_columns(frame: pd.DataFrame, role: str) -> dict[str, str]:
    """The columns `role[name]` of a role that has several: name -> column."""
    start = f"{role}["
    return {c[len(start) : -1]: c for c in map(str, frame.columns) if c.startswith(start) and c.endswith("]")}


def read_columns(law: Law, frame: pd.DataFrame, source: str) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """The columns that a law reads and derives, in raw units; and by role the names of a vector's columns or of groups.

    Raises InputError if a column is missing or unusable.
    """
    check_roles(frame, (*law.columns, *law.vectors, *law.labels), source, law.vectors)
    columns = {role: column_of(frame, role, source, role in law.signed) for role in law.columns}
    names: dict[str, list[str]] = {}
    for role in law.vectors:
        members = vector_columns(frame, role)
        parts = [column_of(frame, column, source, role in law.signed) for column in members.values()]
        columns[role], names[role] = np.stack(parts, axis=1), list(members)
    for role in law.labels:
        codes, labels = pd.factorize(frame[role].astype(str), sort=True)
        columns[role], names[role] = codes, list(labels)
    return columns | (law.derive(columns) if law.derive else {}), names


def held_out(frame: pd.DataFrame, holdout: str | None, source: str) -> np.ndarray:
    """Which rows an expression holds out of the fit; without one, those that a column `holdout` marks."""
    if holdout is None:
        return frame["holdout"].to_numpy(dtype=bool) if "holdout" in frame.columns else np.zeros(len(frame), bool)
    return evaluate(frame, holdout, "--holdout", source)


def evaluate(frame: pd.DataFrame, expression: str, option: str, source: str) -> Bool[np.ndarray, "rows"]:
    """The rows for which a condition on the columns holds (`sweeps.expression`); `index` is the number of a row.

    Raises InputError if it is not a condition, or reads a name that is not a column.
    """
    names = {*map(str, frame.columns), "index"}
    try:
        tree = parse_expression(expression, names)
        columns = {name: expression_column(frame, name) for name in names_in(tree)}
        return rows_where(tree, columns, len(frame))
    except ExpressionError as error:
        expected = f"a condition true or false in each row, on the columns {names_of(frame)}"
        raise InputError(source, option, expression, f"{expected} ({error})") from None


def expression_column(frame: pd.DataFrame, name: str) -> Shaped[np.ndarray, "rows"]:
    """A column as expressions take it: numbers, truth values, or texts with None where there is none."""
    if name == "index" and name not in frame.columns:
        return np.arange(len(frame), dtype=float)
    column = frame[name]
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.to_numpy(dtype=bool, na_value=False)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=float, na_value=np.nan)
    return np.array([None if pd.isna(value) else str(value) for value in column], object)
