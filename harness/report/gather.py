"""The first of a report's three acts, reading: a sweep's folder, or a simulated table, as typed records."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.fit.known_truth import Truth
from harness.gaps.cells import details, gap_rows
from harness.gaps.roles import RUN_ROLES
from harness.record.lock import is_live
from harness.record.segments import read_segments
from harness.record.status import read_status, run_folder
from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table, segments_table
from harness.report.curves import LossCurves, loss_curves
from harness.report.figure_axes import numbers


@dataclass(frozen=True)
class RunRecord:
    """One run as the page lists it.

    Attributes:
        n, d: parameters without embeddings and tokens to process, raw counts.
        row: every column of the tidy table of runs, with `step` of `steps` for a run of a sweep.
        seconds, compile_seconds: what training and compiling have taken so far; 0 for a simulated run.
    """

    run_id: str
    status: str
    architecture: str
    n: float
    d: float
    row: dict[str, Any]
    seconds: float = 0.0
    compile_seconds: float = 0.0


@dataclass(frozen=True)
class Records:
    """What stands in a sweep's folder or a simulated table, read and not judged.

    Attributes:
        runs: every run, whatever its status.
        curves: the losses of every run over training; empty if none was recorded.
        cells: of finished twins, every estimator's gap, and of each cell what `harness.gaps.cells.details` gives.
        environment: environment.json, None before the first run began or for a table.
        spec: the text of sweep.yaml; empty for a table.
        truth: the world of a simulated table; None for a sweep.
    """

    name: str
    runs: tuple[RunRecord, ...]
    curves: tuple[LossCurves, ...]
    cells: tuple[tuple[dict, dict], ...]
    environment: dict | None
    spec: str
    truth: Truth | None = None


def read_sweep(out: Path) -> tuple[Records, pd.DataFrame]:
    """Read a sweep's folder: its records, and the tidy table of its runs, which is to be judged.

    Raises:
        InputError: the folder holds no sweep.
    """
    measured = runs_table(out)
    runs = measured.join(_progress(out))
    environment = out / "environment.json"
    records = Records(
        name=out.resolve().name,
        runs=_run_records(runs),
        curves=loss_curves(runs, segments_table(out, "series"), segments_table(out, "evals")),
        cells=_twins(out, measured),
        environment=json.loads(environment.read_text()) if environment.is_file() else None,
        spec=(out / "sweep.yaml").read_text(),
    )
    return records, runs


def records_of_table(name: str, table: pd.DataFrame, truth: Truth) -> Records:
    """The records of a simulated table of runs: it has no curves, no twins and no machine."""
    return Records(name, _run_records(table), curves=(), cells=(), environment=None, spec="", truth=truth)


def _run_records(runs: pd.DataFrame) -> tuple[RunRecord, ...]:
    records = []
    for row in runs.to_dict("records"):
        spent = {name: row.pop(name) for name in ("seconds", "compile_seconds") if name in row}
        records.append(
            RunRecord(
                str(row["run_id"]), row["status"], row["architecture"], row[RUN_ROLES["N"]], row["D"],
                {str(name): value for name, value in row.items()}, **spent,
            )
        )  # fmt: skip
    return tuple(records)


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
        rows.append((read_status(folder, config.steps, live=live).step, config.steps, *spent))
    return pd.DataFrame(rows, columns=["step", "steps", "seconds", "compile_seconds"])
