"""Finds the best settings in grids of runs (at several learning rates, batches, ...): a table with a row per size.

Laws of optimal settings (`steplaw_lr`, `power_lines_b_opt`, `diloco_batch`, ...) are fitted to that table.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.problem.columns import column_of
from sweeps.errors import InputError

# The default window of each method: it uses runs whose loss exceeds their group's least loss by at most this share.
_WINDOWS = {"quadratic": 0.02, "mean": 0.0025, "near": 0.0025, "minimum": 0.0}


class _Grid(NamedTuple):
    """The runs of one group: the logs of their settings, and the log of their loss over the group's least loss."""

    settings: Float[np.ndarray, "runs settings"]
    excess: Float[np.ndarray, "runs"]


def find_optima(
    frame: pd.DataFrame,
    by: Sequence[str],
    over: Sequence[str],
    response: str = "L",
    *,
    method: str = "quadratic",
    window: float | None = None,
    draws: int = 200,
    seed: int = 0,
    source: str = "table",
) -> pd.DataFrame:
    """Find the values of the columns `over` at which the response is least, for every combination of the columns `by`.

    Methods:
        quadratic: the minimum of a quadratic in the logs of the settings. It is fitted to the log of the response, over
            the runs within `window` of the group's least. Of the methods it depends least on the spacing of the grid.
        mean: the geometric mean of each setting over the runs within `window`.
        near: every run within `window` gets a row of its own, with its group in the column `cluster`, as Li et al. 2025
            (arXiv 2503.04715) fit them. These rows have no errors and no status.
        minimum: the settings of the best run, which are known only to the spacing of the grid.

    Args:
        response: a positive column; less is better.
        window: a run is used if its response exceeds the least of its group by at most this share; by default 2 % for
            quadratic, 0.25 % for mean and near.
        draws: number of resamplings of each group's runs, which give the errors; 0 for no errors.

    Returns:
        a table with the columns of `by` and `over`; `<setting>_sd`, the standard deviation of the setting's log over
        the resamplings; the group's least response; `runs`, how many are in the window; and `status`. The status is ok,
        edge (the best run has an extreme setting of the grid, so the optimum may lie beyond), few (too few runs) or
        no_minimum (the quadratic has none among the runs). With few or no_minimum the settings are missing.

    Raises:
        InputError: an unknown method, or a column that is missing, not numeric or not positive.
    """
    if method not in _WINDOWS:
        raise InputError(source, "--method", method, f"one of {', '.join(_WINDOWS)}")
    width = _WINDOWS[method] if window is None else window
    for name in by:
        if name not in frame.columns:
            raise InputError(source, "--by", name, f"one of the columns {', '.join(map(str, frame.columns))}")
    values = np.stack([column_of(frame, name, source) for name in over], axis=1)
    logs = np.log(values)
    loss = column_of(frame, response, source)
    rng = np.random.default_rng(seed)
    rows = []
    for key, indices in frame.groupby(list(by), sort=True).indices.items():
        group = key if isinstance(key, tuple) else (key,)
        least = float(loss[indices].min())
        grid = _Grid(logs[indices], np.log(loss[indices] / least))
        common = dict(zip(by, group, strict=True))
        near = int(np.sum(grid.excess <= width))
        best = np.argmin(grid.excess)
        at = grid.settings[best]
        edge = np.any((at <= grid.settings.min(axis=0)) | (at >= grid.settings.max(axis=0)))
        if method == "near":
            label = ",".join(map(str, group))
            for index in indices[grid.excess <= width]:
                settings = dict(zip(over, values[index], strict=True))
                rows.append(common | settings | {response: loss[index], "cluster": label, "runs": near})
            continue
        optimum, status = _optimum(grid, method, width)
        status = "edge" if edge and status == "ok" else status
        spread = _spread(grid, method, width, draws, rng)
        optimum = values[indices[best]] if method == "minimum" else np.exp(optimum)
        settings = dict(zip(over, optimum, strict=True))
        errors = dict(zip((f"{name}_sd" for name in over), spread, strict=True)) if draws else {}
        rows.append(common | settings | errors | {response: least, "runs": near, "status": status})
    return pd.DataFrame(rows)


def _optimum(grid: _Grid, method: str, window: float) -> tuple[Float[np.ndarray, "settings"], str]:
    """The logs of the best settings, and a status."""
    near = grid.excess <= window + grid.excess.min()
    if method == "minimum":
        return grid.settings[np.argmin(grid.excess)], "ok"
    if method == "mean":
        return grid.settings[near].mean(axis=0), "ok"
    return _quadratic(grid.settings[near], grid.excess[near])


def _quadratic(settings: Float[np.ndarray, "runs settings"], excess: Float[np.ndarray, "runs"]):
    count = settings.shape[1]
    nowhere = np.full(count, np.nan)
    pairs = [(i, j) for i in range(count) for j in range(i, count)]
    centre = settings.mean(axis=0)
    x = settings - centre
    design = np.column_stack([np.ones(len(x)), x, *(x[:, i] * x[:, j] for i, j in pairs)])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return nowhere, "few"
    coefficients = np.linalg.lstsq(design, excess, rcond=None)[0]
    hessian = np.zeros((count, count))
    for (i, j), value in zip(pairs, coefficients[1 + count :], strict=True):
        hessian[i, j] += value
        hessian[j, i] += value
    if np.linalg.eigvalsh(hessian)[0] <= 0.0:
        return nowhere, "no_minimum"
    best = -np.linalg.solve(hessian, coefficients[1 : 1 + count])
    if np.any((best < x.min(axis=0)) | (best > x.max(axis=0))):
        return nowhere, "no_minimum"
    return best + centre, "ok"


def _spread(grid: _Grid, method: str, window: float, draws: int, rng) -> Float[np.ndarray, "settings"]:
    """Standard deviations of the log settings over resampled runs; nan where most resamplings have no optimum."""
    optima = []
    for _ in range(draws):
        chosen = rng.integers(0, len(grid.excess), len(grid.excess))
        optima.append(_optimum(_Grid(grid.settings[chosen], grid.excess[chosen]), method, window)[0])
    known = np.array([optimum for optimum in optima if np.isfinite(optimum).all()])
    if len(known) < max(draws / 2, 2):
        return np.full(grid.settings.shape[1], np.nan)
    return known.std(axis=0, ddof=1)
