"""Write the predictions of a fit down as forecasts, before the runs that will show whether they are right."""

import importlib.metadata
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from harness.fit.forecast import estimates, predict
from harness.fit.groups import points_of_groups
from harness.fit.laws.registry import get_law
from harness.fit.problem.columns import column_of, numbers_or_nan, vector_columns
from harness.fit.results.result import FitResult
from harness.forecasts.registry_file import TELLING, Registered, RegisteredForecast, append_forecasts
from harness.record.sweep_folder import git_commit
from sweeps.errors import InputError


def register_fits(
    file: Path, fits: Mapping[str, FitResult], points: pd.DataFrame, *, by: str | None = None, source: str = "points"
) -> Registered:
    """Predict the response of fits at points, and add the predictions to a file of forecasts.

    Args:
        fits: the fit of each group; one fit, as "", if there are no groups.
        points: the law's columns by role, raw counts; and the column `by` if each point is of one group.
        by: the column that names the groups.

    Raises:
        InputError: a fit without the hash of its rows, an unusable point, a prediction that is not finite, or a file
            that is damaged; nothing is added then.
    """
    forecasts = []
    for group, own in points_of_groups(by, fits, points, source)[0].items():
        forecasts += forecasts_of(fits[group], own, by=by, group=None if by is None else group, source=source)
    return append_forecasts(file, forecasts)


def forecasts_of(
    result: FitResult, points: pd.DataFrame, *, by: str | None = None, group: str | None = None, source: str = "points"
) -> list[RegisteredForecast]:
    """The predictions of a fit at points as forecasts, with the time, the version, and what they were made from.

    Raises:
        InputError: as `register_fits`, but for the file.
    """
    if not result.rows_sha256:
        expected = "the hash of the fitted rows, which fits made by this version have: fit again"
        raise InputError(result.source, "rows_sha256", None, expected)
    table = predict(result, points, source=source)
    law = get_law(result.law)
    read = [*law.columns, *(column for role in law.vectors for column in vector_columns(points, role).values())]
    numbers = {name: column_of(points, name, source, signed=True) for name in read}
    beside = [name for name in TELLING if name in points.columns and name not in read]
    numbers |= {name: numbers_or_nan(points, name) for name in beside}
    shared: dict[str, Any] = {
        **made_now(),
        "law": result.law,
        "formula": result.formula,
        "constants": {name: _finite(value) for name, value in estimates(result).items()},
        "response": law.response,
        "by": by,
        "group": group,
        "rows": result.rows,
        "rows_sha256": result.rows_sha256,
    }
    found = []
    for place, row in enumerate(table.to_dict("records")):
        point: dict[str, float | str] = {
            name: float(values[place]) for name, values in numbers.items() if math.isfinite(values[place])
        }
        point |= {name: str(row[name]) for name in law.labels}
        if not math.isfinite(row["prediction"]):
            raise InputError(source, "prediction", row["prediction"], f"points where {result.formula} is finite")
        limits: dict[str, Any] = {name: _finite(row[name]) for name in ("low", "high", "run_low", "run_high")}
        found.append(RegisteredForecast(**shared, point=point, prediction=row["prediction"], **limits))
    return found


def made_now() -> dict[str, Any]:
    """When a forecast is made, and by which version: the first fields of `RegisteredForecast`."""
    version = importlib.metadata.version("isogap")
    return {"registered": datetime.now(UTC).replace(microsecond=0), "isogap": version, "git_commit": git_commit()}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
