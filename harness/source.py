"""SOURCE on the command line: a sweep's folder, or anyone's table, as rows in roles for `harness.fit`."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.fit.laws.law import get_law, law_ids
from harness.fit.result import FitResult
from harness.fit.table import assign_roles, is_runs_table, read_file, read_table, roles_for_runs
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

    A file with the columns of a sweep's runs, exported or simulated, is read as a sweep's folder is.

    Raises:
        InputError: no such source, role, column or law, a condition that does not parse, or no row left.
    """
    roles, declared, warnings = parse_roles(settings), [get_law(law) for law in laws], ()
    frame = runs_table(source) if source.is_dir() else read_file(source)
    if source.is_dir() or is_runs_table(frame):
        frame, warnings = roles_for_runs(frame, estimator, units)
    frame, more = assign_roles(frame, roles, where=where, holdout=holdout, laws=declared, source=str(source))
    for warning in (*warnings, *more):
        print(f"{source}: {warning.message}")
    return frame


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
    needed = {p.name for p in get_law(result.law).parameters if p.each is None}
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
