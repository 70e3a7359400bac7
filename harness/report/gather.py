"""What the page is made from: the tables of a sweep's folder, how its runs stand, and the verdict on their gaps."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from harness.fit.fitting import fit
from harness.fit.gap_law.verdict import Verdict, verdict
from harness.fit.laws.law import get_law
from harness.fit.result import FitResult
from harness.fit.table import assign_roles, roles_for_runs
from harness.fit.truth import Truth, compare
from harness.gaps.cells import details, gap_rows
from harness.record.configs import read_configs
from harness.record.lock import is_live
from harness.record.segments import read_segments
from harness.record.status import read_status, run_folder
from harness.record.table import MEASURED, runs_table, segments_table
from harness.report.axes import numbers
from sweeps.errors import InputError


@dataclass(frozen=True)
class Material:
    """Everything the page shows.

    Attributes:
        runs: the tidy table of runs, and of every run `step` of `steps`, `seconds` and `compile_seconds` so far.
        series, evals: all recorded rows.
        rows: finished runs in roles (N, D, G, G_se, ...), what the verdict is about; empty without any.
        verdict: None where nothing can be fitted; `missing` says what was lacking.
        cells: of finished twins, every estimator's gap, and of each cell what `harness.gaps.cells.details` tells.
        notes: what was left out of the fit, in sentences.
        environment: environment.json, None before the first run began or for a table.
        truth: of a simulated table, its world and the fit of that world's own law; None for a sweep.
    """

    name: str
    runs: pd.DataFrame
    series: pd.DataFrame
    evals: pd.DataFrame
    rows: pd.DataFrame
    verdict: Verdict | None
    missing: str
    cells: tuple[tuple[dict, dict], ...]
    notes: tuple[str, ...]
    environment: dict | None
    spec: str
    truth: tuple[Truth, FitResult] | None = None


def gather_table(
    source: Path, table: pd.DataFrame, truth: Truth, *, bootstrap: int = 100, nulls: bool = True
) -> Material:
    """Judge the gaps of a simulated table as those of a sweep, and fit the law that is true of it.

    Raises:
        InputError: too few rows for the law.
    """
    runs = table.assign(**{name: np.nan for name in MEASURED if name not in table})
    rows, warnings = roles_for_runs(runs)
    return Material(
        name=source.name, runs=table, series=pd.DataFrame(), evals=pd.DataFrame(), rows=rows,
        verdict=verdict(rows, bootstrap=bootstrap, nulls=nulls, source=source.name), missing="", cells=(),
        notes=tuple(warning.message for warning in warnings), environment=None, spec="",
        truth=(truth, fit_true(source, rows, truth, bootstrap=bootstrap)),
    )  # fmt: skip


def fit_true(source: Path, rows: pd.DataFrame, truth: Truth, *, bootstrap: int = 100) -> FitResult:
    """The law that is true of a simulated table, fitted to the rows in which it is, beside the true constants.

    Args:
        rows: of the table, in roles.

    Raises:
        InputError: the law cannot be fitted to that table.
    """
    rows, _ = assign_roles(rows, dict(truth.roles), where=truth.where, laws=[get_law(truth.law)], source=str(source))
    fitted = fit(truth.law, rows, bootstrap=bootstrap, sensitivity=False, source=source.name)
    return replace(fitted, truth=tuple(asdict(found) for found in compare(fitted, truth)))


def gather(out: Path, *, bootstrap: int = 100, nulls: bool = True) -> Material:
    """Read a sweep's folder and judge its gaps.

    Args:
        bootstrap: cluster bootstrap draws behind the intervals.
        nulls: whether to put simulated truths to the same rule.

    Raises:
        InputError: the folder holds no sweep.
    """
    measured = runs_table(out)
    runs = measured.join(_progress(out))
    rows, found, missing, notes = pd.DataFrame(), None, "", ()
    try:
        rows, warnings = roles_for_runs(runs)
        notes = tuple(warning.message for warning in warnings)
        found = verdict(rows, bootstrap=bootstrap, nulls=nulls, source=out.name)
    except InputError as error:
        missing = f"{error.field}: {error.value} found, {error.expected} needed"
    environment = out / "environment.json"
    return Material(
        name=out.resolve().name,
        runs=runs,
        series=segments_table(out, "series"),
        evals=segments_table(out, "evals"),
        rows=rows,
        verdict=found,
        missing=missing,
        cells=_twins(out, measured),
        notes=notes,
        environment=json.loads(environment.read_text()) if environment.is_file() else None,
        spec=(out / "sweep.yaml").read_text(),
    )


def _twins(out: Path, table: pd.DataFrame) -> tuple[tuple[dict, dict], ...]:
    if table.empty or "a" not in set(table["half"]):
        return ()
    return tuple((row, details(cell)) for row, cell in gap_rows(out, table) if row["gap_twin"] is not None)


def _progress(out: Path) -> pd.DataFrame:
    live, found = is_live(out), []
    for config in read_configs(out):
        folder = run_folder(out, config.run_id)
        timing = read_segments(folder, "timing")
        spent = {
            name: float(numbers(timing, name).sum()) if len(timing) else 0.0
            for name in ("wall_seconds", "compile_seconds")
        }
        found.append(
            {
                "step": read_status(folder, config.steps, live=live).step,
                "steps": config.steps,
                "seconds": spent["wall_seconds"],
                "compile_seconds": spent["compile_seconds"],
            }
        )
    return pd.DataFrame(found)
