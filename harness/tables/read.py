"""Reads anyone's table of runs and puts its columns into roles: by options, expressions, or the usual names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.laws.law import Law
from harness.fit.problem.columns import SIZE_ROLES, evaluate, expression_column, names_of, numbers_of, own_columns
from harness.fit.problem.fit_status import FitWarning
from harness.fit.problem.sizes import FLOPS_PER_PARAMETER_TOKEN, FROM_FLOPS
from harness.tables.files import read_file
from harness.tables.usual_names import unit_of, usual_column
from sweeps.complaints import shorten
from sweeps.errors import InputError
from sweeps.expression import ExpressionError, evaluate_rows, names_in, parse_expression
from sweeps.numbers import parse_number

# Roles that any table may fill, whatever the law; a law adds its own.
ROLES = (
    "N", "D", "U", "L", "L_train", "L_se", "G", "G_se", "B", "lr", "flops", "step", "group", "run", "epochs", "seed",
    "cluster",
)  # fmt: skip
# Roles that are filled from usual names though no law reads them: sizes are checked against flops, runs are resampled.
BESIDE = ("flops", "run")
LABELS = ("group", "run", "seed", "cluster")
SIGNED = ("G",)
# Larger than any count so far: a hint that would lead beyond it is not taken.
_LARGEST = {"N": 1e14, "D": 1e17, "U": 1e17, "flops": 1e30}


def _series(frame: pd.DataFrame, name: str) -> pd.Series:
    column = frame[name]
    assert isinstance(column, pd.Series)  # the names of columns differ
    return column


class _Source(NamedTuple):
    """Where the values of a role come from: a column with the factor of its unit, or an expression."""

    values: pd.Series
    shown: str
    guessed: bool


def read_table(
    source: str | Path,
    roles: Mapping[str, str] | None = None,
    where: str | None = None,
    holdout: str | None = None,
    laws: Sequence[Law] = (),
) -> tuple[pd.DataFrame, tuple[FitWarning, ...]]:
    """Read a file of runs (`harness.tables.files`) as a table with role columns beside its own.

    Args:
        roles: role -> column or expression of columns, such as `1e6*params_m`; columns with commas between them for a
            role of several columns.
        where: a condition on the file's columns, and on roles whose names no column has (`sweeps.expression`); rows
            for which it fails are left out.
        holdout: another such condition; its rows get `holdout = True` and are scored, not fitted.
        laws: the laws that the table is for. They may add roles. A role that they read and that `roles` does not name
            is filled by the column of its name, or of one of its usual names (`harness.tables.usual_names`); of N and D
            the one that has no column is computed from flops and the other.

    Returns:
        the rows that have a usable value in every role, with their numbers in the file as `file_row` (from 1, the names
        of the columns not counted); and warnings: of guessed columns and units, of computed sizes, of rows left out.

    Raises:
        InputError: no such file, an unknown role or column, a cell that is not a number, a condition that does not
            parse, or no row left.
    """
    frame = read_file(Path(source) if isinstance(source, str) and source != "-" else source)
    return assign_roles(frame, dict(roles or {}), where=where, holdout=holdout, laws=laws, source=str(source))


def assign_roles(
    frame: pd.DataFrame,
    roles: Mapping[str, str],
    *,
    where: str | None = None,
    holdout: str | None = None,
    laws: Sequence[Law] = (),
    responses: bool = True,
    reads: Sequence[str] = (),
    source: str = "table",
) -> tuple[pd.DataFrame, tuple[FitWarning, ...]]:
    """`read_table` for a table in memory: same arguments, same errors.

    Args:
        responses: whether the responses of the laws are read; not so for points at which they are predicted.
        reads: roles that are read without a law.
    """
    signed = {*SIGNED, *(role for law in laws for role in law.signed)}
    labels = {*LABELS, *(role for law in laws for role in law.labels)}
    read = {*reads, *(role for law in laws for role in law.roles)}
    read |= {f"{law.response}_se" for law in laws}
    if not responses:
        read -= {name for law in laws for name in (law.response, f"{law.response}_se")}
    filled = _filled_roles(frame, roles, laws, labels, read, source)
    values = {role: entry.values for role, entry in filled.items()}
    named = frame.assign(**{role: column for role, column in values.items() if role not in frame.columns})
    named.attrs["columns"] = own_columns(frame)
    kept = np.ones(len(frame), bool) if where is None else evaluate(named, where, "--where", source)
    marked = np.zeros(len(frame), bool) if holdout is None else evaluate(named, holdout, "--holdout", source)
    if holdout is not None and not (marked & kept).any():
        raise InputError(source, "--holdout", holdout, "a condition that holds for some rows")
    table = frame.assign(**values, holdout=marked, file_row=np.arange(1, len(frame) + 1)).loc[kept]
    if table.empty:
        raise InputError(source, "--where", where, "a condition that leaves some rows")
    warnings = [*_about_roles(filled), *_about_unread(roles, read if laws else set(filled))]
    for column, entry in filled.items():
        role = column.split("[")[0]
        if role in labels or role.endswith("_se"):
            continue
        numbers = _numbers(_series(table, column), entry.shown, source)
        bad = ~np.isfinite(numbers) | (False if role in signed else numbers <= 0)
        table = table.assign(**{column: numbers})
        if bad.any():
            problem = "missing" if role in signed else "missing or not positive"
            message = f"{int(bad.sum())} of {len(table)} rows dropped: {column} is {problem}"
            warnings.append(FitWarning("rows_dropped", message))
            table = table.loc[~bad]
            if table.empty:
                raise InputError(source, column, f"{problem} in every row", f"usable values of {entry.shown}")
    for role in (role for role, rule in FROM_FLOPS.items() if role in filled and filled[role].shown == rule):
        low, high = table[role].min(), table[role].max()
        message = f"no column for {role}: {role} = {FROM_FLOPS[role]}, {low:.3g} to {high:.3g}"
        warnings.append(FitWarning("sizes_from_flops", message))
    table = table.reset_index(drop=True)
    table.attrs["columns"] = own_columns(frame)
    table.attrs["roles"] = {role: entry.shown for role, entry in filled.items()}
    table.attrs["dropped"] = [warning.message for warning in warnings if warning.code == "rows_dropped"]
    return table, tuple(warnings)


def _about_roles(filled: Mapping[str, _Source]) -> list[FitWarning]:
    """One line about the columns that were taken for a role unasked, and the units that were taken from names."""
    guessed = [f"{role} = {entry.shown}" for role, entry in filled.items() if entry.guessed]
    return [FitWarning("roles", f"{', '.join(guessed)} (--set ROLE=COLUMN says otherwise)")] if guessed else []


def _about_unread(roles: Mapping[str, str], read: set[str]) -> list[FitWarning]:
    """One line about the roles that were asked for and that nothing reads."""
    beside = {*BESIDE, *LABELS, *(f"{role}_se" for role in read), *(("L", "L_train") if "G" in read else ())}
    unread = [f"{role}={text}" for role, text in roles.items() if role not in read | beside]
    told = f"--set {', '.join(unread)}: nothing here reads this role, so nothing depends on it"
    return [FitWarning("role_not_read", told)] if unread else []


def _filled_roles(
    frame: pd.DataFrame, roles: Mapping[str, str], laws: Sequence[Law], labels: set[str], read: set[str], source: str
) -> dict[str, _Source]:
    """Role -> its source: the roles that are asked for, then those that are to be read for the laws."""
    known = dict.fromkeys((*ROLES, *sorted(read)))
    needed = [role for role in known if role in read]
    vectors = {role for law in laws for role in law.vectors}
    filled: dict[str, _Source] = {}
    for role in (*(role for role in needed if role not in roles), *roles):
        if role not in known:
            raise InputError(source, "--set", f"{role}={roles[role]}", f"one of the roles {', '.join(known)}")
        if role in vectors and role in roles:
            for name in roles[role].split(","):
                filled[f"{role}[{name}]"] = _column(frame, role, name, source)
        elif role in roles:
            filled[role] = _asked(frame, role, roles[role], source)
        elif (role in frame.columns or role not in labels) and (usual := _usual(frame, role)):
            filled[role] = usual
    filled |= {role: entry for role in BESIDE if role not in filled and (entry := _beside(frame, role, needed))}
    if "G" in needed and "G" not in filled:
        losses = [filled.get(role) or _usual(frame, role) for role in ("L", "L_train")]
        if all(losses):
            held_out, seen = (_numbers(entry.values, entry.shown, source) for entry in losses if entry)
            shown = " - ".join(entry.shown for entry in losses if entry)
            filled["G"] = _Source(pd.Series(held_out - seen, frame.index), shown, True)
    return filled | _from_flops(frame, filled, needed, source)


def _from_flops(
    frame: pd.DataFrame, filled: Mapping[str, _Source], needed: Sequence[str], source: str
) -> dict[str, _Source]:
    """The one of N and D that is needed and has no column, with the two roles that it is computed from, if all are."""
    for role, other in (("N", "D"), ("D", "N")):
        if role in needed and role not in filled:
            known = {name: filled.get(name) or _usual(frame, name) for name in ("flops", other)}
            given = {name: entry for name, entry in known.items() if entry is not None}
            if len(given) == 2:
                flops, size = (_numbers(entry.values, entry.shown, source) for entry in given.values())
                with np.errstate(all="ignore"):  # a row with an unusable size is dropped for it
                    values = pd.Series(flops / (FLOPS_PER_PARAMETER_TOKEN * size), frame.index)
                return given | {role: _Source(values, FROM_FLOPS[role], False)}
    return {}


def column_taken(frame: pd.DataFrame, role: str) -> str | None:
    """The column that is taken for a role unasked: that of its name, else one with a usual name; None without either.

    A column of words, such as the convention of a `param_count`, is passed over for a role of numbers.
    """
    if role in frame.columns:
        return role
    names = [*map(str, frame.columns)]
    while (column := usual_column(role, names)) is not None:
        if role in LABELS or _has_numbers(_series(frame, column)):
            return column
        names.remove(column)
    return None


def _usual(frame: pd.DataFrame, role: str) -> _Source | None:
    column = column_taken(frame, role)
    if column is None:
        return None
    if column == role:
        return _Source(_series(frame, role), role, False)
    return _in_units(frame, role, column)._replace(guessed=True)


def _has_numbers(column: pd.Series) -> bool:
    """Whether a cell is a number, however it is written."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return True
    numbers = (parse_number(cell) for cell in column if isinstance(cell, str))
    return any(number is not None and np.isfinite(number) for number in numbers)


