"""Which parameters the rows identify, and which combinations of them where they do not.

The best fit is the fit, whatever is found here: no constant is held anywhere. Three tests say what is not identified;
none of them knows a law by name.
1. Error: the standard error that the information gives, all other constants free, has to be below 1 for an exponent,
   and below 3 in logs (a factor of 20) for a constant that is searched in logs. An error is judged by this scale alone
   and not by that of the direction that is known best.
2. Ends: a constant may stand at either end of its range if the best fit there is not rejected. Then its interval is
   open on that side. Where the law loses further directions at that end (a kink beyond all the data has no position),
   the fall of 2 log L must exceed log(rows) for every direction that is lost (BIC): a kink fitted to noise gains more
   than a regular parameter. What has no error at such an end is not identified at all, and directions without error
   are those at the end that has the fewest.
3. Regimes: test 1, without the rows of a regime that is nearly empty.

`intervals` adds a fourth: the 95 % interval has to be closed, and narrow enough to matter.

Not for: laws with many local minima at the ends of the ranges, since each end is refitted from 6 starts only.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.fit.certainty.information import whitened_jacobian
from harness.fit.certainty.likelihood_ratio import LikelihoodRatio, likelihood_ratio
from harness.fit.problem.centred import Problem
from harness.fit.problem.model import bounds_of, in_logs
from harness.fit.problem.raw_units import raw_map, raw_point
from harness.fit.search.solver import Solutions, best_and_runners_up, minimise_cases

LARGEST_ERROR = 1.0  # the standard error, in the coordinates of the search, from which a direction is unknown
UNKNOWN_LOG_ERROR = 3.0  # the standard error of a logarithm from which the constant is unknown
FEWEST_ROWS = 5  # a regime with fewer rows counts as nearly empty
FEWEST_SHARE = 0.03  # a regime with a smaller share of the rows does, too
STARTS_PER_END = 6


@dataclass(frozen=True)
class Identified:
    """What the rows identify, about the best fit.

    Attributes:
        ratio: the likelihood-ratio statistic about the best fit.
        null: orthonormal directions, in raw coordinates, along which the data say nothing.
        identified: whether each parameter is identified.
        rank: number of directions of the law's own parameters (without the objective's, such as tau) that the data
            determine.
        condition: largest over smallest singular value of the whitened Jacobian; inf if nothing is identified.
        regime_rows: fitted rows per regime of the law.
        unbounded: parameters that may stand at an end of their range.
        ends: the best fits with a parameter at such an end.
        lost: whether each parameter has no error at an end where the law loses several directions.
    """

    ratio: LikelihoodRatio
    null: Float[np.ndarray, "directions parameters"]
    identified: np.ndarray
    rank: int
    condition: float
    regime_rows: dict[str, int]
    unbounded: tuple[str, ...]
    ends: Float[np.ndarray, "ends parameters"]
    lost: np.ndarray

    @property
    def theta(self) -> Float[np.ndarray, "parameters"]:
        """The best fit, in the coordinates of the search."""
        return self.ratio.theta

    @property
    def loss(self) -> float:
        """The minimised loss at the best fit."""
        return self.ratio.loss


def _spectrum(problem: Problem, theta, weights=None):
    """Singular values and right vectors of the whitened Jacobian in the law's own parameters, as many as parameters."""
    count = len(problem.law.parameters)
    jacobian = np.nan_to_num(whitened_jacobian(problem, theta, weights)[:, :count])
    _, values, vectors = np.linalg.svd(np.vstack([jacobian, np.zeros((count, count))]), full_matrices=False)
    return np.maximum(values, 1e-12), vectors


