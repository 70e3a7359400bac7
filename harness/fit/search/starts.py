"""Where the searches of a fit begin: the starts that a law declares, with its linear constants solved exactly."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

from harness.fit.laws.law import named
from harness.fit.problem.centred import Problem
from harness.fit.problem.model import StatisticalModel, bounds_of, in_logs, is_linear
from harness.fit.problem.program import program

MOST_STARTS = 256
# Standard deviation, in the search's coordinates, of constants of several columns or groups about their common start.
JITTER = 0.3


def grid_of_starts(problem: Problem, seed: int = 0) -> Float[np.ndarray, "runs parameters"]:
    """Every combination of the starts that the law declares, or a sample of `MOST_STARTS`; in the search's coordinates.

    Constants of several columns or groups share a start and are spread about it. Where the response is linear in some
    constants, their starts are replaced by the least-squares solution given the others (the projection of Golub and
    Pereyra 1973), relative to the response where the objective works on logs.
    """
    parameters = problem.model.parameters
    linear = problem.law.linear
    constants = [p.of or p.name for p in parameters]
    keys = list(dict.fromkeys(constants))
    axes = {}
    for constant, p in zip(constants, parameters, strict=True):
        starts = np.log(p.starts) if p.transform == "log" else np.asarray(p.starts, float)
        axes[constant] = starts[:1] if constant in linear else starts
    rng = np.random.default_rng(seed)
    sizes = [len(axes[key]) for key in keys]
    if np.prod(sizes, dtype=float) <= MOST_STARTS:
        chosen = np.array(list(itertools.product(*(axes[key] for key in keys))))
    else:
        chosen = np.stack([rng.choice(axes[key], MOST_STARTS) for key in keys], axis=1)
    points = chosen[:, [keys.index(constant) for constant in constants]]
    spread = np.array([p.of is not None for p in parameters])
    points[1:, spread] += JITTER * rng.standard_normal((len(points) - 1, int(spread.sum())))
    low, high = bounds_of(problem.model)
    return _projected(problem, np.clip(points, low, high)) if linear else np.clip(points, low, high)


@program
def _responses(model: StatisticalModel, values, columns, noise):
    def rows(point):
        return model.law.predict(named(model.parameters, point), columns) + jnp.zeros(noise.shape)

    return jax.lax.map(rows, values)


def _projected(problem: Problem, points: Float[np.ndarray, "runs parameters"]) -> Float[np.ndarray, "runs parameters"]:
    """The points with their linear constants solved by least squares: non-negative where they are searched in logs."""
    parameters = problem.model.parameters
    low, high = bounds_of(problem.model)
    linear, logs = np.flatnonzero(is_linear(problem.model)), in_logs(problem.model)
    weight = problem.weights / (problem.response if problem.model.objective.log else 1.0)
    target = weight * problem.response
    # Evaluate every point with all linear constants at zero, then with each of them alone at one.
    values = np.where(logs, np.exp(np.where(logs, points, 0.0)), points)
    values[:, linear] = 0.0
    each = np.repeat(values[:, None], len(linear) + 1, axis=1)
    for column, i in enumerate(linear):
        each[:, column + 1, i] = 1.0
    flat = each.reshape(-1, len(parameters))
    responses = _responses(problem.model, flat, problem.columns, problem.noise).reshape(*each.shape[:2], len(target))
    points = points.copy()
    for point, rows in zip(points, responses, strict=True):
        rest, basis = rows[0], (rows[1:] - rows[0]).T
        # Beyond 1e150 the square of a term is not finite: a law that these starts cannot have.
        parts = (basis * weight[:, None], target - weight * rest)
        design, right = (np.clip(np.nan_to_num(part), -1e150, 1e150) for part in parts)
        norms = np.maximum(np.linalg.norm(design, axis=0), 1e-300)
        if logs[linear].all():
            solved = nnls(design / norms, right)[0] / norms
        else:
            solved = np.linalg.lstsq(design / norms, right, rcond=None)[0] / norms
        for i, value in zip(linear, solved, strict=True):
            # A coefficient of zero has no slope in its log: the search could never make the term appear again.
            point[i] = np.log(max(value, 0.3 * parameters[i].starts[0])) if logs[i] else value
    return np.clip(points, low, high)
