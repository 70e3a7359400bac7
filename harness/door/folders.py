"""Planning, training, measuring and reporting sweeps from Python."""

from pathlib import Path
from typing import Any

import pandas as pd

from harness.files import default_cache, open_folder
from harness.gaps.cells import cell_of, details, gap_rows
from harness.launch.planning import plan_sweep
from harness.launch.sweep import run_sweep
from harness.record.table import runs_table
from harness.report.write import write_report
from harness.train.session import Session
from sweeps.plan import Plan


def plan_runs(sweep: str | Path, *, cache: str | Path | None = None, calibrate: bool = True) -> Plan:
    """Plan a sweep for this machine: its cells and packs, what it costs, and what cannot run and why.

    Args:
        sweep: a YAML file, or the name of a preset.
        cache: folder of prepared text and measurements; by default the user's.
        calibrate: measure this machine first (some minutes, once); otherwise two typical cores are assumed.

    Raises:
        InputError: a bad spec.
    """
    return plan_sweep(str(sweep), None if cache is None else Path(cache), calibrate)


def train_runs(
    sweep: str | Path,
    out: str | Path,
    *,
    workers: int | None = None,
    max_minutes: float | None = None,
    fail_fast: bool = False,
    retry_failed: bool = False,
    cache: str | Path | None = None,
) -> pd.DataFrame:
    """Train what has not ended yet of a sweep, and return the table of its runs. Interrupted runs go on.

    Args:
        sweep: a YAML file, or the name of a preset.
        out: the sweep's folder or its URL, new or begun.
        workers: processes, each on its share of the cores; by default as measured.
        max_minutes: stop after a checkpoint when this time is over.
        fail_fast: stop at the first run that fails or diverges.
        retry_failed: run failed runs again.
        cache: folder of prepared text and compiled programs; by default the user's.

    Raises:
        InputError: a bad spec, or a folder that cannot be used.
    """
    session = Session(
        open_folder(str(out)), default_cache() if cache is None else Path(cache), workers=workers,
        max_minutes=max_minutes, fail_fast=fail_fast, retry_failed=retry_failed,
    )  # fmt: skip
    run_sweep(str(sweep), session)
    return runs_table(session.out)


def measure_gaps(out: str | Path, run: str | None = None) -> pd.DataFrame | dict[str, Any]:
    """Every estimator of every cell's gap, with errors and placebos; of one run, by recency and over time.

    Args:
        out: a sweep's folder or its URL.
        run: the id of one run.

    Raises:
        InputError: no sweep, or no such run.
    """
    folder = open_folder(str(out))
    if run is not None:
        return details(cell_of(folder, run))
    return pd.DataFrame([row for row, _ in gap_rows(folder, runs_table(folder))])


def write_report_page(source: str | Path, to: str | Path | None = None) -> Path:
    """Write one self-contained page of a sweep's folder or a simulated table, and return its path.

    Raises:
        InputError: a folder that holds no sweep, or a file that is no simulated table.
    """
    return write_report(open_folder(str(source)), None if to is None else Path(to))
