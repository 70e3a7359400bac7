"""How many draws each cell of a sweep needs, by the spread of those that have ended."""

import functools
from collections import defaultdict
from pathlib import Path

from harness.fit.gap_law.constants import predict_gap
from harness.gaps.cells import cell_key, draws_of, read_cells
from harness.gaps.estimators import DETECTABLE
from harness.gaps.replicates import CellGap, Draws, cell_gaps, draws_for
from harness.record.status import ENDED
from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table
from models.count import count
from sweeps.config import RunConfig
from sweeps.grid import DrawsOf, first_draws, load
from sweeps.spec import WantedDraws


def draws_wanted(out: Path) -> DrawsOf:
    """A function that says how many draws a cell needs, from what the sweep's folder holds.

    A new cell gets its first draws. A cell whose runs have all ended gets as many as make the error of its gap as small
    as its spec wants. The gap is the twin gap where there are twins, and the probe gap elsewhere. The folder is read
    when a cell first asks.
    """
    if not (out / "manifest.json").is_file():
        return first_draws
    measured = functools.cache(lambda: _measured(out))

    def of(run: RunConfig, wanted: WantedDraws) -> int:
        standing, unfinished, found = measured()
        key = cell_key(run)
        if key in unfinished or key not in found:
            return max(standing[key], first_draws(run, wanted))
        draws, gap = found[key]
        more = draws_for(draws, gap, _wanted_error(run, wanted), wanted.most) - len(draws.gaps)
        return min(wanted.most, standing[key] + more)

    return of


def errors_not_reached(sweep: str, out: Path) -> list[str]:
    """A sentence for each cell of a sweep that has all the draws it may have, and a larger error than is wanted.

    Args:
        sweep: a YAML file, or the name of a preset.
        out: the folder in which it has been run.
    """
    measured, told = functools.cache(lambda: _measured(out)), dict[RunConfig, str]()

    def of(run: RunConfig, wanted: WantedDraws) -> int:
        standing, _, found = measured()
        key, se = cell_key(run), _wanted_error(run, wanted)
        if key in found and standing[key] >= wanted.most and found[key][1].se > se:
            told[key] = (
                f"N {count(run.model).nonembedding:,} D {run.tokens:,}: after {standing[key]} draws, the most allowed,"
                f" the standard error of the gap is {found[key][1].se:.2g}; {se:.2g} is wanted"
            )
        return max(1, standing[key])

    load(sweep, of)
    return list(told.values())


def _wanted_error(run: RunConfig, wanted: WantedDraws) -> float:
    """The standard error that is wanted of the gap of a run's cell, nats per token."""
    return wanted.se or float(predict_gap(N=count(run.model).nonembedding, D=run.tokens)) / DETECTABLE


def _measured(out: Path) -> tuple[dict[RunConfig, int], set[RunConfig], dict[RunConfig, tuple[Draws, CellGap]]]:
    """By cell: how many draws there are; whether some have not ended; the gaps of those with one, and of the cell."""
    table = runs_table(out)
    by_id = {row["run_id"]: row for row in table.to_dict("records")}
    standing: dict[RunConfig, int] = defaultdict(int)
    unfinished: set[RunConfig] = set()
    for run in read_configs(out):
        key = cell_key(run)
        standing[key] = max(standing[key], run.data.draw + 1)
        if by_id[run.run_id]["status"] not in ENDED:
            unfinished.add(key)
    cells = read_cells(out, table)
    keys = [cell_key(cell.runs[0]) for cell in cells]
    draws = [
        draws_of("probe" if key.data.half is None else "twin", cell, by_id)
        for key, cell in zip(keys, cells, strict=True)
    ]
    found = {key: (own, gap) for key, own, gap in zip(keys, draws, cell_gaps(draws), strict=True)}
    return standing, unfinished, found
