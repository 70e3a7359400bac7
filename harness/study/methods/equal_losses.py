"""What a shape of fewer layers saves at equal loss: parabolas of losses, and times, of models of the same sizes."""

import math
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.study.contrasts import NOT_KNOWN, Interval95

# The fewest shapes of a size whose losses are compared, points between its fewest and its most layers, and draws.
_FEWEST_OF_SIZE, _GRID, _DRAWS = 4, 161, 2000


def at_equal_loss(
    losses: pd.DataFrame, shapes: pd.DataFrame, time: str, equal: float
) -> tuple[Interval95, Interval95, list[dict[str, Any]]]:
    """The shallowest shape whose loss is the least up to a share, against the shape of the least loss, by size.

    Log losses of each size are a parabola in log layers with a bend in common; times between the shapes that were timed
    are powers of the layers. The interval redraws the mean losses with an error: that of a mean of the draws, pooled
    over what shapes and draws leave, or what the parabolas leave, if that is more.

    Args:
        losses: runs with their loss L, width, depth and draw.
        shapes: a row for each shape, with width, depth, its `size` and its time.
        time: the column of the time.
        equal: the difference of log losses up to which they are equal.

    Returns:
        the means over sizes of the logs of both ratios, of widths and of times, and a row a size.
    """
    sizes = [own.sort_values("depth") for _, own in shapes.groupby("size")]
    logs = [_draws_of(losses, own) for own in sizes]
    if not logs or min(map(len, logs)) < _FEWEST_OF_SIZE or logs[0].shape[1] < 2:
        return NOT_KNOWN, NOT_KNOWN, []
    x = [np.log2(own["depth"].to_numpy(float)) for own in sizes]
    place = np.repeat(np.arange(len(sizes)), [len(each) for each in x])
    every, own_size = np.concatenate(x), np.eye(len(sizes))[place]
    design = np.column_stack([own_size, own_size * every[:, None], every**2])
    means = np.concatenate([each.mean(1) for each in logs])
    solve = np.linalg.pinv(design)
    left = np.concatenate([(each - each.mean(1, keepdims=True) - each.mean(0) + each.mean()).ravel() for each in logs])
    free = sum((each.shape[0] - 1) * (each.shape[1] - 1) for each in logs)
    between = math.sqrt(float(np.sum(left**2)) / free / logs[0].shape[1])
    misfit_degrees = len(means) - design.shape[1]
    misfit = math.sqrt(float(np.sum((means - design @ solve @ means) ** 2)) / misfit_degrees)
    error, degrees = (misfit, misfit_degrees) if misfit > between else (between, free)
    rng = np.random.default_rng(0)
    spread = error / np.sqrt(rng.chisquare(degrees, (_DRAWS, 1)) / degrees)
    drawn = np.vstack([means, means + spread * rng.standard_normal((_DRAWS, len(means)))])
    found, rows = [], []
    for number, own in enumerate(sizes):
        level, slope, bend = (drawn @ solve.T)[:, [number, len(sizes) + number, 2 * len(sizes)]].T
        grid = np.linspace(x[number][0], x[number][-1], _GRID)
        fitted = level[:, None] + slope[:, None] * grid + bend[:, None] * grid**2
        least, fastest = fitted.argmin(1), (fitted <= fitted.min(1, keepdims=True) + equal).argmax(1)
        times = np.interp(grid, x[number], np.log(own[time].to_numpy(float)))
        widths = np.interp(grid, x[number], np.log(own["width"].to_numpy(float)))
        found.append(np.stack([widths[fastest] - widths[least], times[least] - times[fastest]]))
        low, high = 2 ** np.quantile(grid[least[1:]], [0.025, 0.975])
        rows.append(
            {"N": float(own["size"].iloc[0]), "layers of the least loss": float(2 ** grid[least[0]]), "low": float(low),
             "high": float(high), "fewest layers of equal loss": float(2 ** grid[fastest[0]]),
             "wider, times": float(np.exp(found[-1][0, 0])), "faster, times": float(np.exp(found[-1][1, 0])),
             "error between draws": between, "misfit of the parabolas": misfit}
        )  # fmt: skip
    wider, saved = (
        Interval95(float(each[0]), *map(float, np.quantile(each[1:], [0.025, 0.975])))
        for each in np.mean(found, axis=0)
    )
    return wider, saved, rows


def _draws_of(losses: pd.DataFrame, shapes: pd.DataFrame) -> Float[np.ndarray, "shapes draws"]:
    """Log losses of shapes, of the draws that all of them have."""
    table = losses.assign(log=np.log(losses["L"])).pivot_table(index=["width", "depth"], columns="draw", values="log")
    return table.reindex(pd.MultiIndex.from_frame(shapes.loc[:, ["width", "depth"]])).dropna(axis=1).to_numpy(float)
