"""Reads tables of runs, anyone's CSV or parquet, and puts columns into roles."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.fit.laws.law import Law
from harness.fit.problem.columns import evaluate
from harness.fit.problem.fit_status import FitWarning
from sweeps.errors import InputError

# Roles that any table may fill, whatever the law; a law adds its own.
ROLES = (
    "N", "D", "U", "L", "L_train", "L_se", "G", "G_se", "B", "lr", "flops", "step", "group", "run", "epochs", "seed",
    "cluster",
)  # fmt: skip
LABELS = ("group", "run", "seed", "cluster")
SIGNED = ("G",)


def read_table(
    source: str | Path,
    roles: Mapping[str, str] | None = None,
    where: str | None = None,
    holdout: str | None = None,
    laws: Sequence[Law] = (),
) -> tuple[pd.DataFrame, tuple[FitWarning, ...]]:
    """Read a CSV or parquet file as a table with role columns beside its own.

    Args:
        roles: role -> column name, or names with commas between them for a role of several columns.
        where: a pandas condition on the file's columns; rows for which it fails are left out.
        holdout: another such condition; its rows get `holdout = True` and are scored, not fitted.
        laws: the laws that the table is for. They may add roles, and a column with the name of a role that they read
            fills that role where `roles` says nothing else.

    Returns:
        the rows that have a usable value in every role, and warnings that count the others.

    Raises:
        InputError: no such file, an unknown role or column, a condition that does not parse, or no row left.
    """
    frame = read_file(Path(source) if isinstance(source, str) else source)  # a URL of an object store is not a Path
    return assign_roles(frame, dict(roles or {}), where=where, holdout=holdout, laws=laws, source=str(source))


def read_file(path: Path) -> pd.DataFrame:
    """A CSV or parquet file as it is; InputError if there is none, or it cannot be read."""
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except FileNotFoundError:
        raise InputError(path, "SOURCE", str(path), "a CSV or parquet file of runs") from None
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise InputError(path, "SOURCE", str(error).splitlines()[0], "a readable CSV or parquet file") from None


def assign_roles(
    frame: pd.DataFrame,
    roles: Mapping[str, str],
    *,
    where: str | None = None,
    holdout: str | None = None,
    laws: Sequence[Law] = (),
    source: str = "table",
) -> tuple[pd.DataFrame, tuple[FitWarning, ...]]:
    """`read_table` for a table in memory: same arguments, same errors."""
    filled = _filled_roles(frame, roles, laws, source)
    signed = {*SIGNED, *(role for law in laws for role in law.signed)}
    labels = {*LABELS, *(role for law in laws for role in law.labels)}
    kept = np.ones(len(frame), bool) if where is None else evaluate(frame, where, "--where", source)
    marked = np.zeros(len(frame), bool) if holdout is None else evaluate(frame, holdout, "--holdout", source)
    table = frame.assign(**{role: frame[column] for role, column in filled.items()}, holdout=marked).loc[kept]
    if table.empty:
        raise InputError(source, "--where", where, "a condition that leaves some rows")
    warnings = []
    for column in filled:
        role = column.split("[")[0]
        if role in labels or role.endswith("_se"):
            continue
        numbers = _numbers(table, column, source)
        bad = ~np.isfinite(numbers) | (False if role in signed else numbers <= 0)
        table = table.assign(**{column: numbers})
        if bad.any():
            problem = "missing" if role in signed else "missing or not positive"
            message = f"{int(bad.sum())} of {len(table)} rows dropped: {column} is {problem}"
            warnings.append(FitWarning("rows_dropped", message))
            table = table.loc[~bad]
    if table.empty:
        raise InputError(source, "rows", 0, "at least one row in which every role has a usable value")
    table = table.reset_index(drop=True)
    table.attrs["roles"] = filled
    table.attrs["dropped"] = [warning.message for warning in warnings]
    return table, tuple(warnings)


def _filled_roles(frame: pd.DataFrame, roles: Mapping[str, str], laws: Sequence[Law], source: str) -> dict[str, str]:
    """Role -> column: the roles that are asked for, and the laws' roles that a column of the same name fills."""
    needed = sorted({role for law in laws for role in (*law.roles, f"{law.response}_se")})
    known = dict.fromkeys((*ROLES, *needed))
    vectors = {role for law in laws for role in law.vectors}
    columns = ", ".join(map(str, frame.columns))
    filled: dict[str, str] = {}
    for role, column in ({role: role for role in needed if role in frame.columns} | dict(roles)).items():
        if role not in known:
            raise InputError(source, "--set", f"{role}={column}", f"one of the roles {', '.join(known)}")
        for name in column.split(",") if role in vectors else [column]:
            if name not in frame.columns:
                raise InputError(source, f"--set {role}", name, f"one of the columns {columns}")
            filled[f"{role}[{name}]" if role in vectors else role] = name
    return filled


def _numbers(table: pd.DataFrame, role: str, source: str) -> np.ndarray:
    try:
        return np.asarray(pd.to_numeric(table[role]), dtype=float)
    except (TypeError, ValueError):
        text = next(value for value in table[role] if not isinstance(value, int | float))
        raise InputError(source, role, text, "numbers") from None
