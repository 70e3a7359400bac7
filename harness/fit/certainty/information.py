"""How much the rows say about the parameters near a point: Fisher information, and the covariance that follows."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from harness.fit.laws.law import Columns, natural
from harness.fit.problem.centred import Problem
from harness.fit.problem.model import StatisticalModel, features_of
from harness.fit.problem.objective import whitened
from harness.fit.problem.program import in_chunks, program
from harness.fit.problem.raw_units import raw_map

# The longest step of `errors_near`, in the coordinates of the search: along a direction of which the rows say nothing,
# a step of one standard error would leave the range of every constant.
WIDEST = 3.0
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


def covariance(
    problem: Problem,
    theta: Float[np.ndarray, "parameters"],
    information: Float[np.ndarray, "parameters parameters"] | None = None,
) -> Float[np.ndarray, "parameters parameters"]:
    """Inverse information in raw coordinates, along the directions that the data determine.

    Args:
        information: that of rows whose errors depend on each other (`dependence`); Fisher's by default.
    """
    if information is None:
        half = np.nan_to_num(whitened_jacobian(problem, theta))
    else:
        values, vectors = np.linalg.eigh(information)
        half = vectors.T * np.sqrt(np.maximum(values, 0.0))[:, None]
    norms = np.maximum(np.linalg.norm(half, axis=0), 1e-300)
    _, values, vectors = np.linalg.svd(half / norms, full_matrices=False)
    kept = values > RANK_FLOOR * values[0]
    half = (vectors[kept] / values[kept, None]) / norms
    # A raw constant may be e^180, and its slope may overflow: both factors are cut off where a square is still finite.
    slope, half = (np.clip(np.nan_to_num(part), -1e70, 1e70) for part in (raw_map(problem, theta)[1], half))
    return slope @ half.T @ half @ slope.T


def errors_near(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> Float[np.ndarray, "directions parameters"]:
    """Steps in the coordinates of the search, each of one standard error along a direction of its own.

    No step is longer than `WIDEST`, as if each constant were known beforehand to within that.
    """
    jacobian = np.nan_to_num(whitened_jacobian(problem, theta))
    known = np.eye(jacobian.shape[1]) / WIDEST
    _, values, vectors = np.linalg.svd(np.concatenate([jacobian, known]), full_matrices=False)
    return vectors / values[:, None]


@program
def _predictions_and_slopes(model: StatisticalModel, thetas, columns, zeros):
    def at(theta):
        predicted = model.law.predict(natural(model.parameters, theta), columns) + zeros
        return jnp.log(predicted) if model.objective.log else predicted

    return jax.vmap(lambda theta: (at(theta), jax.jacfwd(at)(theta)))(thetas)


def predictions_and_slopes(
    problem: Problem, thetas: Float[np.ndarray, "runs parameters"], points: Columns
) -> tuple[Float[np.ndarray, "runs points"], Float[np.ndarray, "runs points parameters"]]:
    """Predictions at points in centred columns, and their derivatives; of logs where the objective works on logs."""
    zeros = np.zeros(len(next(iter(points.values()))))
    values, slopes = in_chunks(lambda part: _predictions_and_slopes(problem.model, part, points, zeros), thetas)
    # Predictions of a law with a pole may overflow; their squares have to stay finite.
    return tuple(np.clip(np.nan_to_num(part), -1e100, 1e100) for part in (values, slopes))


def slopes_of_rows(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> Float[np.ndarray, "rows parameters"]:
    """The derivatives of the rows' predictions, or of their logs where the objective works on logs."""
    return predictions_and_slopes(problem, theta[None], problem.columns)[1][0]
