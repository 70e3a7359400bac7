"""Minima of many functions of one variable at once, and of known losses at given numbers of FLOPs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline

_Rows = Float[np.ndarray, "*rows"]
GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
# 40 golden sections shrink the bracket, two steps of the grid, to 4e-9 of its length.
SECTIONS = 40


def argmin(function: Callable[[_Rows], _Rows], low: _Rows, high: _Rows, places: int) -> _Rows:
    """Where each row of the function is lowest between `low` and `high`, by a grid of `places` and golden sections.

    Values may be infinite. Between the two neighbours of its best grid point a row must have a single minimum.
    """
    shares = np.linspace(0.0, 1.0, places)
    best = np.argmin([function(low + share * (high - low)) for share in shares], axis=0)
    left, right = (low + shares[np.clip(best + side, 0, places - 1)] * (high - low) for side in (-1, 1))
    for _ in range(SECTIONS):
        first, second = right - GOLDEN * (right - left), left + GOLDEN * (right - left)
        less = function(first) < function(second)
        left, right = np.where(less, left, first), np.where(less, second, right)
    return (left + right) / 2.0


@dataclass(frozen=True)
class Envelope:
    """The lowest loss over all sizes at each number of FLOPs, for losses that are known exactly, without fit or noise.

    Attributes:
        flops: C, in whatever unit it was counted.
        N, loss: the size with the lowest loss, interpolated, and its loss; nan if the best is not among those tried.
        size_slope, loss_slope: d log N / d log C and -d log loss / d log C at each C.
    """

    flops: Float[np.ndarray, "flops"]
    N: Float[np.ndarray, "flops"]
    loss: Float[np.ndarray, "flops"]
    size_slope: Float[np.ndarray, "flops"]
    loss_slope: Float[np.ndarray, "flops"]


def envelope(
    sizes: Sequence[float] | Float[np.ndarray, "sizes"],
    flops: Float[np.ndarray, "flops"],
    losses: Float[np.ndarray, "sizes flops"],
) -> Envelope:
    """The envelope by a cubic spline of log loss in log N at each number of FLOPs; fewer than four sizes give nan."""
    best, least = np.full(len(flops), np.nan), np.full(len(flops), np.nan)
    for index, column in enumerate(losses.T):
        known = np.isfinite(column)
        if known.sum() < 4:
            continue
        spline = CubicSpline(np.log(np.asarray(sizes)[known]), np.log(column[known]))
        places = spline.derivative().roots(extrapolate=False)
        if len(places) and np.exp(spline(places)).min() < column[known].min() * (1 + 1e-12):
            at = places[np.argmin(spline(places))]
            best[index], least[index] = math.exp(at), math.exp(spline(at))
    logs = np.log(flops)
    return Envelope(flops, best, least, np.gradient(np.log(best), logs), -np.gradient(np.log(least), logs))