def rank_of(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> int:
    """How many directions of the law's own parameters (without the objective's, such as tau) the rows determine."""
    return int(np.sum(_spectrum(problem, theta)[0] >= 1.0 / LARGEST_ERROR))


def _slope_of_raw(problem: Problem, theta) -> Float[np.ndarray, "parameters parameters"]:
    """The Jacobian of the law's raw coordinates in the centred ones."""
    count = len(problem.law.parameters)
    return np.nan_to_num(raw_map(problem, theta)[1][:count, :count])


def _unknown(problem: Problem, theta, weights=None) -> np.ndarray:
    """Which of the law's parameters, in raw units, have too large a standard error, all others free."""
    values, vectors = _spectrum(problem, theta, weights)
    errors = np.sqrt(np.sum((vectors @ _slope_of_raw(problem, theta).T / values[:, None]) ** 2, axis=0))
    logs = in_logs(problem.model)[: len(errors)]
    return errors > np.where(logs, UNKNOWN_LOG_ERROR, LARGEST_ERROR)


def _null_directions(problem: Problem, theta, weights=None):
    """Directions with a standard error above `LARGEST_ERROR`, in raw coordinates (as rows, not yet orthonormal)."""
    values, vectors = _spectrum(problem, theta, weights)
    return vectors[values < 1.0 / LARGEST_ERROR] @ _slope_of_raw(problem, theta).T


def _orthonormal(directions: Float[np.ndarray, "directions parameters"]) -> Float[np.ndarray, "directions parameters"]:
    if not len(directions):
        return directions
    _, values, vectors = np.linalg.svd(directions, full_matrices=False)
    return vectors[values > 1e-8 * values[0]]


def _ends(problem: Problem, solutions: Solutions) -> tuple[Solutions, np.ndarray]:
    """The best fits with each parameter of the law fixed at either end of its range, and which one each fit fixed."""
    low, high = bounds_of(problem.model)
    grid = solutions.starts
    spread = grid[np.linspace(0, len(grid) - 1, min(STARTS_PER_END - 3, len(grid))).astype(int)]
    starts = np.concatenate([best_and_runners_up(solutions, 3), spread])
    fixed = np.repeat(np.arange(len(problem.law.parameters)), 2)
    points = np.tile(starts, (len(fixed), 1, 1))
    for case, index in enumerate(fixed):
        points[case, :, index] = (low, high)[case % 2][index]
    return minimise_cases(problem, points, free=np.arange(len(low)) != fixed[:, None]), fixed


def _regimes(problem: Problem, theta) -> dict[str, np.ndarray]:
    if problem.law.regimes is None:
        return {}
    masks = problem.law.regimes(raw_point(problem, theta), problem.raw_columns)
    return {name: np.asarray(mask) & problem.fitted for name, mask in masks.items()}


def identify(problem: Problem, solutions: Solutions) -> Identified:
    """Apply the three tests to the best of a multi-start's solutions."""
    names = [p.name for p in problem.law.parameters]
    count, best = len(names), solutions.best
    theta, loss = solutions.theta[best], float(solutions.loss[best])
    values, _ = _spectrum(problem, theta)
    ratio = likelihood_ratio(problem, theta, loss)

    ends, fixed = _ends(problem, solutions)
    rows = problem.weights.sum()
    accepted, unbounded, simplest = [], {}, (0, 0.0, theta)
    for end, fall, index in zip(ends.theta, ratio.falls(ends.theta, ends.loss), fixed, strict=True):
        if fall < max(ratio.limit, count * np.log(rows)):
            without = len(_null_directions(problem, end))
            if fall < max(ratio.limit, without * np.log(rows)):
                accepted.append(end)
                unbounded[names[index]] = None
                if without > 1:
                    simplest = min(simplest, (-without, float(fall), end), key=lambda entry: entry[:2])
    at = simplest[2]
    lost = _unknown(problem, at) if simplest[0] else np.zeros(count, bool)

    null, unknown = [_null_directions(problem, at)], _unknown(problem, theta)
    regimes = _regimes(problem, at)
    for mask in regimes.values():
        if mask.sum() < max(FEWEST_ROWS, FEWEST_SHARE * rows):
            left = problem.weights * ~mask
            null.append(_null_directions(problem, at, left))
            unknown |= _unknown(problem, at, left)
    null = _orthonormal(np.concatenate(null))
    identified = np.ones(len(problem.model.parameters), bool)
    identified[:count] = ~unknown & ~lost & ~np.isin(names, list(unbounded))
    return Identified(
        ratio, null, identified, count - len(null), float(values[0] / values[-1]),
        {name: int(mask.sum()) for name, mask in regimes.items()}, tuple(unbounded),
        np.array(accepted).reshape(-1, len(theta)), lost,
    )  # fmt: skip


def nothing_identified(problem: Problem, solutions: Solutions) -> Identified:
    """The best point, with every parameter marked as not identified: for gaps that are not detected."""
    theta, loss = solutions.theta[solutions.best], float(solutions.loss[solutions.best])
    count = len(problem.law.parameters)
    return Identified(
        likelihood_ratio(problem, theta, loss), np.eye(count), np.zeros(len(theta), bool), 0, np.inf, {}, (),
        np.empty((0, len(theta))), np.ones(count, bool),
    )  # fmt: skip
