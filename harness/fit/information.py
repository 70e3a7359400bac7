"""What the data say about a law near a point: predictions, raw parameters, the whitened Jacobian, and the scatter."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.law import Law, backward, forward, natural
from harness.fit.likelihood import huber_log_density, huber_scale, likelihood_of, parameters_of
from harness.fit.problem import Problem
from harness.fit.program import float64, program

SCALE_FLOOR = 1e-18


def _raw_values(law: Law, theta, scales):
    values = natural(parameters_of(law), theta)
    return values if law.rescale is None else dict(law.rescale(values, scales))


def _raw_coordinates(law: Law, theta, scales):
    """The coordinates of the search for the raw columns: logs of the raw values where the transform is a log."""
    raw = _raw_values(law, theta, scales)
    return jnp.stack([forward(p, raw[p.name]) for p in parameters_of(law)])


@program
def _predict(law: Law, thetas, columns):
    return jax.vmap(lambda theta: law.predict(natural(parameters_of(law), theta), columns))(thetas)


@program
def _whitened_jacobian(law: Law, theta, columns, response, noise, delta, weights):
    def features(t):
        values = natural(parameters_of(law), t)
        prediction = law.predict(values, columns)
        return likelihood_of(law).whitened(prediction, response, noise, values, delta, weights)

    return jax.jacfwd(features)(theta)


@program
def _raw_map(law: Law, theta, scales):
    return _raw_coordinates(law, theta, scales), jax.jacfwd(lambda t: _raw_coordinates(law, t, scales))(theta)


@program
def _raw_map_of_runs(law: Law, thetas, scales):
    return jax.vmap(lambda theta: _raw_coordinates(law, theta, scales))(thetas)


def predictions(problem: Problem, thetas: Float[np.ndarray, "runs parameters"]) -> Float[np.ndarray, "runs rows"]:
    """Predicted response of every row, in raw units."""
    with float64():
        scale = problem.scales[problem.law.response]
        return scale * np.asarray(_predict(problem.law, thetas, problem.columns))


def raw_map(
    problem: Problem, theta: Float[np.ndarray, "parameters"]
) -> tuple[Float[np.ndarray, "parameters"], Float[np.ndarray, "parameters parameters"]]:
    """The coordinates of the search in raw units, and their Jacobian with respect to the centred ones."""
    with float64():
        point, slope = _raw_map(problem.law, theta, problem.scales)
        return np.asarray(point), np.asarray(slope)


def raw_coordinates(
    problem: Problem, thetas: Float[np.ndarray, "runs parameters"]
) -> Float[np.ndarray, "runs parameters"]:
    """The coordinates of the search in raw units, a row a run."""
    with float64():
        return np.asarray(_raw_map_of_runs(problem.law, np.asarray(thetas), problem.scales))


def raw_values(problem: Problem, thetas: Float[np.ndarray, "runs parameters"]) -> dict[str, Float[np.ndarray, "runs"]]:
    """Named parameters in raw units, one value a run."""
    with float64():
        points = _raw_map_of_runs(problem.law, np.asarray(thetas), problem.scales)
        parameters = parameters_of(problem.law)
        return {p.name: np.asarray(backward(p, points[:, i])) for i, p in enumerate(parameters)}


def function_of_raw(
    problem: Problem, point: Float[np.ndarray, "parameters"], value: Callable[..., Float[Array, ""]]
) -> tuple[float, Float[np.ndarray, "parameters"]]:
    """A function of the raw parameters, and its gradient in the raw coordinates of the search."""

    def of_coordinates(coordinates):
        return value(natural(parameters_of(problem.law), coordinates))

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
            problem.law, theta, problem.columns, problem.response, problem.noise, problem.delta, weights
        )
        return np.asarray(jacobian)


def log_likelihood_rows(
    problem: Problem, theta: Float[np.ndarray, "parameters"], scale: float | None = None
) -> Float[np.ndarray, "rows"]:
    """Log density of each row's raw response; Huber fits use the density their loss implies.

    Args:
        scale: of the Huber density; estimated on the fitted rows if not given.
    """
    predicted = predictions(problem, theta[None])[0]
    observed = problem.response * problem.scales[problem.law.response]
    if problem.law.likelihood == "gap":
        noise = problem.noise * problem.scales[problem.law.response]
        variance = noise**2 + (np.exp(theta[-1]) * predicted) ** 2
        return -0.5 * ((observed - predicted) ** 2 / variance + np.log(2 * np.pi * variance))
    residual = np.log(observed) - np.log(predicted)
    scale = scale or max(huber_scale(residual[problem.fitted], problem.delta), SCALE_FLOOR)
    return huber_log_density(residual, scale, problem.delta) - np.log(observed)


def evidence_per_loss(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> float:
    """What one unit of the minimised loss is worth in log likelihood at this fit."""
    if problem.law.likelihood == "gap":
        return 1.0
    residual = np.log(predictions(problem, theta[None])[0] / (problem.response * problem.scales[problem.law.response]))
    return problem.delta**2 / max(huber_scale(residual[problem.fitted], problem.delta), SCALE_FLOOR)