def _beside(frame: pd.DataFrame, role: str, needed: Sequence[str]) -> _Source | None:
    """The usual column of a role that no law reads, if all its cells can be used: FLOPs of runs with N and D, runs."""
    usual = _usual(frame, role)
    if usual is None or (role == "flops" and not {"N", "D"} <= {*needed}):
        return None
    if role == "run":
        return usual if usual.values.notna().all() and usual.values.duplicated().any() else None
    numbers, fault = numbers_of(usual.values)
    usable = fault is None and bool(np.all(np.isfinite(numbers) & (numbers > 0)))
    return usual._replace(values=pd.Series(numbers, frame.index)) if usable else None


def _column(frame: pd.DataFrame, role: str, name: str, source: str) -> _Source:
    if name not in frame.columns:
        raise InputError(source, f"--set {role}", name, f"one of the columns {names_of(frame)}")
    return _in_units(frame, role, name)


def _in_units(frame: pd.DataFrame, role: str, name: str) -> _Source:
    """A column as counts: a size in the unit that its name hints at, unless it would be larger than any."""
    hint = unit_of(name) if role in SIZE_ROLES else None
    if hint is None:
        return _Source(_series(frame, name), name, False)
    numbers, fault = numbers_of(_series(frame, name))
    if fault is not None or not np.nanmedian(numbers) * hint[1] < _LARGEST[role]:
        return _Source(_series(frame, name), name, False)
    return _Source(pd.Series(numbers * hint[1], frame.index), f"{name} x {hint[1]:g}", True)


