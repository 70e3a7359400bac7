"""Step 1 of a report: read a sweep's folder, a simulated table or anyone's table into typed records."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.fit.known_truth import Truth
from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.gaps.cells import details, gap_rows
from harness.record.lock import is_live
from harness.record.segments import read_segments
from harness.record.status import read_status, run_folder
from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table, segments_table
from harness.report.curves import LossCurves, loss_curves
from harness.report.figure_axes import numbers
from harness.source import RunSource, read_runs


@dataclass(frozen=True)
class Records:
    """The content of a sweep's folder or a simulated table, read but not judged.

    Attributes:
        runs: the tidy table of all runs, whatever their status; for a sweep also `step`, and the `seconds` and
            `compile_seconds` that training and compiling have taken so far.
        curves: the losses of every run over training; empty if none was recorded.
        cells: for each cell of finished twins, its row of gaps, and its details (`harness.gaps.cells.details`).
        environment: environment.json, None before the first run began or for a table.
        spec: the text of sweep.yaml; empty for a table.
        truth: the world of a simulated table; None for a sweep.
    """

    name: str
    runs: pd.DataFrame
    curves: tuple[LossCurves, ...]
    cells: tuple[tuple[dict, dict], ...]
    environment: dict | None
    spec: str
    truth: Truth | None = None


def read_sweep(out: Path) -> Records:
    """Read a sweep's folder.

    Raises:
        InputError: the folder holds no sweep.
    """
    measured = runs_table(out)
    runs = measured.join(_progress(out))
    environment = out / "environment.json"
    return Records(
        name=out.resolve().name,
        runs=runs,
        curves=loss_curves(runs, segments_table(out, "series"), segments_table(out, "evals")),
        cells=_twins(out, measured),
        environment=json.loads(environment.read_text()) if environment.is_file() else None,
        spec=(out / "sweep.yaml").read_text(),
    )


@dataclass(frozen=True)
class TableRecords:
    """Anyone's runs, read for a law but not fitted.

    Attributes:
        name: the path of the table or folder, or `table` for one in memory.
        law: the law that the runs were read for.
        runs: the rows in roles (`harness.source.read_runs`).
        told: what the reading of the columns and rows came upon, in sentences.
        reading: how the columns were read: the arguments of `read_runs` that were given.
    """

    name: str
    law: Law
    runs: pd.DataFrame
    told: tuple[str, ...]
    reading: Mapping[str, Any]


def read_any_table(source: RunSource, law: str, **reading: Any) -> TableRecords:
    """Read anyone's runs for a law.

    Args:
        reading: the keyword arguments of `harness.source.read_runs`.

    Raises:
        InputError: those of `read_runs`.
    """
    told: list[str] = []
    name = "table" if isinstance(source, pd.DataFrame) else str(source)
    runs = read_runs(source, law, **reading, tell=told.append)
    given = {option: value for option, value in reading.items() if value}
    return TableRecords(
        name, get_law(law, runs.columns), runs, tuple(line.removeprefix(f"{name}: ") for line in told), given
    )


def records_of_table(name: str, table: pd.DataFrame, truth: Truth) -> Records:
    """The records of a simulated table of runs: it has no curves, no twins and no machine."""
    return Records(name, table, curves=(), cells=(), environment=None, spec="", truth=truth)


def _twins(out: Path, table: pd.DataFrame) -> tuple[tuple[dict, dict], ...]:
    if table.empty or "a" not in set(table["half"]):
        return ()
    return tuple((row, details(cell)) for row, cell in gap_rows(out, table) if row["gap_twin"] is not None)


def _progress(out: Path) -> pd.DataFrame:
    """How far every run has come, and the seconds that its training and compiling have taken."""
    live, rows = is_live(out), []
    for config in read_configs(out):
        folder = run_folder(out, config.run_id)
        timing = read_segments(folder, "timing")
        spent = [
            float(numbers(timing, name).sum()) if len(timing) else 0.0 for name in ("wall_seconds", "compile_seconds")
        ]
        rows.append((read_status(folder, config.steps, live=live).step, *spent))
    return pd.DataFrame(rows, columns=["step", "seconds", "compile_seconds"])
