"""Which parameters the rows identify, and which combinations of them where they do not.

Algorithm: three tests, none of which knows a law by name.
1. Rank: are the columns of the whitened Jacobian J (J'J is the information) independent (sigma_min/sigma_max >= 1e-3)?
2. Profile: does the likelihood fall when a parameter goes to either end of its range and the others are refitted? If
   not, its confidence interval is unbounded. Where the law has fewer directions at that end (a kink beyond all the data
   has no position), the fall must exceed log(rows) for every direction that is missing there (BIC): a kink fitted to
   noise gains more than the 3.84 of a regular parameter.
3. Regimes: does the rank hold without the rows of a regime that is nearly empty?

If a point with fewer directions explains the rows as well, it is adopted: the simplest of the confidence set.

Guarantee: a parameter is called identified only if it changes by less than 1 % along every direction in which the
whitened Jacobian is a thousand times smaller than at its largest. Where no such direction exists, its 95 % profile
interval must also end inside its range on both sides.

Not for: saying how well a parameter is known, which its interval does; and laws with many local minima at the ends of
the ranges, since each end is refitted from 6 starts only.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.fit.certainty.information import whitened_jacobian
from harness.fit.problem.centred import Problem
from harness.fit.problem.likelihood import evidence_per_loss
from harness.fit.problem.model import bounds_of
from harness.fit.problem.raw_units import raw_map, raw_point
from harness.fit.search.solver import Solutions, best_and_runners_up, minimise_cases

RANK_TOLERANCE = 1e-3  # relative singular value below which a direction is not determined
PROFILE_DROP = 3.84  # 95 % of chi-squared with one degree of freedom
FEWEST_ROWS = 5  # a regime with fewer rows counts as nearly empty
FEWEST_SHARE = 0.03  # a regime with a smaller share of the rows does, too
STARTS_PER_END = 6


@dataclass(frozen=True)
class Identified:
    """What the rows identify, at the adopted point.

    Attributes:
        theta: the adopted point, in centred coordinates.
        free: the parameters that were not held at an end of their range.
        loss: the minimised loss there.
        null: orthonormal directions, in raw coordinates, along which the data say nothing.
        identified: whether each parameter is identified.
        rank: number of directions of the law's own parameters (without the objective's, such as tau) that the data
            determine.
        condition: largest over smallest singular value at the best point; inf if nothing is identified.
        degrees: number of directions of the law's own parameters that the fit used.
        regime_rows: fitted rows per regime of the law.
        unbounded: parameters whose 95% profile interval reaches an end of their range.
    """

    theta: Float[np.ndarray, "parameters"]
    free: np.ndarray
    loss: float
    null: Float[np.ndarray, "directions parameters"]
    identified: np.ndarray
    rank: int
    condition: float
    degrees: int
    regime_rows: dict[str, int]
    unbounded: tuple[str, ...]

    def starts_with(self, others: Float[np.ndarray, "... parameters"]) -> Float[np.ndarray, "starts parameters"]:
        """Starts of refits: the adopted point, and `others`, whose held parameters get the adopted point's values."""
        starts = np.vstack([self.theta, others])
        starts[:, ~self.free] = self.theta[~self.free]
        return starts


def _spectrum(problem: Problem, theta, weights=None):
    """Singular values and right vectors of the whitened Jacobian in the law's own parameters."""
    count = len(problem.law.parameters)
    jacobian = whitened_jacobian(problem, theta, weights)[:, :count]
    _, values, vectors = np.linalg.svd(np.nan_to_num(jacobian), full_matrices=False)
    values = np.maximum(values, 1e-300)
    return values, vectors


def rank_of(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> int:
    """How many directions of the law's own parameters (without the objective's, such as tau) the rows determine."""
    values, _ = _spectrum(problem, theta)
    return int(np.sum(values >= RANK_TOLERANCE * values[0]))


def _null_directions(problem: Problem, theta, weights=None):
    """Directions with singular values below the rank tolerance, in raw coordinates (as rows, not yet orthonormal)."""
    values, vectors = _spectrum(problem, theta, weights)
    count = len(problem.law.parameters)
    slope = np.nan_to_num(raw_map(problem, theta)[1][:count, :count])
    return vectors[values < RANK_TOLERANCE * values[0]] @ slope.T


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
    """Apply the three tests to the best of a multi-start's solutions, and adopt a simpler point if it is as good."""
    law = problem.law
    names = [p.name for p in law.parameters]
    best = solutions.best
    theta, loss = solutions.theta[best], float(solutions.loss[best])
    values, _ = _spectrum(problem, theta)
    rank = int(np.sum(values >= RANK_TOLERANCE * values[0]))
    rows = problem.weights.sum()
    unit = 2 * evidence_per_loss(problem, theta)

    ends, fixed = _ends(problem, solutions)
    accepted = []
    for end, index in enumerate(fixed):
        if not np.isfinite(ends.loss[end]):
            continue
        end_rank = rank_of(problem, ends.theta[end])
        allowed = max(PROFILE_DROP, (len(names) - end_rank) * np.log(rows))
        if unit * (ends.loss[end] - loss) < allowed:
            accepted.append((end_rank, float(ends.loss[end]), end, index))
    free, degrees = np.ones(len(theta), bool), len(names)
    adopted_rank, adopted_loss, end, index = min(accepted, default=(rank, loss, -1, -1))
    if adopted_rank < rank:
        theta, loss, degrees = ends.theta[end], adopted_loss, adopted_rank
        free[index] = False

    null = [_null_directions(problem, theta)]
    regimes = _regimes(problem, theta)
    for mask in regimes.values():
        if mask.sum() < max(FEWEST_ROWS, FEWEST_SHARE * rows):
            null.append(_null_directions(problem, theta, problem.weights * ~mask))
    unbounded = tuple(dict.fromkeys(names[i] for _, _, _, i in accepted))
    null = _orthonormal(np.concatenate(null))
    reach = np.linalg.norm(null, axis=0) if len(null) else np.zeros(len(names))
    alone = np.array([name in unbounded and adopted_rank == len(names) for name in names])
    identified = np.ones(len(problem.model.parameters), bool)
    identified[: len(names)] = (reach < 1e-2) & ~alone
    return Identified(
        theta, free, loss, null, identified, len(names) - len(null), float(values[0] / values[-1]), degrees,
        {name: int(mask.sum()) for name, mask in regimes.items()}, unbounded,
    )  # fmt: skip


def nothing_identified(problem: Problem, solutions: Solutions) -> Identified:
    """The best point, with every parameter marked as not identified: for gaps that are not detected."""
    best = solutions.best
    count, size = len(problem.law.parameters), solutions.theta.shape[1]
    nothing = np.zeros(size, bool)
    return Identified(
        solutions.theta[best], ~nothing, float(solutions.loss[best]), np.eye(count), nothing, 0, np.inf, count, {}, ()
    )
