"""The minimiser: many Levenberg-Marquardt searches at once, in float64, over slots that are refilled.

One compiled program serves multi-start, bootstrap, profile and cross-validation: a run has its own start, its own row
weights, its own responses and its own set of free parameters. A slot whose run has ended takes the next one, so that no
run waits for the slowest of a batch; every core has its own slots. A step solves

    (J' (c + damping * b) J) step = -J' s

with J the Jacobian of what the losses depend on, s their slopes, c their curvatures, and b curvatures that bound them.
With damping 1 that is reweighted least squares, which goes downhill from far away; with damping 0 it is Newton's method
on the rows inside Huber's corner, which ends in a few steps.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws.law import backward, named
from harness.fit.problem.objective import Model, Options
from harness.fit.problem.problem import Problem
from harness.fit.problem.program import program
from harness.fit.search.status import FitStatus

MAX_STEPS = 400
# Steps of a slot between two looks at which runs have ended: at 24 steps a run, 8 leave a sixth of them idle.
STEPS_PER_CALL = 8
LARGEST_STEP = 3.0
# Huber's corner is first this many times as wide, then narrowed by the factor each time a search has nearly ended.
FIRST_BLUR = 1000.0
NARROWING = 31.7
NEARLY = 1e-2
RESTART = 1.0


@dataclass(frozen=True)
class Solutions:
    """Where the runs of a batch ended; coordinates are those of `model.parameters`.

    Attributes:
        distance: how far a run went from its start, in the coordinates of the search (largest of the parameters).
        steps: evaluations of the loss.
    """

    starts: Float[np.ndarray, "runs parameters"]
    theta: Float[np.ndarray, "runs parameters"]
    loss: Float[np.ndarray, "runs"]
    distance: Float[np.ndarray, "runs"]
    finished: np.ndarray
    steps: np.ndarray

    @property
    def moved(self) -> np.ndarray:
        return self.distance > 1e-6


class _Slots(NamedTuple):
    """One run a slot, on the host; every field has a leading axis of slots."""

    theta: Any
    loss: Any
    gradient: Any
    curvature: Any
    majoriser: Any
    proposal: Any
    values: Any
    damping: Any
    blur: Any
    steps: Any
    finished: Any


def bounds_of(model: Model) -> tuple[Float[np.ndarray, "parameters"], Float[np.ndarray, "parameters"]]:
    """The edges of the search in the coordinates of the search."""
    ends = np.array([(p.low, p.high) for p in model.parameters], float)
    logs = _logs(model)
    ends[logs] = np.log(ends[logs])
    return ends[:, 0], ends[:, 1]


def features_of(model: Model, theta, columns, noise) -> tuple[Float[Array, "rows"], ...]:
    """What the losses of the rows depend on, as a function of the coordinates of the search."""
    return _features(model, jnp.stack([backward(p, theta[i]) for i, p in enumerate(model.parameters)]), columns, noise)


def _features(model: Model, values: Float[Array, "parameters"], columns, noise):
    """The same of the parameters themselves, in natural units."""
    by_name = named(model.parameters, values)
    rows = jnp.zeros(noise.shape)  # a law may not depend on the row
    return model.objective.features(model.law.predict(by_name, columns) + rows, noise, by_name)


def row_losses(model: Model, theta, columns, target, noise, options: Options) -> Float[Array, "rows"]:
    return model.objective.rows(features_of(model, theta, columns, noise), target, noise, options)


def _tangents(model: Model, values, columns, noise, once):
    """Features of the rows, and their derivatives in the parameters (natural units).

    In two loops of `once` = 1 turns, across which XLA does not fuse: what the derivatives share is computed once, not
    for each of them, nor again for each entry of the products they go into (34 us a step instead of 5, with 240 rows
    and 5 parameters).
    """
    tree = []

    def shared(v):
        features, push = jax.linearize(lambda at: _features(model, at, columns, noise), v)
        leaves, structure = jax.tree.flatten(push)
        tree.append(structure)
        return features, leaves

    features, leaves = _apart(shared, values, once)

    def each(parts):
        return jax.vmap(jax.tree.unflatten(tree[-1], parts))(jnp.eye(len(model.parameters)))

    return features, _apart(each, leaves, once)


def _apart(function: Callable, argument, once):
    nothing = jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), jax.eval_shape(function, argument))
    return jax.lax.fori_loop(0, once, lambda _, __: function(argument), nothing)


def _matrices(model: Model, features, slopes, weight, target, noise, options: Options):
    """Loss, gradient, and the two curvature matrices; rows of weight zero count nothing even if they are not finite."""
    losses = model.objective.rows(features, target, noise, options)
    loss = jnp.sum(jnp.where(weight > 0, weight * losses, 0.0))
    count = len(model.parameters)
    total = jnp.zeros((2 * count + 1, count))
    for cost, tangent in zip(model.objective.costs(features, target, noise, options), slopes, strict=True):
        tangent = jnp.where(weight > 0, tangent, 0.0)
        parts = [tangent * (weight * cost.curvature), tangent * (weight * cost.majoriser), (weight * cost.slope)[None]]
        # One product of matrices for all three: sums over rows one by one take twice the time on CPUs.
        total += jnp.concatenate(parts) @ tangent.T
    return loss, total[-1], total[:count], total[count : 2 * count]


def _solve(matrix: Float[Array, "p p"], right: Float[Array, "p"]) -> Float[Array, "p"]:
    """Gauss-Jordan without pivoting, for positive matrices: LAPACK is called slot by slot, and takes most of a step."""
    rows = jnp.concatenate([matrix, right[:, None]], axis=1)
    for k in range(len(right)):
        pivot = rows[k] / rows[k, k]
        rows = (rows - rows[:, k : k + 1] * pivot).at[k].set(pivot)
    return rows[:, -1]


def _logs(model: Model) -> np.ndarray:
    return np.array([p.transform == "log" for p in model.parameters])


def _linear(model: Model) -> np.ndarray:
    return np.array([(p.of or p.name) in model.law.linear for p in model.parameters])


def _advance(model: Model, slot: _Slots, features, slopes, weight, free, target, noise, options, low, high) -> _Slots:
    """Take a proposal or leave it, given the features and their derivatives there, and propose the next one."""
    blurred = options._replace(delta=options.delta * slot.blur)
    loss, gradient, curvature, majoriser = _matrices(model, features, slopes, weight, target, noise, blurred)
    unit = jnp.where(_logs(model), slot.values, 1.0)  # d value / d coordinate
    matrices = (gradient * unit, curvature * unit[:, None] * unit, majoriser * unit[:, None] * unit)
    finite = jnp.isfinite(loss) & jnp.all(jnp.stack([jnp.all(jnp.isfinite(m)) for m in matrices]))
    better = finite & (loss < slot.loss) & ~slot.finished
    old = (slot.loss, slot.gradient, slot.curvature, slot.majoriser)
    loss, gradient, curvature, majoriser = (
        jnp.where(better, new, before) for new, before in zip((loss, *matrices), old, strict=True)
    )
    theta = jnp.where(better, slot.proposal, slot.theta)
    damping = jnp.where(better, jnp.maximum(slot.damping / 5.0, 1e-7), slot.damping * 4.0)
    held = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
    active = free & ~held
    gradient_ = jnp.where(active, gradient, 0.0)
    size = jnp.diagonal(majoriser)
    # Directions of no curvature get a floor: without it a term that has vanished would send the step to infinity.
    diagonal = jnp.where(active, damping * 1e-8 * size + 1e-13 * jnp.max(size) + 1e-30, 1.0)
    matrix = jnp.where(active[:, None] & active[None, :], curvature + damping * majoriser, 0.0) + jnp.diag(diagonal)
    scale = jax.lax.rsqrt(jnp.maximum(jnp.diagonal(matrix), 1e-30))
    step = -scale * _solve(matrix * scale[:, None] * scale[None, :], scale * gradient_)
    step = jnp.where(jnp.isfinite(step), step, 0.0)
    promised = -jnp.sum(gradient_ * step)
    size, lost = model.objective.floor + jnp.abs(loss), ~jnp.isfinite(loss)
    ended = (promised < 1e-10 * size) | (damping > 1e9)
    step = jnp.clip(step, -LARGEST_STEP, LARGEST_STEP)
    # In a linear constant the step is exact for the constant itself, not for its log.
    step = jnp.where(_logs(model) & _linear(model), jnp.log1p(jnp.maximum(step, -0.9)), step)
    proposal = jnp.clip(theta + step, low, high)
    # The loss of another corner is another loss: what comes next is taken whatever it is.
    narrow = ~slot.finished & (slot.blur > 1.0) & ((promised < NEARLY * size) | ended) & ~lost
    blur = jnp.where(narrow, jnp.maximum(slot.blur / NARROWING, 1.0), slot.blur)
    loss, damping = jnp.where(narrow, jnp.inf, loss), jnp.where(narrow, RESTART, damping)
    ended = slot.finished | lost | (ended & (slot.blur == 1.0))
    steps = slot.steps + ~slot.finished
    values = jnp.where(_logs(model), jnp.exp(proposal), proposal)
    return _Slots(theta, loss, gradient, curvature, majoriser, proposal, values, damping, blur, steps, ended)


@program
def _advance_slots(model: Model, once, slots, weights, free, targets, columns, noise, options, low, high):
    def one(slot: _Slots, weight, may_move, target) -> _Slots:
        def step(_, state: _Slots) -> _Slots:
            features, slopes = _tangents(model, state.values, columns, noise, once)
            return _advance(model, state, features, slopes, weight, may_move, target, noise, options, low, high)

        return jax.lax.fori_loop(0, STEPS_PER_CALL, step, slot)

    return jax.vmap(one)(slots, weights, free, targets)


def padded_length(rows: int) -> int:
    """The next of 2^k times 1, 1.25, 1.5, 1.75: tables of nearly one length share a compiled program."""
    if rows <= 16:
        return 16
    quarter = 2 ** (int(np.floor(np.log2(rows - 1))) - 2)
    return int(quarter * np.ceil(rows / quarter))


def slots_for(problem: Problem) -> int:
    """How many runs a core carries at once: enough to fill vectors, few enough to stay in its cache."""
    numbers = sum(np.size(values) for values in problem.columns.values()) / max(len(problem.columns), 1)
    return int(2 ** np.clip(np.floor(np.log2(32 * 256 / numbers)), 0, 5))


def _without_held_out(problem: Problem, *of_runs: Callable[[int], np.ndarray] | None):
    """The same search over fitted rows alone (rows of weight zero cost as much time), with what is given by run."""
    rows = problem.fitted
    if rows.all():
        return problem, *of_runs
    fitted = replace(
        problem,
        columns={name: values[rows] for name, values in problem.columns.items()},
        response=problem.response[rows],
        noise=problem.noise[rows],
        cluster=problem.cluster[rows],
        fitted=rows[rows],
    )
    return fitted, *(None if of is None else lambda run, of=of: of(run)[rows] for of in of_runs)


def minimise(
    problem: Problem,
    starts: Float[np.ndarray, "runs parameters"],
    weights: Callable[[int], Float[np.ndarray, "rows"]] | None = None,
    free: np.ndarray | None = None,
    targets: Callable[[int], Float[np.ndarray, "rows"]] | None = None,
) -> Solutions:
    """Minimise sum of weight * row loss from every start.

    Args:
        starts: in the coordinates of the search, centred.
        weights: run -> a weight per row (bootstrap counts, zeros for rows left out); `problem.weights` if not given.
        free: which parameters may move, per run; all of them if not given.
        targets: run -> what it is fitted to, such as simulated responses; `problem.target` if not given.
    """
    problem, weights, targets = _without_held_out(problem, weights, targets)
    model, runs, count = problem.model, len(starts), len(problem.model.parameters)
    low, high = bounds_of(model)
    starts = np.clip(starts, low, high)
    free = np.ones(starts.shape, bool) if free is None else free
    values = np.where(_logs(model), np.exp(np.where(_logs(model), starts, 0.0)), starts)
    theta, loss = starts.copy(), np.full(runs, np.inf)
    finished, steps = np.zeros(runs, bool), np.zeros(runs, int)
    cores = min(len(os.sched_getaffinity(0)), runs)
    slots = slots_for(problem)
    rows = len(problem.target)
    extra = padded_length(rows) - rows

    def padded(values: np.ndarray, fill: float | None = None) -> np.ndarray:
        more = np.repeat(values[:1], extra, axis=0) if fill is None else np.full((extra, *values.shape[1:]), fill)
        return np.concatenate([values, more])

    columns, noise = {name: padded(column) for name, column in problem.columns.items()}, padded(problem.noise)
    blur = FIRST_BLUR if model.objective.id == "log_huber" else 1.0
    waiting, lock = iter(range(runs)), threading.Lock()

    def work() -> None:
        running = np.full(slots, -1)
        state = _Slots(
            np.zeros((slots, count)), np.zeros(slots), np.zeros((slots, count)), np.zeros((slots, count, count)),
            np.zeros((slots, count, count)), np.zeros((slots, count)),
            np.ones((slots, count)), np.ones(slots), np.ones(slots),
            np.zeros(slots, int),
            np.ones(slots, bool),
        )  # fmt: skip
        weight, may_move = np.tile(padded(problem.weights, 0.0), (slots, 1)), np.ones((slots, count), bool)
        target = np.tile(padded(problem.target), (slots, 1))
        while True:
            for slot in np.flatnonzero(running < 0):
                with lock:
                    run = next(waiting, None)
                if run is None:
                    break
                running[slot], may_move[slot] = run, free[run]
                if weights is not None:
                    weight[slot, :rows] = weights(run)
                if targets is not None:
                    target[slot, :rows] = targets(run)
                fresh = (starts[run], np.inf, 0.0, 0.0, 0.0, starts[run], values[run], 1.0, blur, 0, False)
                for field, value in zip(state, fresh, strict=True):
                    field[slot] = value
            if np.all(running < 0):
                return
            after = _advance_slots(
                model, 1, state, weight, may_move, target, columns, noise, problem.options, low, high,
            )  # fmt: skip
            state = _Slots(*(np.array(part) for part in after))
            for slot in np.flatnonzero((running >= 0) & (state.finished | (state.steps >= MAX_STEPS))):
                run = running[slot]
                theta[run], loss[run], steps[run] = state.theta[slot], state.loss[slot], state.steps[slot]
                finished[run], running[slot] = state.finished[slot], -1
                state.finished[slot] = True

    with ThreadPoolExecutor(cores) as pool:
        for worker in [pool.submit(work) for _ in range(cores)]:
            worker.result()
    loss[~np.isfinite(loss)] = np.inf
    return Solutions(starts, theta, loss, np.abs(theta - starts).max(axis=1), finished, steps)


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
    # Where every constant is linear, the start is solved exactly: there is nowhere to go.
    if not solutions.moved[best] and not _linear(problem.model).all():
        return FitStatus.DID_NOT_MOVE
    if not solutions.finished[best]:
        return FitStatus.MAX_ITER
    # The law's own constants: the scatter's lowest value means that there is none.
    low, high = (bound[: len(problem.law.parameters)] for bound in bounds_of(problem.model))
    theta = solutions.theta[best][: len(low)]
    return FitStatus.AT_BOUND if np.any((theta - low < 1e-6) | (high - theta < 1e-6)) else FitStatus.CONVERGED
