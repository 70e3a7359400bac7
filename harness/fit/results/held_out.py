"""Errors of a fit on rows that it did not see: of all of them, of each run, and of each row with its interval."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.fit.results.shown import Known, TextTable, number, span


@dataclass(frozen=True)
class HeldOutRow:
    """A row that was not fitted, in the response's unit.

    Attributes:
        row: its number in the file, from 1.
        run: the name of its run, or the number of the run's first row.
        run_low, run_high: the 95 % interval for a new run; None without a bootstrap.
    """

    row: int
    run: str
    observed: float
    predicted: float
    run_low: float | None
    run_high: float | None

    @property
    def covered(self) -> bool | None:
        """Whether the interval of a new run holds what was observed; None where there is no interval."""
        if self.run_low is None or self.run_high is None:
            return None
        return self.run_low <= self.observed <= self.run_high


@dataclass(frozen=True)
class HeldOutRun:
    """The errors on the held-out rows of one run; `mean_error` is predicted minus observed, in the response's unit."""

    run: str
    rows: int
    mean_error: float
    rmse: Known
    coverage: float | None


@dataclass(frozen=True)
class HeldOutErrors:
    """Errors of predictions on rows that were not fitted, in the response's unit; None if there are no such rows.

    Attributes:
        coverage: the share of the rows that the 95 % interval for a new run holds.
        by_row: every row; of more than 10,000 rows an even selection, from which `coverage` and `by_run` are then.
        by_run: the runs that have several rows in `by_row`.
    """

    rows: int
    mean_abs_relative_error: Known
    rmse: Known
    r2: Known
    coverage: float | None = None
    by_run: tuple[HeldOutRun, ...] = ()
    by_row: tuple[HeldOutRow, ...] = ()

    def __str__(self) -> str:
        known = {"rows": self.rows, "mean_abs_relative_error": self.mean_abs_relative_error, "rmse": self.rmse,
                 "r2": self.r2, "coverage of the 95 % interval for a new run": self.coverage}  # fmt: skip
        return ", ".join(f"{name} {number(value)}" for name, value in known.items())

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "HeldOutErrors":
        """The inverse of `asdict`; TypeError if the data are not such errors."""
        runs = tuple(HeldOutRun(**run) for run in data.get("by_run", ()))
        rows = tuple(HeldOutRow(**row) for row in data.get("by_row", ()))
        return HeldOutErrors(**{**data, "by_run": runs, "by_row": rows})

    def listed(self) -> list[TextTable]:
        """The held-out runs and rows, each with its error."""
        runs = [(e.run, str(e.rows), *map(number, (e.mean_error, e.rmse, e.coverage))) for e in self.by_run]
        rows = [
            (str(e.row), e.run, number(e.observed), number(e.predicted), number(e.predicted - e.observed),
             "" if e.covered is None else span(e.run_low, e.run_high), {True: "yes", False: "no", None: ""}[e.covered])
            for e in self.by_row
        ]  # fmt: skip
        return [
            TextTable("held-out runs", ("run", "rows", "mean error", "rmse", "coverage"), runs, {"run"}),
            TextTable(
                "held-out rows",
                ("row", "run", "observed", "predicted", "error", "95 % interval of a new run", "covered"),
                rows,
                {"run", "95 % interval of a new run", "covered"},
            ),
        ]
