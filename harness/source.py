"""SOURCE on the command line: a sweep's folder, or anyone's table, as rows in roles for `harness.fit`."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.fit.law import get_law, law_ids
from harness.fit.result import FitResult
from harness.fit.table import assign_roles, read_table, roles_for_runs
from harness.record.table import runs_table
from sweeps.errors import InputError


def parse_roles(settings: Sequence[str]) -> dict[str, str]:
    """`ROLE=COLUMN` options as role -> column.

    Raises:
        InputError: an option without `=`.
    """
    for setting in settings:
        if "=" not in setting:
            raise InputError("--set", "value", setting, "ROLE=COLUMN, e.g. N=params")
    return dict(setting.split("=", 1) for setting in settings)


def read_source(
    source: Path, laws: Sequence[str], settings: Sequence[str], where: str | None, holdout: str | None,
    estimator: str, units: str,
) -> pd.DataFrame:  # fmt: skip
    """The rows of a folder or file with the columns of the laws in their roles; what was dropped is printed.

    Raises:
        InputError: no such source, role, column or law, a condition that does not parse, or no row left.
    """
    roles = parse_roles(settings)
    needed = {role for law in laws for role in (*get_law(law).columns, get_law(law).response)}
    if source.is_dir():
        frame, warnings = roles_for_runs(runs_table(source), estimator, units)
        chosen = {role: role for role in needed if role in frame} | roles
        frame, more = assign_roles(frame, chosen, where=where, holdout=holdout, source=str(source))
        warnings = (*warnings, *more)
    else:
        standing = {role: role for role in needed | {"G_se"} if role in _columns(source)}
        frame, warnings = read_table(source, roles, where, holdout, standing)
    for warning in warnings:
        print(f"{source}: {warning.message}")
    return frame


def _columns(source: Path) -> list[str]:
    try:
        if source.suffix == ".parquet":
            return list(pd.read_parquet(source).columns)
        return list(pd.read_csv(source, nrows=0).columns)
    except (OSError, ValueError):
        return []  # read_table says what is wrong with it


def read_fit(path: Path) -> FitResult:
    """A result that `isogap fit --json` wrote.

    Raises:
        InputError: another file, an unknown law, or one without all its parameters.
    """
    try:
        result = FitResult.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, "FIT.json", type(error).__name__, "a file written by `isogap fit --json`") from None
    if result.law not in law_ids():
        raise InputError(path, "law", result.law, f"one of {', '.join(law_ids())}")
    needed = {parameter.name for parameter in get_law(result.law).parameters}
    # A fit without bootstrap has no draws at all.
    for field, given in (("parameters", result.parameters), ("draws", result.draws or dict.fromkeys(needed))):
        if not needed <= given.keys():
            raise InputError(path, field, sorted(given), f"all of {', '.join(sorted(needed))}, of the law {result.law}")
    for name, value in result.parameters.items():
        if not isinstance(value.estimate, int | float | None):
            raise InputError(path, f"parameters.{name}.estimate", value.estimate, "a number or null")
    return result


def read_points(at: Sequence[str], points: Path | None) -> pd.DataFrame:
    """Points given as `N=1e6,D=1e8` or in a file.

    Raises:
        InputError: neither or both given, or a value that is no number.
    """
    if bool(at) == (points is not None):
        raise InputError("predict", "--at / --points", "both" if at else "neither", "one of the two")
    if points is not None:
        return read_table(points)[0].drop(columns="holdout")  # points have nothing to hold out
    rows = []
    for text in at:
        try:
            rows.append({k.strip(): float(v) for k, v in (part.split("=") for part in text.split(","))})
        except ValueError:
            raise InputError("--at", "value", text, "ROLE=NUMBER,ROLE=NUMBER, e.g. N=1e6,D=1e8") from None
    return pd.DataFrame(rows)
