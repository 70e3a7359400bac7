"""The N of the lowest loss on one budget: the minimum of an Akima curve or of a polynomial through the sizes near it.

The polynomial is a parabola of log L in log N, or one with a cubic term that all budgets share. Profiles are steeper
toward small N, so that parabolas alone are off by the same share of N on every budget, which the scatter of the optima
does not show; a cubic of each budget's own would be too uncertain. The third derivative does not depend on where the
parabolas are centred, so that it can be shared by budgets whose optima differ.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import Akima1DInterpolator
from scipy.special import stdtrit

from harness.fit.problem.fit_status import FitWarning

FEWEST_SIZES = 3
# Points per interval between two sizes at which a curve is evaluated.
FINENESS = 25
# Polynomials are fitted to the sizes within this factor of the best. With a factor of 3 the intervals of 9 sizes a
# budget were wider than those of 4 over the same range; with 6 they covered 88 % on budgets that share their sizes.
WITHIN = 4.0
CHANCE = 0.01  # how often losses that do not depend on N are said to have a minimum

Profile = tuple[Float[np.ndarray, "sizes"], Float[np.ndarray, "sizes draws"]]  # log N; log L, the measured losses first


class Skew(NamedTuple):
    """The cubic term that all budgets share, one value per draw of the losses.

    Attributes:
        error: its standard error, from the residuals of the measured losses; 0 if there are none.
        degrees: the degrees of freedom of that error.
    """

    value: Float[np.ndarray, "draws"]
    error: float
    degrees: int


def no_skew(draws: int) -> Skew:
    """Parabolas without a cubic term."""
    return Skew(np.zeros(draws), 0.0, 0)


def shared_skew(profiles: Sequence[Profile]) -> Skew:
    """Least squares for a common cubic term beside a parabola for each budget, about its lowest losses.

    Budgets whose parabola has no minimum are left out: one loss that is far off bends their polynomials. The term is
    zero, without an error, if no degree of freedom is left: three sizes a budget fix parabolas only.
    """
    cubes, losses = [np.empty(0)], [np.empty((0, profiles[0][1].shape[1]))]
    for log_n, log_l in profiles:
        near = near_best(log_n, log_l[:, 0])
        x = log_n[near] - log_n[near].mean()
        powers, values = np.vander(x, 3), np.column_stack([x**3, log_l[near]])
        parabolas = np.linalg.lstsq(powers, values, rcond=None)[0]
        if parabolas[0, 1] > 0:
            values -= powers @ parabolas
            cubes.append(values[:, 0])
            losses.append(values[:, 1:])
    cube, loss = np.concatenate(cubes), np.concatenate(losses)
    degrees = len(cube) - 3 * (len(cubes) - 1) - 1
    if degrees < 1:
        return no_skew(loss.shape[1])
    value = cube @ loss / (cube @ cube)
    residuals = loss[:, 0] - value[0] * cube
    return Skew(value, float(np.sqrt(residuals @ residuals / degrees / (cube @ cube))), degrees)


def without_minimum(profiles: Sequence[Profile]) -> tuple[FitWarning, ...]:
    """Return a warning unless the losses of the budgets together bend upward by more than chance: one-sided t at 1 %.

    Least squares for a curvature that all budgets share, beside a level and a slope of each. Where losses do not depend
    on N, each budget has a lowest loss all the same, near the middle of its sizes if it has one between them.
    """
    squares, losses = [], []
    for log_n, log_l in profiles:
        x = log_n - log_n.mean()
        lines, values = np.vander(x, 2), np.column_stack([x**2, log_l[:, 0]])
        values -= lines @ np.linalg.lstsq(lines, values, rcond=None)[0]
        squares.append(values[:, 0])
        losses.append(values[:, 1])
    square, loss = np.concatenate(squares), np.concatenate(losses)
    degrees = len(square) - 2 * len(profiles) - 1
    curvature = float(square @ loss / (square @ square))
    residuals = loss - curvature * square
    error = float(np.sqrt(residuals @ residuals / degrees / (square @ square)))
    if curvature > error * stdtrit(degrees, 1 - CHANCE):
        return ()
    message = (
        f"the losses at one budget are not shown to have a minimum: log L bends by {curvature:.2g} +- {error:.2g} per "
        "(log N)^2, so that the optima may be chance, and have no limits"
    )
    return (FitWarning("no_minimum", message),)


def akima_minimum(
    log_n: Float[np.ndarray, "sizes"], log_l: Float[np.ndarray, "sizes draws"]
) -> tuple[Float[np.ndarray, "draws"], float]:
    """Log N at each Akima curve's minimum (nan if that is an end), and the least log loss of the first curve."""
    grid = np.linspace(log_n[0], log_n[-1], (len(log_n) - 1) * FINENESS)
    curves = Akima1DInterpolator(log_n, log_l)(grid)
    at = curves.argmin(axis=0)
    inside = (at > 0) & (at < len(grid) - 1)
    return np.where(inside, grid[at], np.nan), float(curves[at[0], 0])


def polynomial_minimum(
    log_n: Float[np.ndarray, "sizes"], log_l: Float[np.ndarray, "sizes draws"], skew: Float[np.ndarray, "draws"]
) -> tuple[Float[np.ndarray, "draws"], float]:
    """Log N at each polynomial's minimum, and the least log loss of the first one.

    A parabola beside the given cubic term is fitted to each column near its lowest loss; nan if there is no minimum, or
    if it is outside the sizes.
    """
    near = near_best(log_n, log_l[:, 0])
    center = log_n[near].mean()
    x = log_n[near] - center
    curvature, slope, level = np.polyfit(x, log_l[near] - skew * x[:, None] ** 3, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of the two zeros of slope + 2 curvature x + 3 skew x^2, the one that a small skew leaves at the parabola's.
        root = np.sqrt(4 * curvature**2 - 12 * skew * slope)
        at = np.where(2 * curvature + root > 0, -2 * slope / (2 * curvature + root), np.nan)
    best = center + at
    lowest = level + slope * at + curvature * at**2 + skew * at**3
    inside = (best > log_n[0]) & (best < log_n[-1]) & (curvature + 3 * skew * at > 0)
    return np.where(inside, best, np.nan), float(lowest[0])


def near_best(log_n: Float[np.ndarray, "sizes"], log_l: Float[np.ndarray, "sizes"]) -> np.ndarray:
    """Which sizes are within the factor `WITHIN` of the best; at least the four nearest to it, itself included."""
    distance = np.abs(log_n - log_n[log_l.argmin()])
    return distance <= max(np.log(WITHIN), np.sort(distance)[: FEWEST_SIZES + 1][-1])
