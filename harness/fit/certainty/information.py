"""What the data say about a law near a point: predictions, raw parameters, the whitened Jacobian, and the scatter."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws.law import backward, forward, natural, value_of
from harness.fit.problem.objective import Model, huber_log_density, huber_scale, whitened
from harness.fit.problem.problem import Problem
from harness.fit.problem.program import float64, program
from harness.fit.search.solver import features_of

SCALE_FLOOR = 1e-18


def _raw_coordinates(model: Model, theta, scales):
    """The coordinates of the search for the raw columns: logs of the raw values where the transform is a log."""
    values = natural(model.parameters, theta)
    raw = values if model.law.rescale is None else dict(model.law.rescale(values, scales))
    return jnp.stack([forward(p, value_of(p, raw)) for p in model.parameters])


@program
def _predict(model: Model, thetas, columns, noise):
    def rows(theta):
        return model.law.predict(natural(model.parameters, theta), columns) + jnp.zeros(noise.shape)

    return jax.lax.map(rows, thetas)


@program
def _whitened_jacobian(model: Model, theta, columns, target, noise, options, weights):
    def rows(t):
        return whitened(model, features_of(model, t, columns, noise), target, noise, options, weights)

    return jax.jacfwd(rows)(theta)


@program
def _scores_and_curvature(model: Model, theta, columns, target, noise, options, weights):
    def features(t):
        return features_of(model, t, columns, noise)

    costs = model.objective.costs(features(theta), target, noise, options)
    scores, curvature = 0.0, 0.0
    for cost, slope in zip(costs, jax.jacfwd(features)(theta), strict=True):
        scores += cost.slope[:, None] * slope
        curvature += (slope * (weights * cost.curvature)[:, None]).T @ slope
    return scores, curvature


@program
def _raw_map(model: Model, theta, scales):
    return _raw_coordinates(model, theta, scales), jax.jacfwd(lambda t: _raw_coordinates(model, t, scales))(theta)


@program
def _raw_map_of_runs(model: Model, thetas, scales):
    return jax.vmap(lambda theta: _raw_coordinates(model, theta, scales))(thetas)


def predictions(problem: Problem, thetas: Float[np.ndarray, "runs parameters"]) -> Float[np.ndarray, "runs rows"]:
    """Predicted response of every row, in raw units."""
    with float64():
        scale = problem.scales[problem.law.response]
        return scale * np.asarray(_predict(problem.model, thetas, problem.columns, problem.noise))


def raw_map(
    problem: Problem, theta: Float[np.ndarray, "parameters"]
) -> tuple[Float[np.ndarray, "parameters"], Float[np.ndarray, "parameters parameters"]]:
    """The coordinates of the search in raw units, and their Jacobian with respect to the centred ones."""
    with float64():
        point, slope = _raw_map(problem.model, theta, problem.scales)
        return np.asarray(point), np.asarray(slope)


def raw_coordinates(
    problem: Problem, thetas: Float[np.ndarray, "runs parameters"]
) -> Float[np.ndarray, "runs parameters"]:
    """The coordinates of the search in raw units, a row a run."""
    with float64():
        return np.asarray(_raw_map_of_runs(problem.model, np.asarray(thetas), problem.scales))


def raw_values(problem: Problem, thetas: Float[np.ndarray, "runs parameters"]) -> dict[str, Float[np.ndarray, "runs"]]:
    """Named parameters in raw units, one value a run."""
    with float64():
        points = _raw_map_of_runs(problem.model, np.asarray(thetas), problem.scales)
        parameters = problem.model.parameters
        return {p.name: np.asarray(backward(p, points[:, i])) for i, p in enumerate(parameters)}


def function_of_raw(
    problem: Problem, point: Float[np.ndarray, "parameters"], value: Callable[..., Float[Array, ""]]
) -> tuple[float, Float[np.ndarray, "parameters"]]:
    """A function of the raw parameters, and its gradient in the raw coordinates of the search."""

    def of_coordinates(coordinates):
        return value(natural(problem.model.parameters, coordinates))

    with float64():
        result, gradient = jax.value_and_grad(of_coordinates)(jnp.asarray(point))
        return float(result), np.asarray(gradient)


def whitened_jacobian(
    problem: Problem, theta: Float[np.ndarray, "parameters"], weights: Float[np.ndarray, "rows"] | None = None
) -> Float[np.ndarray, "features parameters"]:
    """J with J'J the Fisher information of the centred coordinates."""
    weights = problem.weights if weights is None else weights
    with float64():
        jacobian = _whitened_jacobian(
            problem.model, theta, problem.columns, problem.target, problem.noise, problem.options, weights
        )
        return np.asarray(jacobian)


def scores_and_curvature(
    problem: Problem, theta: Float[np.ndarray, "parameters"]
) -> tuple[Float[np.ndarray, "rows parameters"], Float[np.ndarray, "parameters parameters"]]:
    """The slope of every row's loss in the coordinates of the search, and the sum of the curvatures of the fitted."""
    arrays = (problem.columns, problem.target, problem.noise, problem.options, problem.weights)
    with float64():
        scores, curvature = _scores_and_curvature(problem.model, theta, *arrays)
        return np.asarray(scores), np.asarray(curvature)


def log_likelihood_rows(
    problem: Problem, theta: Float[np.ndarray, "parameters"], scale: float | None = None
) -> Float[np.ndarray, "rows"]:
    """Log density of each row's raw response under the density that the objective implies.

    Args:
        scale: of that density (`residual_scale`); estimated on the fitted rows if not given.
    """
    objective = problem.model.objective
    predicted = predictions(problem, theta[None])[0]
    observed = problem.response * problem.scales[problem.law.response]
    if objective.id == "normal":
        noise = problem.noise * problem.scales[problem.law.response]
        variance = noise**2 + (np.exp(theta[-1]) * predicted) ** 2
        return -0.5 * ((observed - predicted) ** 2 / variance + np.log(2 * np.pi * variance))
    scale = scale or residual_scale(problem, theta)
    if objective.id == "squares":
        return -0.5 * ((observed - predicted) ** 2 / scale + np.log(2 * np.pi * scale))
    residual = np.log(predicted) - np.log(observed)
    if objective.id == "log_squares":
        return -0.5 * (residual**2 / scale + np.log(2 * np.pi * scale)) - np.log(observed)
    return huber_log_density(residual, scale, problem.options) - np.log(observed)


def residual_scale(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> float:
    """What the fitted rows say of the density's scale: Huber's, or the variance of the residuals (raw units)."""
    predicted = predictions(problem, theta[None])[0][problem.fitted]
    observed = (problem.response * problem.scales[problem.law.response])[problem.fitted]
    if problem.model.objective.id == "squares":
        return max(float(np.mean((observed - predicted) ** 2)), SCALE_FLOOR)
    residual = np.log(predicted) - np.log(observed)
    if problem.model.objective.id == "log_squares":
        return max(float(np.mean(residual**2)), SCALE_FLOOR)
    return max(huber_scale(residual, problem.options), SCALE_FLOOR)


def evidence_per_loss(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> float:
    """What one unit of the minimised loss is worth in log likelihood at this fit."""
    if problem.model.objective.id == "normal":
        return 1.0
    unit = problem.unit / (2.0 if problem.model.objective.id in ("squares", "log_squares") else 1.0)
    return unit / residual_scale(problem, theta)
