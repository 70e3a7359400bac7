"""The minimiser: many damped Newton searches at once, with exact first and second derivatives in float64.

One compiled program serves multi-start, bootstrap, profile and cross-validation: a run has its own start, its own row
weights and its own set of free parameters, and runs go through in batches of one fixed size, so that a short command
compiles once per law.
"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.law import Law, forward, natural
from harness.fit.likelihood import likelihood_of, parameters_of
from harness.fit.problem import Problem
from harness.fit.program import float64, program
from harness.fit.status import FitStatus

BATCH = 32
MAX_STEPS = 150


@dataclass(frozen=True)
class Solutions:
    """Where the runs of a batch ended; coordinates are those of `parameters_of(law)`."""

    theta: Float[np.ndarray, "runs parameters"]
    loss: Float[np.ndarray, "runs"]
    moved: np.ndarray
    finished: np.ndarray


class _State(NamedTuple):
    theta: Float[Array, "parameters"]
    loss: Float[Array, ""]
    gradient: Float[Array, "parameters"]
    hessian: Float[Array, "parameters parameters"]
    proposal: Float[Array, "parameters"]
    damping: Float[Array, ""]
    step: Array
    finished: Array


def bounds_of(law: Law) -> tuple[Float[np.ndarray, "parameters"], Float[np.ndarray, "parameters"]]:
    """The edges of the search in the coordinates of the search."""
    with float64():
        parameters = parameters_of(law)
        low = np.array([float(forward(p, jnp.asarray(p.low))) for p in parameters])
        high = np.array([float(forward(p, jnp.asarray(p.high))) for p in parameters])
    return low, high


def _row_losses(law: Law, theta, columns, response, noise, delta):
    values = natural(parameters_of(law), theta)
    return likelihood_of(law).rows(law.predict(values, columns), response, noise, values, delta)


def _newton_step(theta, gradient, hessian, damping, free, low, high):
    """A step of H scaled to unit diagonal, its eigenvalues made positive and damped; what a bound holds stays."""
    stuck = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
    active = free & ~stuck
    gradient = jnp.where(active, gradient, 0.0)
    pair = active[:, None] & active[None, :]
    hessian = jnp.where(pair, hessian, 0.0)
    diagonal = jnp.abs(jnp.diagonal(hessian))
    scale = jnp.where(active, 1.0 / jnp.sqrt(jnp.maximum(diagonal, 1e-8 * (1e-30 + jnp.max(diagonal)))), 0.0)
    values, vectors = jnp.linalg.eigh(hessian * scale[:, None] * scale[None, :])
    along = vectors.T @ (scale * gradient)
    curvature = jnp.abs(values) + damping
    step = -scale * (vectors @ (along / curvature))
    expected = jnp.sum(along**2 / (jnp.abs(values) + 1e-9))
    return jnp.clip(step, -3.0, 3.0), expected


@program
def _minimise_batch(law: Law, starts, weights, free, columns, response, noise, delta, low, high):
    def search(start, weight, may_move):
        def loss_of(theta):
            return jnp.sum(weight * _row_losses(law, theta, columns, response, noise, delta))

        def evaluate(theta):
            def loss_and_gradient(t):
                loss, gradient = jax.value_and_grad(loss_of)(t)
                return gradient, (loss, gradient)

            hessian, (loss, gradient) = jax.jacfwd(loss_and_gradient, has_aux=True)(theta)
            return loss, gradient, hessian

        def advance(state: _State) -> _State:
            """Evaluated once per step: the loss at a proposal comes with the derivatives for the next one."""
            loss, gradient, hessian = evaluate(state.proposal)
            better = (loss < state.loss) & jnp.all(jnp.isfinite(hessian))
            theta = jnp.where(better, state.proposal, state.theta)
            loss = jnp.where(better, loss, state.loss)
            gradient = jnp.where(better, gradient, state.gradient)
            hessian = jnp.where(better, hessian, state.hessian)
            damping = jnp.where(better, jnp.maximum(state.damping / 6.0, 1e-9), state.damping * 5.0)
            step, expected = _newton_step(theta, gradient, hessian, damping, may_move, low, high)
            finished = (expected < 1e-10 * (1.0 + jnp.abs(loss))) | (damping > 1e9) | ~jnp.isfinite(loss)
            proposal = jnp.clip(theta + step, low, high)
            return _State(theta, loss, gradient, hessian, proposal, damping, state.step + 1, finished)

        zeros, unknown, unfinished = jnp.zeros_like(start), jnp.asarray(jnp.inf), jnp.asarray(False)
        state = _State(start, unknown, zeros, jnp.diag(zeros), start, jnp.asarray(0.2), jnp.asarray(0), unfinished)
        state = jax.lax.while_loop(lambda s: (s.step < MAX_STEPS) & ~s.finished, advance, state)
        return state.theta, state.loss, state.finished

    return jax.vmap(search)(starts, weights, free)


def minimise(
    problem: Problem,
    starts: Float[np.ndarray, "runs parameters"],
    weights: Float[np.ndarray, "runs rows"] | None = None,
    free: np.ndarray | None = None,
) -> Solutions:
    """Minimise sum of weight * row loss from every start.

    Args:
        starts: in the coordinates of the search, centred.
        weights: a weight per row and run (bootstrap counts, zeros for rows left out); `problem.weights` if not given.
        free: which parameters may move, per run; all of them if not given.
    """
    runs = len(starts)
    low, high = bounds_of(problem.law)
    starts = np.clip(starts, low, high)
    weights = np.tile(problem.weights, (runs, 1)) if weights is None else weights
    free = np.ones(starts.shape, bool) if free is None else free
    found = []
    for first in range(0, runs, BATCH):
        chosen = np.minimum(np.arange(first, first + BATCH), runs - 1)
        batch = _minimise_batch(
            problem.law, starts[chosen], weights[chosen], free[chosen], problem.columns, problem.response,
            problem.noise, problem.delta, low, high,
        )  # fmt: skip
        found.append([np.asarray(part)[: runs - first] for part in batch])
    theta, loss, finished = (np.concatenate(part) for part in zip(*found, strict=True))
    moved = np.abs(theta - starts).max(axis=1) > 1e-6
    return Solutions(theta, np.where(np.isfinite(loss), loss, np.inf), moved, finished)


def grid_of_starts(law: Law) -> Float[np.ndarray, "runs parameters"]:
    """Every combination of the starts that a law declares, in the coordinates of the search."""
    parameters = parameters_of(law)
    axes = [np.log(p.starts) if p.transform == "log" else np.asarray(p.starts, float) for p in parameters]
    return np.array(list(itertools.product(*axes)))


def best_and_runners_up(solutions: Solutions, count: int) -> Float[np.ndarray, "count parameters"]:
    """The end points of the `count` best runs that differ from each other: starts for what follows a first search."""
    order = np.argsort(solutions.loss, kind="stable")
    chosen = [order[0]]
    for run in order[1:]:
        if len(chosen) == count or not np.isfinite(solutions.loss[run]):
            break
        if all(np.abs(solutions.theta[run] - solutions.theta[other]).max() > 1e-2 for other in chosen):
            chosen.append(run)
    return solutions.theta[chosen]


def status_of(problem: Problem, solutions: Solutions) -> FitStatus:
    """What the best of these runs amounts to. `not_identified` is for `identify` to say."""
    best = int(np.argmin(solutions.loss))
    if not np.isfinite(solutions.loss[best]):
        return FitStatus.FAILED
    if not solutions.moved[best]:
        return FitStatus.DID_NOT_MOVE
    if not solutions.finished[best]:
        return FitStatus.MAX_ITER
    # The law's own constants: the scatter's lowest value means that there is none.
    low, high = (bound[: len(problem.law.parameters)] for bound in bounds_of(problem.law))
    theta = solutions.theta[best][: len(low)]
    return FitStatus.AT_BOUND if np.any((theta - low < 1e-6) | (high - theta < 1e-6)) else FitStatus.CONVERGED
