"""Reads runs from a sweep's folder or a table, with columns renamed to roles (N, D, L, G); and reads stored fits."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.files import open_folder
from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.fit.results.result import FitResult
from harness.gaps.roles import is_runs_table, roles_for_runs
from harness.gaps.shared_documents import with_shared_errors
from harness.tables.files import read_file
from harness.tables.read import assign_roles
from sweeps.errors import InputError
from sweeps.numbers import parse_number

# A sweep's folder, a file of runs, the URL of either, or a table in memory.
RunSource = str | Path | pd.DataFrame


def parse_roles(settings: Sequence[str]) -> dict[str, str]:
    """Turn options `ROLE=COLUMN` into role -> column.

    Raises:
        InputError: an option without `=`.
    """
    for setting in settings:
        if "=" not in setting:
            raise InputError("--set", "value", setting, "ROLE=COLUMN, e.g. N=params")
    return dict(setting.split("=", 1) for setting in settings)


def read_runs(
    source: RunSource,
    laws: str | Sequence[str] = (),
    *,
    set: Mapping[str, str] | None = None,
    where: str | None = None,
    holdout: str | None = None,
    estimator: str = "best",
    units: str = "tokens",
    reads: Sequence[str] = (),
    tell: Callable[[str], object] = warnings.warn,
) -> pd.DataFrame:
    """Read runs as a table whose columns are named by the roles that laws use (N, D, L, G).

    A table with the columns of a sweep's runs, exported or simulated, is read as a sweep's folder is. A table that this
    function returned is taken as it is.

    Args:
        source: a sweep's folder, a file of any kind that `harness.tables.files` reads, the URL of either on an object
            store, or a table.
        laws: ids of the laws that the rows are for; they may name further roles.
        set: role -> column; a role that is not listed is read from the column of its name.
        where: a condition on the table's own columns, such as `params > 1e5`, or on roles whose names no column has;
            other rows are left out.
        holdout: a condition; rows that meet it are scored and not fitted.
        estimator: which measured gap to use: best (twin if there is one, else probe), twin, control, probe, online.
        units: tokens, or bytes to compare several tokenizers.
        reads: roles that are read without a law.
        tell: called with a sentence about rows that are left out.

    Raises:
        InputError: a source, role, column or law that does not exist, a condition that does not parse, or no row left.
    """
    if isinstance(source, pd.DataFrame) and "roles" in source.attrs and not (set or where or holdout):
        return source
    return open_runs(source).read(
        laws, set=set, where=where, holdout=holdout, estimator=estimator, units=units, reads=reads, tell=tell
    )


class OpenRuns(NamedTuple):
    """Runs as their source has them, from which several laws may read what each of them needs.

    Attributes:
        name: the source, for messages.
        is_sweep: whether this is the table of a sweep's runs.
        folder: the sweep's folder, if it is one.
    """

    frame: pd.DataFrame
    name: str
    is_sweep: bool
    folder: Path | None

    def read(
        self, laws: str | Sequence[str] = (), *, set: Mapping[str, str] | None, where: str | None = None,
        holdout: str | None = None, estimator: str = "best", units: str = "tokens", reads: Sequence[str] = (),
        tell: Callable[[str], object] = warnings.warn,
    ) -> pd.DataFrame:  # fmt: skip
        """Put the columns into roles: arguments, result and errors of `read_runs`."""
        names = [*map(str, self.frame.columns), *(set or ())]
        declared = [get_law(law, names) for law in ([laws] if isinstance(laws, str) else laws)]
        frame, warned = roles_for_runs(self.frame, estimator, units) if self.is_sweep else (self.frame, ())
        if self.folder is not None and any(law.contrast for law in declared):
            frame = with_shared_errors(frame, self.folder, units)
        frame, more = assign_roles(
            frame, set or {}, where=where, holdout=holdout, laws=declared, reads=reads, source=self.name
        )
        for warning in (*warned, *more):
            tell(f"{self.name}: {warning.message}")
        return frame


def open_runs(source: RunSource) -> OpenRuns:
    """Read runs as they are, of a study's folder its table; InputError for a source that does not exist or is none."""
    if isinstance(source, pd.DataFrame):
        return OpenRuns(source, "table", is_runs_table(source), None)
    path = open_folder(str(source))
    if not (path / "manifest.json").is_file() and (path / "runs.parquet").is_file():
        path = path / "runs.parquet"
    folder = path if path.is_dir() else None
    frame = read_file(path) if folder is None else _runs_of(path)
    return OpenRuns(frame, str(path), folder is not None or is_runs_table(frame), folder)


