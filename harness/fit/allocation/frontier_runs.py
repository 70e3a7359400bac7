"""The compute frontier of a table: the runs that no other run beats with as much compute or less.

Three definitions are in use. `naive` keeps every run that sets a record as compute grows. `binned` keeps only the best
record in each bin of log compute, so that dense stretches do not outweigh others. `hull` is the lower convex hull of
log loss against log compute: it lies on or below every run, and drops records above the line between two others.
The records of `naive` are minima of noisy losses: the more runs have a similar compute, the lower the frontier.
"""

import functools

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.problem.columns import check_roles, column_of
from sweeps.errors import InputError

_BINS = 20


def all_records(flops: Float[np.ndarray, "runs"], loss: Float[np.ndarray, "runs"]) -> np.ndarray:
    """Positions, in order of compute, of the runs that have a lower loss than every run before them."""
    order = np.lexsort((loss, flops))
    before = np.concatenate([[np.inf], np.minimum.accumulate(loss[order])[:-1]])
    return order[loss[order] < before]


def binned_records(flops: Float[np.ndarray, "runs"], loss: Float[np.ndarray, "runs"], bins: int = _BINS) -> np.ndarray:
    """Positions of the best record in each of `bins` equal parts of the range of log compute."""
    records = all_records(flops, loss)
    log = np.log(flops)
    edges = np.linspace(log.min(), log.max(), bins + 1)[1:-1]
    part = np.searchsorted(edges, log[records], side="right")
    # Every record has a lower loss than those before it, so the last one of a bin is its best.
    return records[np.append(part[1:] != part[:-1], True)]


def hull_records(flops: Float[np.ndarray, "runs"], loss: Float[np.ndarray, "runs"]) -> np.ndarray:
    """Positions of the vertices of the lower convex hull of log loss against log compute, as far as it falls."""
    x, y = np.log(flops), np.log(loss)
    kept: list[int] = []
    for run in all_records(flops, loss):
        while len(kept) > 1 and _turns_up(x, y, kept[-2], kept[-1], run) <= 0.0:
            kept.pop()
        kept.append(int(run))
    return np.array(kept)


def _turns_up(x, y, a: int, b: int, c: int) -> float:
    """A number above zero if the path a, b, c turns upwards at b."""
    return (x[b] - x[a]) * (y[c] - y[a]) - (y[b] - y[a]) * (x[c] - x[a])


def runs_on_frontier(
    frame: pd.DataFrame, method: str = "naive", bins: int = _BINS, source: str = "table"
) -> pd.DataFrame:
    """The rows on the frontier, in order of compute. If there is a column `group`, each group has its own frontier.

    Args:
        frame: columns `flops` and `L`.
        method: `naive`, `binned` or `hull`.
        bins: number of bins for the method `binned`.

    Raises:
        InputError: an unknown method, fewer than one bin, or an unusable column.
    """
    methods = {"naive": all_records, "binned": functools.partial(binned_records, bins=bins), "hull": hull_records}
    if method not in methods:
        raise InputError(source, "--method", method, f"one of {', '.join(methods)}")
    if bins < 1:
        raise InputError(source, "--bins", bins, "at least 1")
    check_roles(frame, ("flops", "L"), source)
    flops, loss = (column_of(frame, role, source) for role in ("flops", "L"))
    groups = pd.factorize(frame["group"].astype(str))[0] if "group" in frame.columns else np.zeros(len(frame), int)
    rows_of = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    chosen = [rows[methods[method](flops[rows], loss[rows])] for rows in rows_of]
    return frame.iloc[np.concatenate(chosen)].reset_index(drop=True)
