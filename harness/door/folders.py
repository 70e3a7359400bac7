"""Planning, training and measuring sweeps from Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from harness.files import default_cache, open_folder
from harness.fit.results.shown import Showable, Shown, TextTable, spans_table
from harness.gaps.cells import cell_of, details, gap_rows
from harness.launch.planning import plan_sweep
from harness.launch.sweep import run_sweep
from harness.record.columns import ESTIMATORS
from harness.record.table import runs_table
from harness.train.session import Session
from sweeps.plan import Plan

if TYPE_CHECKING:
    import plotly.graph_objects as go


def plan_runs(sweep: str | Path, *, cache: str | Path | None = None, calibrate: bool = True) -> Plan:
    """Plan a sweep for this machine: its cells and packs, what it costs, and what cannot run and why.

    Args:
        sweep: a YAML file, or the name of a preset.
        cache: folder of prepared text and measurements; by default the user's.
        calibrate: measure this machine's speed first (once, under a minute); otherwise assume two typical cores.

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
    retry: Sequence[str] = (),
    cache: str | Path | None = None,
) -> pd.DataFrame:
    """Train the unfinished runs of a sweep, and return the table of its runs. Interrupted runs go on.

    Args:
        sweep: a YAML file, or the name of a preset.
        out: the sweep's folder or its URL, new or existing.
        workers: processes, each on its share of the cores; by default the number that calibration found fastest.
        max_minutes: after this many minutes save a checkpoint and stop.
        fail_fast: stop at the first run that fails or diverges.
        retry: states (failed, diverged, lost) whose runs are trained again.
        cache: folder of prepared text and compiled programs; by default the user's.

    Raises:
        InputError: a bad spec, or a folder that cannot be used.
    """
    session = Session(
        open_folder(str(out)), default_cache() if cache is None else Path(cache), workers=workers,
        max_minutes=max_minutes, fail_fast=fail_fast, retry=tuple(retry),
    )  # fmt: skip
    run_sweep(str(sweep), session)
    return runs_table(session.out)


@dataclass(frozen=True)
class SweepGaps(Showable):
    """The gaps of a sweep's cells.

    Attributes:
        cells: a row for each cell with the columns of `isogap gaps --json` (`harness.gaps.cells.gap_rows`).
    """

    cells: tuple[dict[str, Any], ...]

    @property
    def table(self) -> pd.DataFrame:
        """A row for each cell."""
        return pd.DataFrame(self.cells)

    def shown(self) -> list[TextTable]:
        """Sizes, and every estimator with its standard error."""
        columns = ("domain", "tokenizer", "N_nonembedding", "D", "epochs", *(f"gap_{name}" for name in ESTIMATORS))
        table = self.table.reindex(columns=["run_id", *columns, *(f"gap_{name}_se" for name in ESTIMATORS)])
        return [spans_table("gaps in nats per token, with standard errors", table)]

    def figure(self) -> "go.Figure":
        """Draw the estimators of every cell side by side, with 95 % intervals."""
        from harness.report.measured import side_by_side

        return side_by_side(self.cells)


@dataclass(frozen=True)
class RunGaps(Showable):
    """The gap of one run in detail.

    Attributes:
        recency: a row per age of the seen text: how many tokens were read since a window was last seen.
        trajectory: a row for each evaluation.
        placebos: how many of 20 placebos of each estimator lie beyond 1.96 standard errors.
    """

    run_id: str
    recency: list[dict[str, Any]]
    trajectory: list[dict[str, Any]]
    placebos: dict[str, int]

    def shown(self) -> list[Shown]:
        """The gap by recency and over the evaluations, and the false alarms of its placebos."""
        alarms = ", ".join(f"{name} {count}" for name, count in self.placebos.items())
        tables = [spans_table(name, pd.DataFrame(getattr(self, name))) for name in ("recency", "trajectory")]
        return [self.run_id, *tables, f"of 20 placebos beyond 1.96 standard errors: {alarms}"]


@overload
def measure_gaps(out: str | Path, run: None = None) -> SweepGaps: ...
@overload
def measure_gaps(out: str | Path, run: str) -> RunGaps: ...
def measure_gaps(out: str | Path, run: str | None = None) -> SweepGaps | RunGaps:
    """Measure every cell's gap by every estimator, with errors and placebos; or one run's by recency and over time.

    Args:
        out: a sweep's folder or its URL.
        run: the id of one run.

    Raises:
        InputError: no sweep, or no such run.
    """
    folder = open_folder(str(out))
    if run is not None:
        return RunGaps(**details(cell_of(folder, run)))
    return SweepGaps(tuple(row for row, _ in gap_rows(folder, runs_table(folder))))
