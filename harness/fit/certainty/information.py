"""How much the rows say about the parameters near a point: Fisher information, and the covariance that follows."""

import jax
import numpy as np
from jaxtyping import Float

from harness.fit.problem.centred import Problem
from harness.fit.problem.model import StatisticalModel, features_of
from harness.fit.problem.objective import whitened
from harness.fit.problem.program import program
from harness.fit.problem.raw_units import raw_map

RANK_FLOOR = 1e-6  # directions with a smaller relative singular value are left out of a pseudo-inverse


@program
def _whitened_jacobian(model: StatisticalModel, theta, columns, target, noise, options, weights):
    def rows(t):
        return whitened(model.objective, features_of(model, t, columns, noise), target, noise, options, weights)

    return jax.jacfwd(rows)(theta)


@program
def _scores_and_curvature(model: StatisticalModel, theta, columns, target, noise, options, weights):
    def features(t):
        return features_of(model, t, columns, noise)

    costs = model.objective.costs(features(theta), target, noise, options)
    scores, curvature = 0.0, 0.0
    for cost, slope in zip(costs, jax.jacfwd(features)(theta), strict=True):
        scores += cost.slope[:, None] * slope
        curvature += (slope * (weights * cost.curvature)[:, None]).T @ slope
    return scores, curvature


def whitened_jacobian(
    problem: Problem, theta: Float[np.ndarray, "parameters"], weights: Float[np.ndarray, "rows"] | None = None
) -> Float[np.ndarray, "features parameters"]:
    """The whitened Jacobian J: J'J is the Fisher information in the centred coordinates."""
    arrays = (problem.columns, problem.target, problem.noise, problem.options)
    return _whitened_jacobian(problem.model, theta, *arrays, problem.weights if weights is None else weights)


def scores_and_curvature(
    problem: Problem, theta: Float[np.ndarray, "parameters"]
) -> tuple[Float[np.ndarray, "rows parameters"], Float[np.ndarray, "parameters parameters"]]:
    """The gradient of every row's loss in the coordinates of the search, and the fitted rows' summed curvature."""
    arrays = (problem.columns, problem.target, problem.noise, problem.options, problem.weights)
    return _scores_and_curvature(problem.model, theta, *arrays)


def covariance(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> Float[np.ndarray, "parameters parameters"]:
    """Inverse Fisher information in raw coordinates, along the directions that the data determine."""
    jacobian = np.nan_to_num(whitened_jacobian(problem, theta))
    norms = np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300)
    _, values, vectors = np.linalg.svd(jacobian / norms, full_matrices=False)
    kept = values > RANK_FLOOR * values[0]
    half = (vectors[kept] / values[kept, None]) / norms
    # A raw constant may be e^180, and its slope may overflow: both factors are cut off where a square is still finite.
    slope, half = (np.clip(np.nan_to_num(part), -1e70, 1e70) for part in (raw_map(problem, theta)[1], half))
    return slope @ half.T @ half @ slope.T
