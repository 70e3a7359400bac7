"""The work of `isogap gaps`: every estimator of every cell with its error, and the details of one run."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.fit.gap_law.constants import predict_gap
from harness.gaps.document_losses import DocumentLosses, read_documents
from harness.gaps.estimators import DETECTABLE, NO_GAP, Gap, Side, contrast, tokens_needed
from harness.gaps.one_run import finite_or_none, gap_columns
from harness.gaps.twins import loss_differences, placebo_gaps, recency, trajectory
from harness.record.columns import ESTIMATORS
from harness.record.status import run_folder
from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table
from sweeps.config import RunConfig
from sweeps.errors import InputError

# The number of random cuts of the held-out text into two halves.
PLACEBOS = 20


@dataclass(frozen=True)
class FinishedCell:
    """Finished runs that differ only in their seed, and their twins.

    Attributes:
        runs: one run per seed; of a pair of twins the one on half a, or the one on half b if the other has not ended.
        documents: run id -> losses of documents, for the runs and their twins.
    """

    runs: tuple[RunConfig, ...]
    documents: Mapping[str, DocumentLosses]

    def of(self, run: RunConfig) -> tuple[DocumentLosses, DocumentLosses | None]:
        """The losses of documents of a run, and those of its twin if it has ended too."""
        twin = None if run.data.half is None else self.documents.get(run.twin().run_id)
        return self.documents[run.run_id], twin


def read_cells(out: Path, table: pd.DataFrame, run_id: str | None = None) -> Iterator[FinishedCell]:
    """The cells of a folder that have finished runs, one at a time in the order of the sweep; `table` holds its runs.

    With a `run_id`, only the cell that contains this run or its twin.
    """
    done = set(table.loc[table["status"] == "done", "run_id"])
    cells: dict[RunConfig, list[RunConfig]] = defaultdict(list)
    for run in read_configs(out):
        if run.run_id in done and (run.data.half != "b" or run.twin().run_id not in done):
            cells[run.model_copy(update={"seed": 0})].append(run)
    for runs in cells.values():
        twins = [run.twin() for run in runs if run.data.half is not None]
        ids = {run.run_id for run in (*runs, *twins)}
        if run_id is None or run_id in ids:
            yield FinishedCell(
                tuple(runs), {name: read_documents(run_folder(out, name)) for name in sorted(ids & done)}
            )


def gap_rows(out: Path, table: pd.DataFrame) -> Iterator[tuple[dict[str, Any], FinishedCell]]:
    """One row for each cell of a folder that has finished runs, and the cell; `table` holds the folder's runs.

    A row holds the cell's sizes; every estimator's gap averaged over seeds, with a standard error that covers documents
    and, where there are several, seeds; the minimum detectable gap of the most precise estimator; the gap that the
    published law predicts, and how many evaluation tokens on each side would make it detectable; the placebos in
    standard errors; the spreads of documents; the noise scale; and whether the gap has converged.
    """
    by_id = {row["run_id"]: row for row in table.to_dict("records")}
    for cell in read_cells(out, table):
        yield _row(cell, [by_id[run.run_id] for run in cell.runs]), cell


def _row(cell: FinishedCell, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("run_id", "architecture", "domain", "tokenizer", "N_nonembedding", "D", "U", "epochs", "D_bytes")
    row: dict[str, Any] = {name: measured[0][name] for name in names} | {"seeds": len(cell.runs)}
    for name in ESTIMATORS:
        row |= finite_or_none(gap_columns(f"gap_{name}", _over_seeds(name, cell, measured)))
    known = [float(row[f"gap_{name}_se"]) for name in ESTIMATORS[1:] if row[f"gap_{name}_se"] is not None]
    row["minimum_detectable_gap"] = DETECTABLE * min(known) if known else None
    row["predicted_gap"] = float(predict_gap(N=row["N_nonembedding"], D=row["D"]))
    tokens = int(cell.of(cell.runs[0])[0].at(cell.runs[0].steps, "seen").tokens.sum())
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


def _over_seeds(name: str, cell: FinishedCell, measured: Sequence[dict[str, Any]]) -> Gap:
    """The mean gap over the seeds of a cell, with an error from documents and from seeds.

    Seeds share documents where their probes are the same, so the error from documents does not fall with their number.
    """
    values = [run[f"gap_{name}"] for run in measured]
    errors = [run[f"gap_{name}_se"] for run in measured]
    if not all(map(_known, values)):
        return NO_GAP
    if len(values) == 1:
        return Gap(values[0], errors[0])
    between = float(np.var(values, ddof=1)) / len(values)
    return Gap(float(np.mean(values)), math.hypot(_documents_error(name, cell, errors), math.sqrt(between)))


def _documents_error(name: str, cell: FinishedCell, errors: Sequence[float]) -> float:
    """The standard error from documents of the mean over seeds, whose rows are pooled and clustered by group."""
    if name == "online":  # seeds differ in training text and share the held-out text
        return float(np.mean(errors))
    sides: list[Side] = []
    for run in cell.runs:
        own, twin = cell.of(run)
        step, weight = run.steps, 1.0 / len(cell.runs)
        if name == "probe" or twin is None:
            seen, plus = own.at(step, "seen").side(), own.at(step, "heldout").side()
        else:
            seen, other, heldout = loss_differences(own, twin, step)
            plus, weight = (other, weight / 2) if name == "twin" else (heldout, weight)
        sides += [plus._replace(weight=weight), seen._replace(weight=-weight)]
    return contrast(*sides).se


def cell_of(out: Path, run_id: str) -> FinishedCell:
    """The cell of a finished run; InputError if the folder holds no sweep, or no finished run of this id."""
    for cell in read_cells(out, runs_table(out), run_id):
        return cell
    raise InputError("--run", "ID", run_id, f"a finished run of {out}")


def details(cell: FinishedCell) -> dict[str, Any]:
    """Details of the first seed of a cell.

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
