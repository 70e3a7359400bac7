"""The forecasts of a study: written down before its largest runs are trained, and scored when they have ended."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from harness.fit.fitting import fit
from harness.fit.laws.registry import get_law
from harness.fit.results.result import FitResult
from harness.forecasts.register import forecasts_of
from harness.forecasts.registry_file import Registered, append_forecasts, read_forecasts
from harness.forecasts.score import ForecastScores, score_lines
from harness.source import open_runs
from harness.study.cells import BLOCK, PARTS, design_cells, study_cells
from harness.study.studies import Study
from sweeps.errors import InputError
from sweeps.grid import load

# The file beside a study's table of runs.
FORECASTS = "forecasts.jsonl"
# The block of the runs that are forecast, in every sweep that a study forecasts.
FORECAST_BLOCK = "forecast"
# The blocks of the gap law's study whose cells share one recipe and read every token once.
READ_ONCE = ("once", FORECAST_BLOCK, "once_longer")


def register(study: Study, cells: pd.DataFrame, file: Path, *, tell: Callable[[str], object] = print) -> Registered:
    """Fit the laws of a study to the cells that it says, and register what they forecast of the sweep that it says.

    Every law of the gap and of the held-out loss forecasts every cell of the sweep. A law that has forecasts in the
    file already is not fitted again, even if there are other cells now: once the largest runs have begun, a new
    forecast would come too late.

    Args:
        cells: what `harness.study.cells.study_cells` returns, of all blocks or of the one that is fitted.
        file: the file of forecasts, which is begun if it does not exist.
        tell: called with a line about each law that cannot be fitted or cannot predict, with the reason.

    Returns:
        what was added; all forecasts that the file had before count as there already.

    Raises:
        InputError: a study without forecasts, cells without the block, no law that can forecast, or a file that was
            changed.
    """
    declared = study.forecast
    if declared is None:
        raise InputError(study.name, "forecast", None, "a study that declares forecasts")
    rows = cells.loc[cells[BLOCK] == declared.fitted_to].reset_index(drop=True)
    if rows.empty:
        raise InputError(study.name, "forecast.fitted_to", declared.fitted_to, "a block with finished cells")
    points = design_cells(load(declared.sweep))
    before = read_forecasts(file) if file.is_file() else ()
    known = {forecast.law for forecast in before}
    forecasts, reasons = [*before], []
    for law in (*declared.gap, *declared.loss):
        if get_law(law).id in known:  # the id, since a law can be written in more than one way
            continue
        try:
            forecasts += forecasts_of(_fitted(law, rows), points, source=declared.sweep)
        except InputError as error:
            reasons.append(f"no forecast by {law}: {error}")
            tell(reasons[-1])
    if not forecasts:
        raise InputError(study.name, "forecast", "; ".join(reasons), "at least one law that can forecast")
    return append_forecasts(file, forecasts)


def _fitted(law: str, rows: pd.DataFrame) -> FitResult:
    return fit(law, rows, bootstrap=0, sensitivity=False, source="cells")


def score(file: Path, runs: pd.DataFrame, *, tell: Callable[[str], object] = print) -> ForecastScores | None:
    """Score the forecasts of a study on its table of runs; None while no forecast cell has finished.

    The laws are fitted to means over many draws, and most of the largest cells have a single one. The errors of what is
    measured (`study_cells`) therefore come from the spread between draws in all cells, and widen the intervals.

    Args:
        runs: what `harness.study.cells.study_runs` returns, of all sweeps.
        tell: called with a line about each law that cannot be scored.

    Raises:
        InputError: no file, or one that was changed.
    """
    forecasts = read_forecasts(file)
    done = (runs[BLOCK] == FORECAST_BLOCK) & (runs["status"] == "done") & runs["gap_twin"].notna()
    if not np.any(done):
        return None
    # Which documents gaps share does not matter here, and takes long to work out for all blocks.
    cells = study_cells(runs.drop(columns=[PARTS], errors="ignore"))
    measured = cells.loc[cells[BLOCK] == FORECAST_BLOCK].reset_index(drop=True)
    return score_lines(forecasts, open_runs(measured), tell=tell)
