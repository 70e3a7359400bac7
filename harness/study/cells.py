"""The runs and the cells of a study: the table that is committed, and the blocks that its claims are judged on."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from harness.gaps.cells import cell_key
from harness.gaps.document_losses import DocumentLosses
from harness.gaps.ensembles import ensemble_columns
from harness.gaps.estimators import NO_GAP, influences
from harness.gaps.one_run import finite_or_none, gap_columns
from harness.gaps.pilot_errors import Expected
from harness.gaps.replicates import Draws, cell_gaps, prior_of
from harness.gaps.roles import RUN_ROLES, roles_for_runs
from harness.gaps.shared_documents import SHARED, losses_of_gaps
from harness.gaps.twins import gap_sides, midway_gaps
from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table
from harness.study.loss_runs import curves_of_runs
from models.count import count
from sweeps.config import RunConfig
from sweeps.errors import InputError
from sweeps.grid import Sweep, load

# The columns that a study's table has beside those of a table of runs: the block of the run; the groups of documents
# that its gap was measured on with the part of its error that each brings; and the twin gaps midway through the first
# epoch, on what was read by then and on what was not (`harness.gaps.twins.midway_gaps`).
BLOCK, GROUPS, PARTS = "block", "document_groups", "document_parts"
MIDWAY = ("gap_midway", "gap_midway_se", "gap_unread", "gap_unread_se")


def study_runs(out: Path, interventions: Iterable[str] = ()) -> pd.DataFrame:
    """The table of runs of a study's sweep, with `block`, `document_groups`, `document_parts` and the gaps midway.

    Runs that the folder holds of an earlier version of the sweep are not in it.

    A pair of twins has its documents and gaps midway in the row of half `a`; other rows have empty lists. A sweep
    without twins has `curve_tokens` and `curve_loss` instead (`harness.study.loss_runs`), and `members` and
    `ensemble_loss` where seeds kept the losses of their tokens (`harness.gaps.ensembles.ensemble_columns`).

    Args:
        interventions: the names of those that runs of other blocks use, whose columns these rows have, too.

    Raises:
        InputError: a folder that holds no sweep, or whose record is damaged.
    """
    of_cell = {cell_key(cell.config): cell.block for cell in load(out / "sweep.yaml").cells if cell.config}
    runs = [run for run in read_configs(out) if cell_key(run) in of_cell]
    blocks = {run.run_id: of_cell[cell_key(run)] for run in runs}
    table = runs_table(out, interventions)
    table = table.loc[table["run_id"].isin(blocks)].reset_index(drop=True)
    if not any(run.data.half for run in runs):
        table.insert(1, BLOCK, [blocks[run_id] for run_id in table["run_id"]])
        return table.assign(**curves_of_runs(out, table["run_id"].tolist()), **ensemble_columns(out, table))
    rows, _ = roles_for_runs(table, "twin")
    nothing = {GROUPS: np.zeros(0, np.int32), PARTS: np.zeros(0, np.float32), **dict.fromkeys(MIDWAY)}
    measured = {of_run[0].run_id: _of_documents(*of_run) for of_run in losses_of_gaps(rows, out)}
    table.insert(1, BLOCK, [blocks[run_id] for run_id in table["run_id"]])
    further = pd.DataFrame([measured.get(run_id, nothing) for run_id in table["run_id"]])
    return table.assign(**further.astype(dict.fromkeys(MIDWAY, float)))


def _of_documents(run: RunConfig, estimator: str, own: DocumentLosses, twin: DocumentLosses | None) -> dict:
    """What the losses of documents add to the row of a pair of twins."""
    gap = influences(*gap_sides(estimator, own, twin, run.steps))
    midway = midway_gaps(run, own, twin) if twin is not None else (NO_GAP, NO_GAP)
    numbers = finite_or_none(gap_columns("gap_midway", midway[0]) | gap_columns("gap_unread", midway[1]))
    # Half the size of what they are, and seven digits.
    return {GROUPS: gap.clusters.astype(np.int32), PARTS: gap.parts.astype(np.float32), **numbers}


def read_study_runs(file: Path) -> pd.DataFrame:
    """Read a table of `study_runs` back; InputError for a file that is none."""
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise InputError(file, "file", type(error).__name__, "the table of a study, in parquet") from None


def study_cells(runs: pd.DataFrame, units: str = "tokens") -> pd.DataFrame:
    """The cells of a study's table of runs in roles, by the twin gap, with the column `block`.

    `G` and `G_se` are the mean over the draws and its error (`harness.gaps.replicates`). `L` and `L_se` are those of
    the held-out loss, whose relative spread between draws is moderated over all cells in the same way, so that a cell
    of a single draw has an error too (None if too few cells have several draws). `gap_online` and `gap_online_se` are
    the mean of the online gaps with the error from their spread. `placebo_gap`, `placebo_se` and `placebo_degrees` are
    the twin gap between two halves of held-out text, which is 0, measured as the gap is. `converged` says whether the
    gaps of all draws had settled. If the table has the documents of its gaps, `G_shared` holds the errors that cells
    share (`harness.gaps.shared_documents`).

    Args:
        runs: what `study_runs` returns, as it is or read back from parquet.
        units: tokens, or bytes: D and U in bytes and gaps in bits per byte.

    Raises:
        InputError: a table without blocks, or without a finished pair of twins.
    """
    cells = _draws_of_cells(runs, units)
    table = _cell_table(cells)
    return table.assign(**{SHARED: _shared(cells)}) if PARTS in runs.columns else table


def _draws_of_cells(runs: pd.DataFrame, units: str) -> list[pd.DataFrame]:
    """The draws of every cell, in roles."""
    if BLOCK not in runs.columns:
        raise InputError("runs", "columns", "no block", "the column block, of a study's table")
    rows, _ = roles_for_runs(runs, "twin", units)
    return [cell for _, cell in rows.groupby([BLOCK, "cluster"], sort=False)]


def _cell_table(cells: list[pd.DataFrame]) -> pd.DataFrame:
    """The cells with their gaps, losses and placebos, without what they share."""
    found = cell_gaps([Draws(cell["G"].to_numpy(float), cell["G_se"].to_numpy(float)) for cell in cells])
    table = pd.DataFrame([_row(cell) for cell in cells])
    table = table.assign(G=[gap.gap for gap in found], G_se=[gap.se for gap in found])
    table["degrees"] = [gap.degrees for gap in found]
    table["L_se"] = _loss_errors(cells)
    placebos = cell_gaps([_placebos(cell) for cell in cells])
    for name in ("gap", "se", "degrees"):
        table[f"placebo_{name}"] = [getattr(placebo, name) for placebo in placebos]
    return table


def _row(cell: pd.DataFrame) -> dict:
    first = cell.iloc[0]
    names = (BLOCK, "architecture", "tokenizer", "domain", "schedule", "weight_decay", "width", "depth", *RUN_ROLES)
    row = {name: first[name] for name in names if name in cell.columns}
    row |= {name: first[name] for name in ("N_total", "N_active", "D_bytes", "bytes_per_token", "cluster")}
    online = cell["gap_online"].dropna().to_numpy(float)
    row |= {"draws": len(cell), "L": cell["L"].mean(), "converged": bool(cell["converged"].all())}
    row["gap_online"] = float(online.mean()) if len(online) else None
    row["gap_online_se"] = float(online.std(ddof=1) / len(online) ** 0.5) if len(online) > 1 else None
    for name in ("gap_probe", "gap_drift", "noise_scale"):
        row[name] = cell[name].mean()
    return row


def _placebos(cell: pd.DataFrame) -> Draws:
    known = cell.dropna(subset=["placebo_twin", "placebo_twin_se"])
    return Draws(known["placebo_twin"].to_numpy(float), known["placebo_twin_se"].to_numpy(float))


def _loss_errors(cells: list[pd.DataFrame]) -> list[float | None]:
    """The error of each cell's mean loss, from the spread between draws as `harness.gaps.replicates` moderates it.

    A loss has no error from within. What takes its place is the loss itself, so that all spreads are drawn towards one
    share of the loss, which the cells together say; it says nothing by itself.
    """
    draws = [Draws(losses, losses) for losses in (cell["L"].to_numpy(float) for cell in cells)]
    known = prior_of(draws).degrees > 0
    return [
        found.se if known or len(own.gaps) > 1 else None for own, found in zip(draws, cell_gaps(draws), strict=True)
    ]


def _shared(cells: list[pd.DataFrame]) -> list[tuple[float, ...]]:
    """For each cell the mean of its draws' vectors of documents, in as many numbers as there are cells."""
    places: dict[tuple[str, int], int] = {}
    entries = []
    for cell in cells:
        vector: dict[int, float] = {}
        domain, errors = str(cell["domain"].iloc[0]), cell["G_se"].to_numpy(float)
        for error, groups, parts in zip(errors, cell[GROUPS], cell[PARTS], strict=True):
            # Parts are of gaps in nats per token; in bits per byte all parts of a gap change by one factor.
            size = float(np.sqrt(np.sum(np.square(parts))))
            factor = error / size / len(cell) if size else 0.0
            for group, part in zip(groups, parts, strict=True):
                place = places.setdefault((domain, int(group)), len(places))
                vector[place] = vector.get(place, 0.0) + factor * float(part)
        entries.append(vector)
    dense = np.zeros((len(cells), max(len(places), 1)))
    for row, vector in zip(dense, entries, strict=True):
        row[list(vector)] = list(vector.values())
    left, sizes, _ = np.linalg.svd(dense, full_matrices=False)
    return [*map(tuple, left * sizes)]