def _runs_of(sweep: Path) -> pd.DataFrame:
    from harness.record.table import runs_table  # 0.1 s, mostly pydantic, that a file does not need

    return runs_table(sweep)


def is_stored_fit(source: str) -> bool:
    """Say whether a source is to be read as a file of `isogap fit --json`, and not as a table or a sweep.

    A list of rows, a dictionary of columns and JSON lines are tables.
    """
    if not source.endswith(".json"):
        return False
    try:
        content = json.loads(Path(source).read_text())
    except OSError:
        return True
    except ValueError:  # JSON lines
        return False
    return isinstance(content, dict) and (not content or not {"parameters", "groups"}.isdisjoint(content))


def read_fit(path: Path) -> FitResult:
    """Read a result that `isogap fit --json` wrote.

    Raises:
        InputError: as for `read_fits`, or a file with the fits of several groups.
    """
    by, fits = read_fits(path)
    if by is not None:
        raise InputError(path, "by", by, "the fit of one table, not of several groups")
    return fits[""]


def read_fits(path: Path) -> tuple[str | None, dict[str, FitResult]]:
    """Read what `isogap fit --json` wrote: the column of `--by` and the fit of each group; or None and one fit, as "".

    Raises:
        InputError: a file of another kind, an unknown law, or a law without all its parameters.
    """
    try:
        content = json.loads(path.read_text())
        by = content.get("by")
        fits = {name: FitResult.from_dict(data) for name, data in (content["groups"] if by else {"": content}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(path, "FIT.json", type(error).__name__, "a file written by `isogap fit --json`") from None
    if not fits:
        raise InputError(path, "groups", "none", "the fit of at least one group")
    for result in fits.values():
        _check_fit(path, result)
    return by, fits


def _check_fit(path: Path, result: FitResult) -> None:
    """Refuse the result of an unknown law, or one without all parameters of its law."""
    try:
        needed = {p.name for p in get_law(result.law).parameters if p.each is None}
    except InputError as error:
        raise InputError(path, error.field, error.value, error.expected) from None
    # A fit without a gap has no confidence set at all.
    points = result.confidence_set or dict.fromkeys(needed)
    for field, given in (("parameters", result.parameters), ("confidence_set", points)):
        if not needed <= given.keys():
            raise InputError(path, field, sorted(given), f"all of {', '.join(sorted(needed))}, of the law {result.law}")
    for name, value in result.parameters.items():
        if not isinstance(value.estimate, int | float | None):
            raise InputError(path, f"parameters.{name}.estimate", value.estimate, "a number or null")


def read_points(
    at: Sequence[str],
    points: Path | None,
    law: Law,
    roles: Mapping[str, str] | None = None,
    by: str | None = None,
    tell: Callable[[str], object] = warnings.warn,
) -> pd.DataFrame:
    """Read points given as `N=20M,D=1e8` or in a file, whose columns are put into the law's roles as those of runs are.

    Args:
        by: the column of the groups of a fit, if it has several; `N=20M,corpus=web` is a point of one of them.

    Raises:
        InputError: neither or both given, a value that is not a number, or an unusable file.
    """
    if bool(at) == (points is not None):
        raise InputError("predict", "--at / --points", "both" if at else "neither", "one of the two")
    if points is not None:
        table, told = assign_roles(read_file(points), roles or {}, laws=[law], responses=False, source=str(points))
        for warning in told:
            tell(f"{points}: {warning.message}")
        return table.drop(columns=["holdout", "file_row"])  # points have nothing to hold out
    rows = []
    for text in at:
        parts = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in text.split(","))}
        words = {name: value for name, value in parts.items() if name == by or name in law.labels}
        values = {name: parse_number(value) for name, value in parts.items() if name not in words}
        if not all(value is not None and np.isfinite(value) for value in values.values()):
            group = f"; a group of this fit is {by}=NAME or --group NAME" if by else ""
            raise InputError("--at", "value", text, f"ROLE=NUMBER,ROLE=NUMBER, e.g. N=1e6,D=1e8{group}")
        rows.append(words | values)
    frame = pd.DataFrame(rows)
    if by is not None and any(by in row for row in rows) and not all(by in row for row in rows):
        raise InputError("--at", by, None, f"{by}=NAME in every point, or in none")
    return frame
