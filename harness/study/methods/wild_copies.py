"""Copies of the losses of a design with new errors, where runs of a draw share their text and what measures them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float


def logs_of_cells(
    runs: pd.DataFrame, cell: Sequence[str], losses: Sequence[str]
) -> tuple[pd.DataFrame, Float[np.ndarray, "cells draws losses"]]:
    """The log losses of runs by cell and draw; nan for a draw that a cell lacks.

    Args:
        cell: the columns that the draws of a cell have in common, by which cells are sorted.
        losses: the columns of losses, nats per token; runs without any are left out.

    Returns:
        the cells, and their log losses.
    """
    known = runs.dropna(subset=list(losses))
    cells = known.loc[:, list(cell)].drop_duplicates().sort_values(by=list(cell)).reset_index(drop=True)
    row = known[list(cell)].merge(cells.assign(row=cells.index), on=list(cell), how="left")["row"].to_numpy(int)
    draws, column = np.unique(known["draw"].to_numpy(int), return_inverse=True)
    logs = np.full((len(cells), len(draws), len(losses)), np.nan)
    logs[row, column] = np.log(known[list(losses)].to_numpy(float))
    return cells, logs


def wild_copies(
    logs: Float[np.ndarray, "cells draws losses"], copies: int, seed: int = 0
) -> Float[np.ndarray, "copies cells losses"]:
    """The mean log losses of cells, and then copies of them with new errors: a wild bootstrap (Wu 1986).

    A run's deviation from its cell's mean is a part that all runs of its draw have in common, since they are measured
    on the same held-out text, and a part of its own. The common part is known from the cells that have all draws, and
    the mean of a cell that lacks some is without it, so that all means are those of the same held-out text. A copy
    multiplies every common part by one normal number and every own part by another; the losses of one run stay
    together, so that copies have the correlations of the runs.

    Args:
        logs: nan for a draw that a cell lacks; a cell at least has all of them, and every cell has two.
    """
    whole = ~np.isnan(logs).any(axis=(1, 2))
    draws = logs.shape[1]
    common = (logs[whole] - logs[whole].mean(axis=1, keepdims=True)).mean(axis=0)
    mean = np.nanmean(logs - common, axis=1)
    counts = (~np.isnan(logs)).sum(axis=1, keepdims=True)
    own = np.nan_to_num(logs - common - mean[:, None]) / np.sqrt(counts * (counts - 1))
    rng = np.random.default_rng(seed)
    shared = np.einsum("kd,dl->kl", rng.standard_normal((copies, draws)), common / np.sqrt(draws * (draws - 1)))
    errors = np.einsum("kcd,cdl->kcl", rng.standard_normal((copies, *logs.shape[:2])), own)
    return np.concatenate([mean[None], mean + shared[:, None] + errors])
