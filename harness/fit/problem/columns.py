"""Columns of a table in their roles, as checked arrays; and the rows for which a condition holds."""

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.laws.law import Law
from sweeps.errors import InputError

# The roles that measure how large a run is.
SIZE_ROLES = ("N", "D", "U", "flops")


def _check_role(frame: pd.DataFrame, role: str, source: str) -> None:
    if role not in frame.columns:
        columns = ", ".join(map(str, frame.columns))
        raise InputError(source, role, columns, f"a column for the role {role} (--set {role}=...)")


def column_of(frame: pd.DataFrame, role: str, source: str, signed: bool = False) -> Float[np.ndarray, "rows"]:
    """The numbers of a role; InputError if missing, not numeric, not finite or, unless `signed`, not positive."""
    _check_role(frame, role, source)
    try:
        values = frame[role].to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError):
        raise InputError(source, role, str(frame[role].iloc[0]), "numbers") from None
    bad = ~np.isfinite(values) | (False if signed else values <= 0)
    if bad.any():
        expected = "finite numbers" if signed else "finite numbers above zero"
        raise InputError(source, role, float(values[np.argmax(bad)]), f"{expected} in every row ({bad.sum()} are not)")
    return values


def vector_columns(frame: pd.DataFrame, role: str) -> dict[str, str]:
    """The columns `role[name]` of a role that has several: name -> column."""
    start = f"{role}["
    return {c[len(start) : -1]: c for c in map(str, frame.columns) if c.startswith(start) and c.endswith("]")}


def read_columns(law: Law, frame: pd.DataFrame, source: str) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """The columns that a law reads and derives, in raw units; and by role the names of a vector's columns or of groups.

    Raises InputError if a column is missing or unusable.
    """
    columns = {role: column_of(frame, role, source, role in law.signed) for role in law.columns}
    names: dict[str, list[str]] = {}
    for role in law.vectors:
        members = vector_columns(frame, role)
        if not members:
            raise InputError(source, role, "none", f"columns for the role {role} (--set {role}=COLUMN,COLUMN,...)")
        parts = [column_of(frame, column, source, role in law.signed) for column in members.values()]
        columns[role], names[role] = np.stack(parts, axis=1), list(members)
    for role in law.labels:
        _check_role(frame, role, source)
        codes, labels = pd.factorize(frame[role].astype(str), sort=True)
        columns[role], names[role] = codes, list(labels)
    return columns | (law.derive(columns) if law.derive else {}), names


def held_out(frame: pd.DataFrame, holdout: str | None, source: str) -> np.ndarray:
    """Which rows an expression holds out of the fit; without one, those that a column `holdout` marks."""
    if holdout is None:
        return frame["holdout"].to_numpy(dtype=bool) if "holdout" in frame.columns else np.zeros(len(frame), bool)
    return evaluate(frame, holdout, "--holdout", source)


def evaluate(frame: pd.DataFrame, expression: str, option: str, source: str) -> np.ndarray:
    """The rows for which a pandas expression over the column names holds.

    Raises InputError if it does not parse, names a column that is missing, or does not give a truth value per row.
    """
    columns = ", ".join(map(str, frame.columns))
    try:
        mask = frame.eval(expression)
    except Exception as error:  # pandas raises a dozen kinds: SyntaxError, UndefinedVariableError, TypeError, ...
        raise InputError(source, option, expression, f"a condition on the columns {columns} ({error})") from None
    if not isinstance(mask, pd.Series) or mask.dtype != bool:
        raise InputError(source, option, expression, f"a condition true or false in each row, on the columns {columns}")
    return mask.to_numpy()
