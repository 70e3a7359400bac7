"""The minimiser: many searches at once, in float64, over slots that are refilled.

One compiled program serves multi-start, bootstrap, profile and cross-validation. Each run, a search from one start, has
its own row weights, its own responses and its own set of free parameters. A slot whose run has ended takes the next
one, so that no run waits for the slowest of a batch; every core has its own slots.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import jax
import numpy as np
from jaxtyping import Float

from harness.fit.problem.centred import Problem
from harness.fit.problem.fit_status import FitStatus
from harness.fit.problem.model import StatisticalModel, bounds_of, ends_of_range, in_logs, is_linear
from harness.fit.problem.program import program
from harness.fit.search.levenberg_marquardt import Slots, take_step, tangents

MAX_STEPS = 400  # after which a run is stopped, and counts as not finished
# Steps between two checks of which runs have ended. A run takes about 24 steps; with 8, a sixth of the steps are idle.
STEPS_PER_CALL = 8


@dataclass(frozen=True)
class Solutions:
    """The end points of a batch of searches, one row per run, in the coordinates of `model.parameters`.

    Attributes:
        distance: how far each run went from its start, in the coordinates of the search (largest of the parameters).
        finished: whether a run ended before its steps ran out.
    """

    starts: Float[np.ndarray, "runs parameters"]
    theta: Float[np.ndarray, "runs parameters"]
    loss: Float[np.ndarray, "runs"]
    distance: Float[np.ndarray, "runs"]
    finished: np.ndarray

    @property
    def best(self) -> int:
        """The run with the lowest loss."""
        return int(np.argmin(self.loss))

    def of_runs(self, runs: np.ndarray) -> "Solutions":
        """The end points of some of the runs."""
        return Solutions(*(getattr(self, field.name)[runs] for field in fields(self)))


@program
def _advance_slots(model: StatisticalModel, once, slots, weights, free, targets, columns, noise, options, low, high):
    def of_slot(slot: Slots, weight, may_move, target) -> Slots:
        def step(_, state: Slots) -> Slots:
            features, slopes = tangents(model, state.values, columns, noise, once)
            return take_step(model, state, features, slopes, weight, may_move, target, noise, options, low, high)

        return jax.lax.fori_loop(0, STEPS_PER_CALL, step, slot)

    return jax.vmap(of_slot)(slots, weights, free, targets)


def padded_length(rows: int) -> int:
    """`rows` rounded up to 2^k times 1, 1.25, 1.5 or 1.75: tables of similar length share a compiled program."""
    if rows <= 16:
        return 16
    quarter = 2 ** (int(np.floor(np.log2(rows - 1))) - 2)
    return int(quarter * np.ceil(rows / quarter))


def slots_for(problem: Problem) -> int:
    """How many searches a core advances at once (its slots): enough for its vector units, few enough for its cache."""
    numbers = sum(np.size(values) for values in problem.columns.values()) / max(len(problem.columns), 1)
    return int(2 ** np.clip(np.floor(np.log2(32 * 256 / numbers)), 0, 5))


def _without_held_out(problem: Problem, *of_runs: Callable[[int], np.ndarray] | None):
    """Restrict the problem and the functions run -> values per row to the fitted rows: other rows would cost time."""
    rows = problem.fitted
    if rows.all():
        return problem, *of_runs
    return problem.select(rows), *(None if of is None else lambda run, of=of: of(run)[rows] for of in of_runs)


def minimise(
    problem: Problem,
    starts: Float[np.ndarray, "runs parameters"],
    weights: Callable[[int], Float[np.ndarray, "rows"]] | None = None,
    free: np.ndarray | None = None,
    targets: Callable[[int], Float[np.ndarray, "rows"]] | None = None,
) -> Solutions:
    """Minimise the sum of weight * row loss from every start by Levenberg-Marquardt (`levenberg_marquardt`).

    Each run ends at a stationary point of its own objective within the bounds, after `MAX_STEPS`, or with an infinite
    loss if its start has no finite one. This is not a global search: give it starts that cover the ranges.

    Args:
        starts: points in the coordinates of the search, centred.
        weights: run -> a weight per row (bootstrap counts, zeros for rows left out); `problem.weights` if not given.
        free: which parameters may move, per run; all of them if not given.
        targets: run -> the values to fit, such as simulated responses; `problem.target` if not given.
    """
    problem, weights, targets = _without_held_out(problem, weights, targets)
    model, runs, count = problem.model, len(starts), len(problem.model.parameters)
    low, high = bounds_of(model)
    starts = np.clip(starts, low, high)
    free = np.ones(starts.shape, bool) if free is None else free
    values = np.where(in_logs(model), np.exp(np.where(in_logs(model), starts, 0.0)), starts)
    theta, loss = starts.copy(), np.full(runs, np.inf)
    finished = np.zeros(runs, bool)
    cores = min(len(os.sched_getaffinity(0)), runs)
    slots = slots_for(problem)
    rows = len(problem.target)
    extra = padded_length(rows) - rows

    def padded(values: np.ndarray, fill: float | None = None) -> np.ndarray:
        more = np.repeat(values[:1], extra, axis=0) if fill is None else np.full((extra, *values.shape[1:]), fill)
        return np.concatenate([values, more])

    columns, noise = {name: padded(column) for name, column in problem.columns.items()}, padded(problem.noise)
    blur = model.objective.first_blur
    waiting, lock = iter(range(runs)), threading.Lock()

    def work() -> None:
        running = np.full(slots, -1)
        state = Slots(
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
            state = Slots(*(np.array(part) for part in after))
            for slot in np.flatnonzero((running >= 0) & (state.finished | (state.steps >= MAX_STEPS))):
                run = running[slot]
                theta[run], loss[run], finished[run] = state.theta[slot], state.loss[slot], state.finished[slot]
                running[slot], state.finished[slot] = -1, True

    with ThreadPoolExecutor(cores) as pool:
        for worker in [pool.submit(work) for _ in range(cores)]:
            worker.result()
    loss[~np.isfinite(loss)] = np.inf
    return Solutions(starts, theta, loss, np.abs(theta - starts).max(axis=1), finished)


def minimise_cases(
    problem: Problem,
    starts: Float[np.ndarray, "cases starts parameters"],
    weights: Callable[[int], Float[np.ndarray, "rows"]] | None = None,
    free: np.ndarray | None = None,
    targets: Callable[[int], Float[np.ndarray, "rows"]] | None = None,
) -> Solutions:
    """The best end point of each case, such as a bootstrap draw, a fold, or an end of a parameter's range.

    Args:
        starts: the starts of each case.
        weights, targets: as for `minimise`, but functions of the case.
        free: which parameters may move, for all cases or per case.
    """
    cases, runs, count = starts.shape

    def of_run(of_case: Callable[[int], np.ndarray] | None) -> Callable[[int], np.ndarray] | None:
        return None if of_case is None else lambda run: of_case(run // runs)

    may_move = None if free is None else np.broadcast_to(free, (cases, count)).repeat(runs, axis=0)
    ends = minimise(problem, starts.reshape(-1, count), of_run(weights), may_move, of_run(targets))
    return ends.of_runs(ends.loss.reshape(cases, runs).argmin(axis=1) + runs * np.arange(cases))


def best_and_runners_up(solutions: Solutions, count: int) -> Float[np.ndarray, "count parameters"]:
    """The end points of the `count` best runs that differ from each other, as starts for refits."""
    order = np.argsort(solutions.loss, kind="stable")
    chosen = [order[0]]
    for run in order[1:]:
        if len(chosen) == count or not np.isfinite(solutions.loss[run]):
            break
        if all(np.abs(solutions.theta[run] - solutions.theta[other]).max() > 1e-2 for other in chosen):
            chosen.append(run)
    return solutions.theta[chosen]


def status_of(problem: Problem, solutions: Solutions) -> FitStatus:
    """How the best of these runs ended. Only `identify` can tell whether the parameters are identified."""
    best = solutions.best
    if not np.isfinite(solutions.loss[best]):
        return FitStatus.FAILED
    # Where the law is linear in every constant, the start is the exact solution and need not move.
    if solutions.distance[best] <= 1e-6 and not is_linear(problem.model).all():
        return FitStatus.DID_NOT_MOVE
    if not solutions.finished[best]:
        return FitStatus.MAX_ITER
    # Only the law's own constants count: a scatter at its lowest value means that there is no scatter.
    ends = ends_of_range(problem.model, solutions.theta[best])[: len(problem.law.parameters)]
    return FitStatus.AT_BOUND if ends.any() else FitStatus.CONVERGED
