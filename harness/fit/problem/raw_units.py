"""Parameters and predictions in the units of the table."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws.law import Combination, backward, forward, natural, stacked, value_of
from harness.fit.problem.centred import Problem
from harness.fit.problem.model import StatisticalModel
from harness.fit.problem.program import float64, in_chunks, program


def _raw_coordinates(model: StatisticalModel, theta, scales):
    """The coordinates of the search for the raw columns: logs of the raw values where the transform is a log."""
    values = natural(model.parameters, theta)
    raw = model.law.rescale(values, scales)
    return jnp.stack([forward(p, value_of(p, raw)) for p in model.parameters])


@program
def _predict(model: StatisticalModel, theta, columns, noise):
    return model.law.predict(natural(model.parameters, theta), columns) + jnp.zeros(noise.shape)


@program
def _raw_map(model: StatisticalModel, theta, scales):
    return _raw_coordinates(model, theta, scales), jax.jacfwd(lambda t: _raw_coordinates(model, t, scales))(theta)


@program
def _raw_map_of_runs(model: StatisticalModel, thetas, scales):
    return jax.vmap(lambda theta: _raw_coordinates(model, theta, scales))(thetas)


def predictions(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> Float[np.ndarray, "rows"]:
    """Predicted response of every row, in raw units."""
    scale = problem.scales[problem.law.response]
    return scale * _predict(problem.model, theta, problem.columns, problem.noise)


def raw_map(
    problem: Problem, theta: Float[np.ndarray, "parameters"]
) -> tuple[Float[np.ndarray, "parameters"], Float[np.ndarray, "parameters parameters"]]:
    """A point in raw coordinates (those of a search on raw columns), and their Jacobian in the centred coordinates."""
    return _raw_map(problem.model, theta, problem.scales)


def raw_coordinates(
    problem: Problem, thetas: Float[np.ndarray, "runs parameters"]
) -> Float[np.ndarray, "runs parameters"]:
    """The coordinates of the search in raw units, one row per run."""
    return in_chunks(lambda part: _raw_map_of_runs(problem.model, part, problem.scales), np.asarray(thetas))


def raw_values(problem: Problem, thetas: Float[np.ndarray, "runs parameters"]) -> dict[str, Float[np.ndarray, "runs"]]:
    """Named parameters in raw units, one value per run."""
    if not len(thetas):
        return {p.name: np.empty(0) for p in problem.model.parameters}
    points, parameters = raw_coordinates(problem, thetas), problem.model.parameters
    with float64():
        return {p.name: np.asarray(backward(p, jnp.asarray(points[:, i]))) for i, p in enumerate(parameters)}


def raw_point(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> dict[str, float]:
    """Named parameters in raw units at one point."""
    return {name: float(values[0]) for name, values in raw_values(problem, theta[None]).items()}


def function_of_raw(
    problem: Problem, point: Float[np.ndarray, "parameters"], value: Callable[..., Float[Array, ""]]
) -> tuple[float, Float[np.ndarray, "parameters"]]:
    """A function of the raw parameters, and its gradient in the raw coordinates of the search."""

    def of_coordinates(coordinates):
        return value(natural(problem.model.parameters, coordinates))

    with float64():
        result, gradient = jax.value_and_grad(of_coordinates)(jnp.asarray(point))
        return float(result), np.asarray(gradient)


def combination_values(
    problem: Problem, thetas: Float[np.ndarray, "runs parameters"], combination: Combination
) -> Float[np.ndarray, "runs"]:
    """The value of a combination of raw parameters, one per run."""
    values = raw_values(problem, thetas)
    with float64():
        named = stacked(problem.model.parameters, {name: jnp.asarray(part) for name, part in values.items()})
        return np.asarray(combination.value(named))
