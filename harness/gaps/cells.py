"""The work of `isogap gaps`: every estimator of every cell with its error, and the details of one run."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from harness.fit.gap_law.constants import predict_gap
from harness.gaps.document_losses import DocumentLosses, read_documents
from harness.gaps.estimators import DETECTABLE, NO_GAP, Gap, Side, contrast, tokens_needed
from harness.gaps.one_run import finite_or_none, gap_columns
from harness.gaps.replicates import CellGap, Draws, as_gap, cell_gaps
from harness.gaps.twins import gap_sides, placebo_gaps, recency, trajectory
from harness.record.columns import ESTIMATORS, MEASURED, domain_columns
from harness.record.status import run_folder
from harness.record.sweep_folder import read_configs
from harness.record.table import measured_by, runs_table
from models.intervention import intervention_names
from sweeps.config import RunConfig
from sweeps.errors import InputError

# The number of random cuts of the held-out text into two halves.
PLACEBOS = 20
# The gaps of the table of runs that a cell averages, by the ends of their columns' names.
_GAPS = (*ESTIMATORS, *(f"{name}_bpb" for name in ESTIMATORS[1:]))


@dataclass(frozen=True)
class FinishedCell:
    """Finished runs that differ only in their draw and seed, and their twins.

    Attributes:
        out: the sweep's folder.
        runs: one run per draw and seed; of a pair of twins the one on half a, or the one on half b if the other has not
            ended.
        ended: the ids of all runs of the folder that are done.
    """

    out: Path
    runs: tuple[RunConfig, ...]
    ended: Set[str]

    def of(self, run: RunConfig) -> tuple[DocumentLosses, DocumentLosses | None]:
        """The losses of documents of a run, and those of its twin if it has ended too."""
        own = read_documents(run_folder(self.out, run.run_id))
        if run.data.half is None or (twin := run.twin().run_id) not in self.ended:
            return own, None
        return own, read_documents(run_folder(self.out, twin))

    @property
    def draws(self) -> list[tuple[RunConfig, ...]]:
        """The runs of each draw."""
        by_draw: dict[int, list[RunConfig]] = defaultdict(list)
        for run in self.runs:
            by_draw[run.data.draw].append(run)
        return [tuple(by_draw[draw]) for draw in sorted(by_draw)]


def cell_key(run: RunConfig, others: Mapping[str, RunConfig] = MappingProxyType({})) -> RunConfig:
    """What the runs of a cell share: all but the draw, the seed and the half of the documents.

    Args:
        others: the runs of the folder by their ids: runs that start from runs of one cell may be of one cell.
    """
    half = None if run.data.half is None else "a"
    start = run.start_from
    if start is not None and start in others:
        start = cell_key(others[start], others).run_id
    data = run.data.model_copy(update={"draw": 0, "half": half})
    return run.model_copy(update={"seed": 0, "data": data, "start_from": start})


def read_cells(out: Path, table: pd.DataFrame) -> list[FinishedCell]:
    """The cells of a folder that have finished runs, in the order of the sweep; `table` holds its runs."""
    done = frozenset(table.loc[table["status"] == "done", "run_id"])
    cells: dict[RunConfig, list[RunConfig]] = defaultdict(list)
    others = {run.run_id: run for run in read_configs(out)}
    for run in others.values():
        if run.run_id in done and (run.data.half != "b" or run.twin().run_id not in done):
            cells[cell_key(run, others)].append(run)
    return [FinishedCell(out, tuple(runs), done) for runs in cells.values()]


def gap_rows(out: Path, table: pd.DataFrame) -> list[tuple[dict[str, Any], FinishedCell]]:
    """One row for each cell of a folder that has finished runs, and the cell; `table` holds the folder's runs.

    A row holds the cell's sizes; every estimator's gap averaged over draws, with a standard error that covers
    documents, seeds and draws (`harness.gaps.replicates`); the 95 % interval of the most trusted one, and how well its
    draws agree with their errors; the minimum detectable gap of the most precise estimator; the gap that the published
    law predicts, and how many evaluation tokens on each side would make it detectable; the placebos in standard errors;
    the spreads of documents; the noise scale; and whether the gap has converged.
    """
    by_id = {row["run_id"]: row for row in table.to_dict("records")}
    cells = read_cells(out, table)
    measured = [[by_id[run.run_id] for run in cell.runs] for cell in cells]
    gaps = {name: cell_gaps([draws_of(name, cell, by_id) for cell in cells]) for name in ESTIMATORS}
    of_cells = [{name: gaps[name][place] for name in ESTIMATORS} for place in range(len(cells))]
    return [(_row(*parts), parts[0]) for parts in zip(cells, measured, of_cells, strict=True)]


def _row(cell: FinishedCell, measured: Sequence[dict[str, Any]], gaps: Mapping[str, CellGap]) -> dict[str, Any]:
    names = ("run_id", "architecture", "domain", "tokenizer", "N_nonembedding", "D", "U", "epochs", "D_bytes")
    row: dict[str, Any] = {name: measured[0][name] for name in names}
    row |= {"seeds": len(cell.draws[0]), "draws": len(cell.draws)}
    for name in ESTIMATORS:
        row |= finite_or_none(gap_columns(f"gap_{name}", as_gap(gaps[name])))
    best = gaps["twin"] if row["gap_twin"] is not None else gaps["probe"]
    low, high = best.interval
    row |= finite_or_none({"gap_low": low, "gap_high": high, "draw_sd": best.draw_sd}) | {"agreement": best.agreement}
    known = [float(row[f"gap_{name}_se"]) for name in ESTIMATORS[1:] if row[f"gap_{name}_se"] is not None]
    row["minimum_detectable_gap"] = DETECTABLE * min(known) if known else None
    row["predicted_gap"] = float(predict_gap(N=row["N_nonembedding"], D=row["D"]))
    first = cell.runs[0]
    tokens = int(cell.of(first)[0].at(first.steps, "seen").tokens.sum())
    needed = tokens_needed(tokens, min(known), row["predicted_gap"] / DETECTABLE) if known else None
    row["eval_tokens_needed"] = None if needed is None else float(f"{needed:.2g}")
    for name in ("online", "", "control", "twin"):
        column = f"placebo_{name}" if name else "placebo"
        scores = [run[column] / run[f"{column}_se"] for run in measured if _known(run[column])]
        row[f"placebo_{name or 'probe'}_z"] = max(scores, key=abs) if scores else None
    means = ("online_lag", "gap_online_first", "document_sd", "paired_sd", "noise_scale", "contamination", "gap_drift")
    for name in means:
        values = [run[name] for run in measured if _known(run[name])]
        row[name] = float(np.mean(values)) if values else None
    return row | {"converged": all(run["converged"] for run in measured)}


def _known(value: float | None) -> bool:
    """Whether a value of a table of runs is there: a missing one is None or NaN."""
    return value is not None and math.isfinite(value)


def draws_of(name: str, cell: FinishedCell, by_id: Mapping[str, Mapping[str, Any]]) -> Draws:
    """The gaps of those draws of a cell that have one by an estimator, each averaged over the draw's seeds.

    Args:
        by_id: the rows of the table of runs by their ids.
    """
    gaps = [_over_seeds(name, cell, runs, [by_id[run.run_id] for run in runs]) for runs in cell.draws]
    known = [each for each in gaps if math.isfinite(each.gap) and math.isfinite(each.se)]
    return Draws(np.asarray([each.gap for each in known]), np.asarray([each.se for each in known]))


def _over_seeds(name: str, cell: FinishedCell, runs: Sequence[RunConfig], measured: Sequence[Mapping[str, Any]]) -> Gap:
    """The mean gap over the seeds of a draw, with an error from documents and from seeds.

    Seeds share documents where their probes are the same, so the error from documents does not fall with their number.
    """
    values = [run[f"gap_{name}"] for run in measured]
    errors = [run[f"gap_{name}_se"] for run in measured]
    if not all(map(_known, values)):
        return NO_GAP
    if len(values) == 1:
        return Gap(values[0], errors[0])
    between = float(np.var(values, ddof=1)) / len(values)
    return Gap(float(np.mean(values)), math.hypot(_documents_error(name, cell, runs, errors), math.sqrt(between)))


def _documents_error(name: str, cell: FinishedCell, runs: Sequence[RunConfig], errors: Sequence[float]) -> float:
    """The standard error from documents of the mean over seeds, whose rows are pooled and clustered by group."""
    if name == "online":  # seeds differ in training text and share the held-out text
        return float(np.mean(errors))
    sides: list[Side] = []
    for run in runs:
        parts = gap_sides(name.removesuffix("_bpb"), *cell.of(run), run.steps, bits=name.endswith("_bpb"))
        sides += [side._replace(weight=side.weight / len(runs)) for side in parts]
    return contrast(*sides).se


def cells_table(out: Path) -> pd.DataFrame:
    """The table of a folder's cells, with the columns of the table of runs: one row for each that has finished runs.

    What was measured is the mean over the cell's runs; the gaps have the standard errors of `gap_rows`. `draws` and
    `runs` are how many there are; `run_id` is that of the first run.
    """
    runs = runs_table(out)
    by_id = {row["run_id"]: row for row in runs.to_dict("records")}
    cells = read_cells(out, runs)
    domains = {domain for cell in cells for domain in cell.runs[0].probe.domains}
    own = {*measured_by(intervention_names()), *chain.from_iterable(map(domain_columns, domains))}
    gaps: dict[str, list[CellGap]] = {}
    for name in _GAPS:
        gaps[name] = cell_gaps([draws_of(name, cell, by_id) for cell in cells])
    rows = []
    for place, cell in enumerate(cells):
        of_runs = [by_id[run.run_id] for run in cell.runs]
        row = dict(of_runs[0])
        for column in (*MEASURED, *(name for name in runs.columns if name in own)):
            values = [each[column] for each in of_runs]
            row[column] = all(values) if column == "converged" else _mean(values)
        for name in _GAPS:
            row |= finite_or_none(gap_columns(f"gap_{name}", as_gap(gaps[name][place])))
        rows.append(row | {"seed": None, "draws": len(cell.draws), "runs": len(cell.runs)})
    return pd.DataFrame(rows)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(known)) if len(known) == len(values) else None


def cell_of(out: Path, run_id: str) -> FinishedCell:
    """The cell of a finished run; InputError if the folder holds no sweep, or no finished run of this id."""
    for cell in read_cells(out, runs_table(out)):
        ids = {run.run_id for run in cell.runs} | {run.twin().run_id for run in cell.runs if run.data.half is not None}
        if run_id in ids:
            return cell
    raise InputError("--run", "ID", run_id, f"a finished run of {out}")


def details(cell: FinishedCell) -> dict[str, Any]:
    """Details of the first run of a cell.

    They are the gap by recency and number of visits, the gap after every evaluation, and how many of 20 placebos of
    each estimator, each between other halves of the held-out documents, lie beyond 1.96 standard errors.
    """
    run = cell.runs[0]
    own, twin = cell.of(run)
    placebos = [placebo_gaps(own, twin, run.steps, seed) for seed in range(PLACEBOS)]
    return {
        "run_id": run.run_id,
        "recency": recency(run, own, twin),
        "trajectory": trajectory(run, own, twin),
        "placebos": {
            name: sum(abs(gaps[name].gap) > 1.96 * gaps[name].se for gaps in placebos) for name in placebos[0]
        },
    }
