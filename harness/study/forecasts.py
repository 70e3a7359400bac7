"""The forecasts of a study: written down before the runs that they are of are trained, and scored when these ended."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from harness.fit.fitting import fit
from harness.fit.laws.registry import get_law
from harness.fit.results.result import FitResult
from harness.forecasts.register import forecasts_of
from harness.forecasts.registry_file import Registered, append_forecasts, read_forecasts
from harness.forecasts.score import ForecastScores, score_lines
from harness.source import open_runs
from harness.study.cells import BLOCK, PARTS, design_cells, study_cells
from harness.study.paper import Paper
from harness.study.studies import Forecast
from sweeps.errors import InputError
from sweeps.grid import load

# The blocks of the gap law's study whose cells share one recipe and read every token once; those that were forecast.
READ_ONCE = ("once", "forecast", "once_longer", "confirm")
FORECAST_BLOCKS = ("forecast", "confirm")


def register(
    declared: Forecast, cells: pd.DataFrame, folder: Path, *, tell: Callable[[str], object] = print
) -> Registered:
    """Fit the laws that a study declares to the cells that it says, and register what they forecast of its sweep.

    Every law of the gap and of the held-out loss forecasts every cell of the sweep. A law that has forecasts in the
    file already is not fitted again, even if there are other cells now: once the runs have begun, a new forecast would
    come too late.

    Args:
        declared: what is forecast, and by which laws.
        cells: what `harness.study.cells.study_cells` returns, of all blocks or of those that are fitted.
        folder: the folder of the file of forecasts, which is begun if it does not exist.
        tell: called with a line about each law that cannot be fitted or cannot predict, with the reason.

    Returns:
        what was added; all forecasts that the file had before count as there already.

    Raises:
        InputError: cells without one of the blocks, no law that can forecast, or a file that was changed.
    """
    for block in declared.fitted_to:
        if block not in set(cells[BLOCK]):
            raise InputError(declared.sweep, "forecasts.fitted_to", block, "a block with finished cells")
    rows = cells.loc[cells[BLOCK].isin(declared.fitted_to)].reset_index(drop=True)
    points, file = design_cells(load(declared.sweep)), folder / declared.file
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
        raise InputError(declared.sweep, "forecasts", "; ".join(reasons), "at least one law that can forecast")
    return append_forecasts(file, forecasts)


def register_of_paper(paper: Paper, declared: Forecast, runs: pd.DataFrame, folder: Path) -> Registered:
    """Write down what a study of losses forecasts; a file that has forecasts already gets no others.

    Args:
        runs: those of the blocks that are fitted.
        folder: the folder of the file of forecasts.

    Raises:
        InputError: a study that forecasts nothing, runs that are too few, or a file that was changed.
    """
    file = folder / declared.file
    if file.is_file() and (before := read_forecasts(file)):
        return append_forecasts(file, before)
    if paper.forecast is None:
        raise InputError(declared.sweep, "forecasts", "nothing that is forecast", "a study whose judge forecasts")
    return append_forecasts(file, paper.forecast(runs))


def _fitted(law: str, rows: pd.DataFrame) -> FitResult:
    return fit(law, rows, bootstrap=0, sensitivity=False, source="cells")


def score(
    declared: Iterable[Forecast], runs: pd.DataFrame, folder: Path, *, tell: Callable[[str], object] = print
) -> dict[str, ForecastScores]:
    """Score the forecasts of a study on its table of runs: the stem of a file of forecasts -> the scores of its lines.

    Files that do not exist are left out, and those of which no cell has finished.

    The laws are fitted to means over many draws, and most of the cells that are forecast have few. The errors of what
    is measured (`study_cells`) therefore come from the spread between draws in all cells, and widen the intervals.

    Args:
        runs: what `harness.study.cells.study_runs` returns, of all sweeps.
        folder: the folder of the files.
        tell: called with a line about each law that cannot be scored.

    Raises:
        InputError: a file that was changed.
    """
    done = set(runs.loc[(runs["status"] == "done") & runs["gap_twin"].notna(), BLOCK])
    blocks_of_files = {
        file: blocks
        for each in declared
        if (file := folder / each.file).is_file() and (blocks := {cell.block for cell in load(each.sweep).cells}) & done
    }
    if not blocks_of_files:
        return {}
    # Which documents gaps share does not matter here, and takes long to work out for all blocks.
    cells = study_cells(runs.drop(columns=[PARTS], errors="ignore"))
    found = {}
    for file, blocks in blocks_of_files.items():
        measured = cells.loc[cells[BLOCK].isin(list(blocks))].reset_index(drop=True)
        found[file.stem] = score_lines(read_forecasts(file), open_runs(measured), tell=tell)
    return found
