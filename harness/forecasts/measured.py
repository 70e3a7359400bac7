"""What was measured at the points of forecasts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.fit.problem.columns import check_roles, names_of, numbers_or_nan
from harness.forecasts.registry_file import TELLING, RegisteredForecast
from harness.source import OpenRuns
from sweeps.errors import InputError

# A run is at a forecast's point if each number of the point is as near as this to the run's: heads and batches are
# whole numbers, which makes sizes that differ by about a percent from those that were asked for.
SAME_POINT = 0.02
# The column of a table of runs that says when each ended: a date with its time, or seconds since 1970.
ENDED_COLUMN = "ended"


@dataclass(frozen=True)
class MeasuredPoint:
    """The response as it was measured at a point.

    Attributes:
        rows: the numbers of the rows in the source, from 1.
        value: their mean, in the unit of the response.
        se: its standard error; None if nothing is known of it.
        ended: when the first of them ended, in UTC; None if the source does not say.
    """

    rows: tuple[int, ...]
    value: float
    se: float | None
    ended: pd.Timestamp | None


def read_measured(
    runs: OpenRuns, forecasts: Sequence[RegisteredForecast], *, set: Mapping[str, str] | None, where: str | None,
    estimator: str, units: str, tell: Callable[[str], object],
) -> list[MeasuredPoint | None]:  # fmt: skip
    """Find what was measured at the point of each forecast; None where there is no row.

    Args:
        set, where, estimator, units: as for `harness.source.read_runs`.
        tell: called with a sentence about rows that are left out, and about each law that reads what the runs lack.

    Raises:
        InputError: a column of groups that the runs lack, or runs that no law can be scored on.
    """
    laws = {forecast.law: get_law(forecast.law, [*forecast.point, forecast.response]) for forecast in forecasts}
    runs = runs._replace(folder=None)  # the errors that gaps share, which a folder tells, take long and do not matter
    tables: dict[str, pd.DataFrame] = {}
    failed: dict[str, InputError] = {}
    told: dict[str, None] = {}  # the laws leave out the same rows for the same reasons
    for law in laws.values():
        try:
            named = {role for forecast in forecasts if forecast.law == law.id for role in forecast.point}
            reads = [role for role in TELLING if role in named]
            own = _roles_of(law, reads, [*laws.values()], set or {})
            table = runs.read(
                law.id, set=own, where=where, estimator=estimator, units=units, reads=reads, tell=told.setdefault
            )
            check_roles(table, law.roles, runs.name, law.vectors)
            tables[law.id] = table
        except InputError as error:
            failed[law.id] = error
    if failed and not tables:
        raise next(iter(failed.values()))
    for line in told:
        tell(line)
    for name, error in failed.items():
        tell(f"{name} is not scored: {error}")
    return [
        _measured(tables[forecast.law], laws[forecast.law], forecast, runs.name) if forecast.law in tables else None
        for forecast in forecasts
    ]


def _roles_of(law: Law, reads: Sequence[str], laws: Sequence[Law], given: Mapping[str, str]) -> dict[str, str]:
    """The roles that are set, without those that only the other laws read."""
    own = {*law.roles, *reads, f"{law.response}_se", *(("L", "L_train") if law.response == "G" else ())}
    others = {role for other in laws for role in (*other.roles, f"{other.response}_se")} - own
    return {role: column for role, column in given.items() if role not in others}


def _measured(table: pd.DataFrame, law: Law, forecast: RegisteredForecast, source: str) -> MeasuredPoint | None:
    rows = table.loc[_at(table, law, forecast, source)]
    if rows.empty:
        return None
    values, error = rows[law.response].to_numpy(float), f"{law.response}_se"
    errors = numbers_or_nan(rows, error) if error in rows.columns else np.full(len(rows), np.nan)
    known = [float(np.sqrt(np.sum(errors**2))) / len(rows)] if np.all(errors >= 0) else []
    if len(rows) > 1:
        known.append(float(np.std(values, ddof=1)) / len(rows) ** 0.5)
    numbers = tuple(int(number) for number in rows["file_row"])
    return MeasuredPoint(numbers, float(values.mean()), max(known, default=None), _first_end(rows))


def _at(table: pd.DataFrame, law: Law, forecast: RegisteredForecast, source: str) -> Bool[np.ndarray, "rows"]:
    """Which rows are at the point of a forecast, and of its group; what the law does not read may be missing there."""
    found = np.ones(len(table), bool)
    for name, value in forecast.place.items():
        if name not in table.columns and name in TELLING and name not in law.columns:
            continue
        if name not in table.columns:
            raise InputError(source, name, f"the columns {names_of(table)}", f"the column {name} of the forecasts")
        if isinstance(value, str):
            found &= table[name].astype(str).to_numpy() == value
            continue
        numbers = table[name].to_numpy(float)
        if value > 0:
            positive = np.where(numbers > 0, numbers, np.nan)
            found &= np.abs(np.log(positive / value)) <= np.log1p(SAME_POINT)
        else:
            found &= np.abs(numbers - value) <= SAME_POINT * abs(value)
    return found


def _first_end(rows: pd.DataFrame) -> pd.Timestamp | None:
    """When the first of some runs ended, if a column says so."""
    if ENDED_COLUMN not in rows.columns:
        return None
    column = pd.Series(rows[ENDED_COLUMN])
    if pd.api.types.is_numeric_dtype(column.dtype):
        first = pd.to_datetime(column, utc=True, errors="coerce", unit="s").min()
    else:
        first = pd.to_datetime(column, utc=True, errors="coerce", format="mixed").min()
    return None if pd.isna(first) else first