def blocks_of(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Block -> its cells, as `harness.fit.gap_law.claims` judges them: tokenizers in bytes, all else in tokens.

    Cells of different blocks share documents, too: their vectors `G_shared` can be multiplied with each other. The
    moderation of errors is each block's own.
    """
    of_blocks = {
        str(name): _draws_of_cells(rows, "bytes" if name == "tokenizers" else "tokens")
        for name, rows in runs.groupby(BLOCK, sort=False)
    }
    blocks = {name: _cell_table(cells) for name, cells in of_blocks.items()}
    if PARTS not in runs.columns:
        return blocks
    vectors = iter(_shared([cell for cells in of_blocks.values() for cell in cells]))
    return {name: table.assign(**{SHARED: [next(vectors) for _ in table.index]}) for name, table in blocks.items()}


def rate_factors(cells: pd.DataFrame) -> pd.Series:
    """The learning rate of each cell over the usual one of its N: rates follow the width, and N says the width."""
    rates = cells["lr"].to_numpy(float)
    return pd.Series(rates / cells.groupby("N")["lr"].transform("median").to_numpy(float), cells.index).round(2)


def design_blocks(sweeps: Iterable[Sweep], expected: Callable[[RunConfig], Expected | None]) -> dict[str, pd.DataFrame]:
    """The blocks of sweeps that have not run: their cells with the gaps and errors that a pilot expects.

    `G_se` is the error of the mean over a cell's draws, `gap_expected` the gap; the online gap is taken to be four
    times as uncertain as the twin gap, as in the pilot.
    """
    rows: dict[RunConfig, dict] = {}
    for sweep in sweeps:
        for cell in sweep.cells:
            run = cell.config
            if run is None or (key := cell_key(run)) in rows or (found := expected(run)) is None:
                continue
            error = found.error / cell.settings["draws"] ** 0.5
            measured = {"G_se": error, "gap_online_se": 4 * error, "gap_expected": found.gap}
            rows[key] = {BLOCK: cell.block, **_design_row(run), **measured}
    table = pd.DataFrame(list(rows.values()))
    return {str(name): cells.reset_index(drop=True) for name, cells in table.groupby(BLOCK, sort=False)}


def design_cells(sweep: Sweep) -> pd.DataFrame:
    """The cells of a sweep that can run, in roles, one row each: sizes in parameters and tokens, nothing measured."""
    runs = {cell_key(cell.config): cell.config for cell in sweep.cells if cell.config}
    return pd.DataFrame([_design_row(run) for run in runs.values()])


def _design_row(run: RunConfig) -> dict:
    sizes = count(run.model)
    return {
        "architecture": run.model.architecture, "tokenizer": run.data.tokenizer, "domain": run.data.domain,
        "N": sizes.nonembedding, "N_active": sizes.active, "D": run.tokens, "U": run.data.unique_tokens,
        "epochs": run.epochs, "B": run.batch_tokens,
    }  # fmt: skip
