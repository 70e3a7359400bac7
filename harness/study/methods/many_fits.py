"""One law fitted to many versions of the same losses at once: copies with new errors, or rows left out.

A judge needs hundreds of small fits of a law of a few constants, which one batch of array operations solves in a
fraction of a second. The fits of a single table with all their checks are those of `harness.fit`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

# Steps of a search, which ends before in nearly all of them.
_STEPS = 60
# Coordinates stay within this of zero: shares and exponents between e^-12 and e^12 at most.
_FARTHEST = 12.0
LogModel = Callable[[Float[np.ndarray, "fits constants"]], Float[np.ndarray, "fits rows"]]


def sums_of_powers(columns: Mapping[str, Float[np.ndarray, "rows"]]) -> LogModel:
    """The log of E + sum of A_k (x_k / geometric mean)^-p_k over columns x_k.

    The coordinates are the logs of E, A_1, p_1, A_2, p_2 and so on.
    """
    logs = [np.log(values) - np.log(values).mean() for values in columns.values()]

    def log_model(theta: Float[np.ndarray, "fits constants"]) -> Float[np.ndarray, "fits rows"]:
        total = np.exp(theta[:, :1])
        for place, log in enumerate(logs):
            level, power = theta[:, 1 + 2 * place, None], theta[:, 2 + 2 * place, None]
            total = total + np.exp(level - np.exp(np.minimum(power, 3.0)) * log)
        return np.log(total)

    return log_model


def starts_of_sums(
    logs: Float[np.ndarray, "rows"],
    terms: int,
    shares: Iterable[tuple[float, float]] = ((0.1, 0.2), (0.6, 0.5)),
) -> list[list[float]]:
    """Where searches of `sums_of_powers` may begin: the parts that make up the mean log loss.

    Args:
        terms: how many powers are added; they share equally what the floor leaves.
        shares: of each start, the share of the floor, and the power of every term.
    """
    middle = float(logs.mean())
    return [
        [middle + math.log(floor), *[middle + math.log((1 - floor) / terms), math.log(power)] * terms]
        for floor, power in shares
    ]


def fit_many(
    log_model: LogModel,
    starts: Sequence[Sequence[float]],
    logs: Float[np.ndarray, "fits rows"],
    weights: Float[np.ndarray, "fits rows"] | None = None,
) -> Float[np.ndarray, "fits constants"]:
    """The least squares of log residuals by Levenberg-Marquardt, of every row of `logs`: the best end of all starts.

    No fit begins where another has ended: a floor that has gone to zero there could not come back.

    Args:
        log_model: coordinates of the constants -> logs of the law's losses.
        starts: where the searches of every fit begin.
        logs: the log losses of each fit.
        weights: of the rows in each fit; all are 1 by default.
    """
    weights = np.ones_like(logs) if weights is None else weights
    searches = [
        _search(log_model, np.tile(np.asarray(start, float), (len(logs), 1)), logs, weights) for start in starts
    ]
    best = np.argmin([squares for _, squares in searches], axis=0)
    return np.stack([ends for ends, _ in searches])[best, np.arange(len(logs))]


def _search(
    log_model: LogModel, theta: np.ndarray, logs: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The end points, and their weighted sums of squares."""
    count = theta.shape[1]
    damping = np.full(len(theta), 1e-2)
    residuals = logs - log_model(theta)
    squares = np.sum(weights * residuals**2, axis=1)
    for _ in range(_STEPS):
        value = logs - residuals
        slopes = np.stack([(log_model(theta + 1e-6 * unit) - value) / 1e-6 for unit in np.eye(count)], axis=-1)
        weighted = slopes * weights[..., None]
        matrix, gradient = np.swapaxes(weighted, 1, 2) @ slopes, np.sum(weighted * residuals[..., None], axis=1)
        scale = np.einsum("fcc->fc", matrix) + 1e-9
        step = np.linalg.solve(matrix + np.eye(count) * (damping[:, None] * scale)[:, None, :], gradient[..., None])
        tried = np.clip(theta + np.clip(step[..., 0], -1.0, 1.0), -_FARTHEST, _FARTHEST)
        off = logs - log_model(tried)
        new = np.sum(weights * off**2, axis=1)
        better = new < squares
        done = np.abs(squares - new) <= 1e-10 * squares
        theta, residuals = np.where(better[:, None], tried, theta), np.where(better[:, None], off, residuals)
        squares = np.where(better, new, squares)
        damping = np.clip(np.where(better, damping / 4, damping * 6), 1e-9, 1e9)
        if done.all():
            break
    return theta, squares
