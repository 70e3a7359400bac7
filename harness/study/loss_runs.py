"""Runs of a study without twins, whose losses are its answer: their curves, and the losses of their cells."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.record.table import segments_table
from sweeps.errors import InputError

# Columns of a study's table: tokens processed at each evaluation after the first step, and the held-out loss there.
# The losses of further probes of interventions there, such as injected windows, are `curve_injected` and so on.
CURVE_TOKENS, CURVE_LOSS = "curve_tokens", "curve_loss"
# What a cell's runs share; they differ in seeds and draws.
CELL_SETTINGS = ("width", "depth", "N_total", "N_nonembedding", "D", "U", "batch_tokens", "lr", "weight_decay")


def curves_of_runs(out: Path, run_ids: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """The columns CURVE_TOKENS and CURVE_LOSS (nats per token) for the runs of a sweep; empty for runs without any.

    A further column `curve_NAME` has the losses of every further probe NAME at the same tokens, but for those of text
    that was seen.
    """
    evals = segments_table(out, "evals")
    nothing = [np.zeros(0, np.float32)] * len(run_ids)
    columns = {CURVE_TOKENS: [np.zeros(0, np.int64)] * len(run_ids), CURVE_LOSS: nothing.copy()}
    if evals.empty:
        return columns
    evals = evals.loc[(evals["step"] > 0) & ~evals["probe"].str.startswith("seen")]
    evals = evals.sort_values(["run_id", "probe", "step"])
    place = {run_id: number for number, run_id in enumerate(run_ids)}
    for (run_id, probe), rows in evals.groupby(["run_id", "probe"], sort=False):
        number, name = place[str(run_id)], CURVE_LOSS if probe == "heldout" else f"curve_{probe}"
        columns.setdefault(name, nothing.copy())[number] = rows["loss"].to_numpy(np.float32)
        if probe == "heldout":
            columns[CURVE_TOKENS][number] = rows["tokens"].to_numpy(np.int64)
    return columns


def ended_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The finished runs that have a held-out loss, with it as L (nats per token).

    Raises:
        InputError: a table that is not a study's, or without such a run.
    """
    for name in ("block", "status", "heldout_loss"):
        if name not in runs.columns:
            raise InputError("runs", "columns", f"no {name}", f"the column {name}, of a study's table")
    ended = runs.loc[(runs["status"] == "done") & runs["heldout_loss"].notna()]
    if ended.empty:
        raise InputError("runs", "status", f"{len(runs)} runs", "a finished run with a held-out loss")
    return ended.assign(L=ended["heldout_loss"].astype(float)).reset_index(drop=True)


def cell_losses(ended: pd.DataFrame) -> pd.DataFrame:
    """The cells of finished runs: L is the geometric mean over seeds and draws, `runs` their number.

    `log_variance` is the variance of log L of one run about its cell's mean; nan for a cell of one run.
    """
    logs = ended.assign(log_loss=np.log(ended["L"].to_numpy(float)))
    grouped = logs.groupby(["block", *CELL_SETTINGS], sort=False)["log_loss"].agg(["mean", "var", "size"]).reset_index()
    return grouped.assign(L=np.exp(grouped["mean"])).rename(columns={"var": "log_variance", "size": "runs"})


def pooled_sd(cells: pd.DataFrame) -> tuple[float, int]:
    """The standard deviation of log L over the runs of a cell, pooled over cells, and its degrees of freedom.

    nan with 0 degrees where no cell has two runs.
    """
    several = cells.loc[cells["runs"] > 1]
    degrees = several["runs"].to_numpy(int) - 1
    if not degrees.sum():
        return float("nan"), 0
    return float(np.sqrt(np.sum(degrees * several["log_variance"]) / degrees.sum())), int(degrees.sum())