def _asked(frame: pd.DataFrame, role: str, text: str, source: str) -> _Source:
    """What `--set ROLE=TEXT` means: a column, or an expression of columns."""
    if text in frame.columns:
        return _in_units(frame, role, text)
    columns = names_of(frame)
    try:
        tree = parse_expression(text, [*map(str, frame.columns), "index"])
        values = {name: expression_column(frame, name) for name in names_in(tree)}
        with np.errstate(all="ignore"):
            computed = evaluate_rows(tree, values, len(frame))
    except ExpressionError as error:
        if text.isidentifier():
            raise InputError(source, f"--set {role}", text, f"one of the columns {columns}") from None
        expected = f"a column or an expression of the columns {columns} ({error})"
        raise InputError(source, f"--set {role}", text, expected) from None
    if computed.dtype.kind not in "fiu":
        raise InputError(source, f"--set {role}", text, "an expression whose value is a number")
    return _Source(pd.Series(computed, frame.index), text, False)


def _numbers(column: pd.Series, shown: str, source: str) -> Float[np.ndarray, "rows"]:
    numbers, fault = numbers_of(column)
    if fault is not None:
        label = column.index[fault]
        place = f"row {label + 1}" if isinstance(label, int) else f"row {label}"
        raise InputError(source, f"{place}, column {shown}", shorten(column.iloc[fault]), "numbers")
    return numbers
