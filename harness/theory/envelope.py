"""The compute-optimal envelope of losses that are known exactly: no fit, no noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline


@dataclass(frozen=True)
class Envelope:
    """The least loss of all sizes at each number of FLOPs.

    Attributes:
        flops: C, in whatever unit it was counted.
        N: the size that has it, not one of the sizes; nan where it is not within those tried.
        size_slope, loss_slope: d log N / d log C and -d log loss / d log C there.
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
    """By a cubic spline of log loss in log N at each number of FLOPs, which needs four sizes or more."""
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
