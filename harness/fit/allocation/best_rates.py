"""The learning rate at which the loss of each size of model is least.

The loss near its least is taken for a polynomial in the log of the rate: a parabola of each size's own, with a cubic
term that the sizes share. Losses do not rise alike on both sides, so that parabolas alone put every optimum off the
same way (by 14 % where one side is 1.9 times as steep as the other), which their residuals do not show. Replicates
(seeds, texts) have the same initial parameters and batches at all rates, so that each has a level of its own, and only
differences between rates of one replicate count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit

from harness.fit.allocation.minima import near_best

FEWEST_RATES = 4
# Rates whose loss exceeds the least by more than this share are too far from the optimum for a polynomial; the optimum
# is not beyond them.
FAR = 0.1
# The least standard error of an optimum's log. Where one side of the curve is 2.3 times as steep as the other
# without being a cubic (x^2 (1 + 0.4 tanh x)), the polynomials put optima off by 3 to 5 % whatever the noise.
LEAST_SE = 0.04
# Points of the range of rates at which the slope of the polynomial is looked at.
POINTS = 2001

RateStatus = Literal["ok", "lowest", "highest", "unstable", "flat", "few"]


@dataclass(frozen=True)
class RateGrid:
    """The runs of one size, which differ in learning rate and replicate alone.

    Attributes:
        lr: the peak learning rate of each run.
        loss: its loss; nan without one.
        replicate: the number of its replicate.
        diverged: whether it diverged. A rate at which a replicate diverged counts as one at which all did.
    """

    lr: Float[np.ndarray, "runs"]
    loss: Float[np.ndarray, "runs"]
    replicate: Int[np.ndarray, "runs"]
    diverged: Bool[np.ndarray, "runs"]


@dataclass(frozen=True)
class BestRate:
    """The learning rate at which one size's loss is least.

    Attributes:
        status: `ok`; `lowest` or `highest`: the best of the rates is the first or the last that was tried, so that the
            optimum may lie beyond; `unstable`: the best is the highest at which training is stable, and higher ones
            diverged; `flat`: the losses do not tell on which side of any rate the optimum lies; `few`: too few rates.
        lr: the best rate if the status is ok, else None, and so are its limits and its error.
        low, high: 95 % limits; None on a side where the losses show none.
        log_se: the standard error of the log of the rate.
    """

    status: RateStatus
    lr: float | None = None
    low: float | None = None
    high: float | None = None
    log_se: float | None = None


class _Near(NamedTuple):
    """The runs of a size near its best rate: logs of rate over best rate and of loss, and numbers of the replicates.

    `floor` and `ceiling` are the nearest rates on each side whose loss is far higher, or that diverged.
    """

    best: float
    floor: float | None
    ceiling: float | None
    x: Float[np.ndarray, "runs"]
    y: Float[np.ndarray, "runs"]
    replicate: Int[np.ndarray, "runs"]


def best_rates(sizes: Sequence[RateGrid]) -> tuple[list[BestRate], int]:
    """Find the best learning rate of every size, and the degrees of freedom of all their errors.

    The limits of a rate are where the slope of the polynomial begins to differ from zero at the 5 % level (the interval
    of Fieller 1954, for a root instead of a ratio), or else the nearest rate whose loss is far higher or that diverged;
    one variance is estimated from the residuals of all sizes.

    Args:
        sizes: runs of one recipe in several sizes, whose curves share their skew; one size will do.
    """
    near = [_near(size) for size in sizes]
    screened = [part for part in near if isinstance(part, _Near)]
    columns = [_columns(part) for part in screened]
    degrees = sum(len(part.y) for part in screened) - sum(own.shape[1] for own in columns) - 1
    if degrees < 1:
        return [BestRate("few") if isinstance(part, _Near) else part for part in near], 0
    ends = np.cumsum([0, *(own.shape[1] for own in columns)])
    design = np.zeros((sum(len(part.y) for part in screened), ends[-1] + 1))
    row = 0
    for part, own, start in zip(screened, columns, ends[:-1], strict=True):
        design[row : row + len(own), start : start + own.shape[1]] = own
        design[row : row + len(own), -1] = part.x**3
        row += len(own)
    y = np.concatenate([part.y for part in screened])
    inverse = np.linalg.inv(design.T @ design)
    fitted = inverse @ design.T @ y
    covariance = np.sum((y - design @ fitted) ** 2) / degrees * inverse
    ends_of = iter(ends[1:])
    found = []
    for part in near:
        if isinstance(part, _Near):
            end = next(ends_of)
            which = [end - 2, end - 1, -1]  # slope, curvature, the shared cubic term
            part = _root(part, fitted[which], covariance[np.ix_(which, which)], float(stdtrit(degrees, 0.975)))
        found.append(part)
    return found, degrees


def _near(size: RateGrid) -> _Near | BestRate:
    """The runs near the best rate, or the reason why there is no number."""
    unstable = np.unique(size.lr[size.diverged])
    stable = np.isfinite(size.loss) & ~np.isin(size.lr, unstable)
    tried = np.unique(size.lr[stable])
    if len(tried) < FEWEST_RATES:
        return BestRate("few")
    means = np.array([np.log(size.loss[stable & (size.lr == lr)]).mean() for lr in tried])
    best = int(means.argmin())
    if best == 0:
        return BestRate("lowest")
    if best == len(tried) - 1:
        return BestRate("unstable" if any(unstable > tried[-1]) else "highest")
    kept = near_best(np.log(tried), means) & (means <= means[best] + np.log1p(FAR))
    if kept.sum() < FEWEST_RATES:
        return BestRate("few")
    rows = stable & np.isin(size.lr, tried[kept])
    replicate = np.unique(size.replicate[rows], return_inverse=True)[1]
    far = np.concatenate([tried[means > means[best] + np.log1p(FAR)], unstable])
    floor, ceiling = far[far < tried[best]], far[far > tried[best]]
    return _Near(
        best=float(tried[best]),
        floor=float(floor.max()) if len(floor) else None,
        ceiling=float(ceiling.min()) if len(ceiling) else None,
        x=np.log(size.lr[rows] / tried[best]),
        y=np.log(size.loss[rows]),
        replicate=replicate,
    )


def _columns(part: _Near) -> Float[np.ndarray, "runs columns"]:
    """A level of each replicate, the slope and the curvature."""
    levels = np.eye(part.replicate.max() + 1)[part.replicate]
    return np.column_stack([levels, part.x, part.x**2])


def _root(part: _Near, terms: Float[np.ndarray, "3"], covariance: Float[np.ndarray, "3 3"], t: float) -> BestRate:
    """The rate at which the polynomial's slope is zero and rising, with the limits of its 95 % interval."""
    x = np.linspace(part.x.min(), part.x.max(), POINTS)
    basis = np.column_stack([np.ones_like(x), 2 * x, 3 * x**2])
    slope, error = basis @ terms, t * np.sqrt(np.einsum("ij,jk,ik->i", basis, covariance, basis))
    rising = np.flatnonzero((slope[:-1] <= 0) & (slope[1:] > 0))
    if not len(rising):
        return BestRate("flat")
    at = int(rising[np.abs(x[rising]).argmin()])
    falls, rises = np.flatnonzero(slope[:at] < -error[:at]), np.flatnonzero(slope[at:] > error[at:])
    best, least = part.best * np.exp(x[at]), t * LEAST_SE
    low = float(best * np.exp(-np.hypot(x[at] - x[falls[-1]], least))) if len(falls) else part.floor
    high = float(best * np.exp(np.hypot(x[at + rises[0]] - x[at], least))) if len(rises) else part.ceiling
    if low is None and high is None:
        return BestRate("flat")
    bend = 2 * terms[1] + 6 * terms[2] * x[at]
    return BestRate("ok", float(best), low, high, float(np.hypot(error[at] / t / bend, LEAST_SE)))
