"""The confidence set of a fit, as points: all constants that explain the rows nearly as well as the best ones.

The 95 % interval of a quantity (a constant, a combination, a prediction, an optimum) is the range that it takes where
the likelihood-ratio statistic is below its limit, all constants free (profile likelihood). With points that fill this
set to its edge, that range is the range over the points, for any quantity and without further refits.

Algorithm:
1. Traces: each constant of the law is moved away from the best fit on either side, and the others are refitted on the
   way, until the statistic reaches its limit or the constant the end of its range. A trace follows a curved valley.
2. Rays: from the best fit, from points on the traces and from other minima, straight lines in random directions,
   scaled by the local curvature, end where the statistic reaches its limit.

Guarantee: constants have their profile-likelihood interval as far as refits find the lowest loss. Other quantities have
at most that interval; `tests/harness/fit/certainty/test_confidence_set.py` compares it with constrained optimisation.

Not for: sets of several separate parts, of which only those that a search or a trace ended in are seen.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from harness.fit.certainty.information import errors_near, predictions_and_slopes
from harness.fit.certainty.likelihood_ratio import LikelihoodRatio, losses_at
from harness.fit.laws.law import Columns
from harness.fit.problem.centred import Problem
from harness.fit.problem.columns import SIZE_ROLES
from harness.fit.problem.model import bounds_of, in_logs, is_linear
from harness.fit.problem.raw_units import combination_values, raw_coordinates
from harness.fit.search.solver import minimise_cases

MOST_REFITS = 60  # refits along a trace, after which it is left open
TOLERANCE_AT_EDGE = 0.02  # how near, relative to the limit of the root of the statistic, a trace has to end
STRIDE = 0.25  # the aim for one step of a trace, as a share of that limit
RAYS_FROM_BEST, RAYS_FROM_OTHERS = 512, 512
RANDOM_QUANTITIES = 256  # random combinations of quantities whose extremes are kept
HALVINGS = 12  # of a ray's length: its end is known to 1/4000 of it
# A term that has vanished is tried again at this share of its declared start.
REVIVED = 0.3


@dataclass(frozen=True)
class ConfidenceSet:
    """Points of a 95 % confidence set, the best fit first, in the coordinates of the search.

    Attributes:
        traced: the points of the traces, the best fit first.
        limit: what the statistic reaches at the edge of the set.
        span: the width of each parameter's range.
        reached: the parameters whose trace reached the end of its range inside the set -> the last two points of that
            trace, for -1 (the lowest value) or 1 (the highest).
    """

    thetas: Float[np.ndarray, "points parameters"]
    traced: Float[np.ndarray, "traced parameters"]
    limit: float
    span: Float[np.ndarray, "parameters"]
    reached: dict[tuple[int, int], Float[np.ndarray, "2 parameters"]]


class BetterPoint(Exception):
    """A trace found a point of lower loss than the search did, so that the set has to be built about that point."""

    def __init__(self, theta: Float[np.ndarray, "parameters"]):
        super().__init__()
        self.theta = theta


def confidence_set(
    problem: Problem,
    ratio: LikelihoodRatio,
    minima: Float[np.ndarray, "minima parameters"],
    ends: Float[np.ndarray, "ends parameters"],
    *,
    final: bool = False,
    seed: int = 0,
) -> ConfidenceSet:
    """The set about a fit.

    Args:
        minima: end points of other searches, which count where the statistic is below the limit.
        ends: fits with a constant at an end of its range, which count whatever the statistic is there (`identify`).
        final: whether to go on where a trace finds a lower loss than that of the fit.

    Raises:
        BetterPoint: the fit is not the best one, and the set is not the final one.
    """
    traced, reached = _traces(problem, ratio, final)
    anchors = np.concatenate([ratio.theta[None], traced, minima, ends])
    falls = ratio.falls(anchors, losses_at(problem, anchors))
    limits = np.full(len(anchors), ratio.limit)
    limits[len(anchors) - len(ends) :] += falls[len(anchors) - len(ends) :]
    inside = falls <= limits
    inside[0] = True
    rays = _rays(problem, ratio, anchors[inside], falls[inside], limits[inside], np.random.default_rng(seed))
    low, high = bounds_of(problem.model)
    thetas = np.concatenate([anchors[inside], rays])
    kept = _outermost(problem, thetas, seed)
    return ConfidenceSet(kept, anchors[: 1 + len(traced)], ratio.limit, high - low, reached)


def _outermost(
    problem: Problem, thetas: Float[np.ndarray, "points parameters"], seed: int
) -> Float[np.ndarray, "kept parameters"]:
    """The best fit, and the points at which some quantity is largest or smallest.

    The quantities are the constants, in centred and in raw units, predictions of far points, the combinations that the
    law declares, and random combinations of these.
    """
    far = far_points(problem)
    parts = [thetas, raw_coordinates(problem, thetas)]
    parts += [] if far is None else [predictions_and_slopes(problem, thetas, far)[0]]
    parts += [combination_values(problem, thetas, c)[:, None] for c in problem.law.combinations]
    quantities = np.nan_to_num(np.concatenate(parts, axis=1), posinf=1e300, neginf=-1e300)
    quantities = quantities[:, np.abs(quantities).max(axis=0) < 1e200]
    centred = quantities - quantities[0]
    centred /= np.maximum(np.abs(centred).max(axis=0), 1e-300)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    whitened = centred @ vectors.T / np.maximum(values, 1e-6 * max(values[0], 1e-300))
    random = whitened @ np.random.default_rng(seed).standard_normal((whitened.shape[1], RANDOM_QUANTITIES))
    every = np.concatenate([centred, random], axis=1)
    kept = np.unique(np.concatenate([[0], every.argmin(axis=0), every.argmax(axis=0)]))
    return thetas[kept]


@dataclass(frozen=True)
class _Trace:
    """A trace of one quantity to one side: of a constant, or of the prediction of a far point.

    Attributes:
        constant, point: the index of the constant, or that of the point; None for the other.
        sign: the side, -1 or 1; `edge` is the end of the constant's range there.
        step: how far the quantity moves next; the trace ends where that would be below `least`.
        thetas: the last two points, the last one second; `at` has the quantity there.
        root: the root of the statistic at the last point.
    """

    constant: int | None
    point: int | None
    sign: int
    edge: float
    step: float
    least: float
    thetas: Float[np.ndarray, "2 parameters"]
    at: tuple[float, float]
    root: float = 0.0
    active: bool = True

    @property
    def aim(self) -> float:
        """The value of the quantity that is tried next."""
        return self.at[1] + self.sign * min(self.step, abs(self.edge - self.at[1]))

    @property
    def foreseen(self) -> Float[np.ndarray, "parameters"]:
        """The point on the straight line through the last two points that has this value."""
        past = self.at[1] - self.at[0]
        share = (self.aim - self.at[1]) / past if past else 0.0
        return self.thetas[1] + share * (self.thetas[1] - self.thetas[0])

    def moved(self, theta: Float[np.ndarray, "parameters"], at: float, root: float, top: float) -> "_Trace":
        """The trace after a refit that ended at `theta`; `top` is the root of the statistic's limit."""
        gained, gone = root - self.root, abs(at - self.at[1])
        if not root <= top * (1 + TOLERANCE_AT_EDGE):
            step = gone * np.clip((top - self.root) / gained, 0.1, 0.9) if np.isfinite(root) else 0.1 * self.step
            return replace(self, step=step, active=step > self.least)
        stuck = self.constant is None and gone < self.least
        return replace(
            self,
            thetas=np.stack([self.thetas[1], theta]),
            at=(self.at[1], at),
            root=root,
            step=self.step * np.clip(STRIDE * top / max(gained, 1e-9), 0.5, 3.0),
            active=not (abs(self.edge - at) < 1e-9 or root >= top * (1 - TOLERANCE_AT_EDGE) or stuck),
        )


def _started(
    problem: Problem, ratio: LikelihoodRatio, far: Columns | None
) -> tuple[list[_Trace], dict[tuple[int, int], np.ndarray], float]:
    """The traces at the best fit, the constants that stand at an end of their range there, and the weight of a pin.

    A pin is a row that holds the prediction of a far point at a value. Its weight is such that the prediction misses
    this value by less than 1/200 of a step.
    """
    low, high = bounds_of(problem.model)
    theta, errors = ratio.theta, errors_near(problem, ratio.theta)
    traces, reached, force = [], {}, 0.0
    both = np.stack([theta, theta])
    for i, error in enumerate(np.sqrt(np.sum(errors**2, axis=0))):
        for sign, edge in ((-1, low[i]), (1, high[i])):
            if abs(edge - theta[i]) < 1e-9:
                reached[i, sign] = both
            else:
                step = float(np.clip(error / 3.0, 1e-4, (high[i] - low[i]) / 10.0))
                traces.append(_Trace(i, None, sign, edge, step, step * 1e-3, both, (theta[i], theta[i])))
    if far is not None:
        values, slopes = predictions_and_slopes(problem, theta[None], far)
        for j, error in enumerate(np.sqrt(np.sum((slopes[0] @ errors.T) ** 2, axis=1))):
            step, value = float(max(error / 3.0, 1e-6)), float(values[0, j])
            force = max(force, 200.0 * np.sqrt(ratio.limit) / ratio.unit / step**2)
            traces += [
                _Trace(None, j, sign, sign * np.inf, step, step * 1e-3, both, (value, value)) for sign in (-1, 1)
            ]
    return traces, reached, force * (problem.options.delta**2 if problem.model.objective.huber else 1.0)


def _traces(
    problem: Problem, ratio: LikelihoodRatio, final: bool
) -> tuple[np.ndarray, dict[tuple[int, int], np.ndarray]]:
    """Points along the traces of every constant and of far predictions, and the ends of range that were reached."""
    # A pin would count for the scatter, too, where that is a parameter.
    far = far_points(problem) if problem.model.objective.variance is None else None
    traces, reached, force = _started(problem, ratio, far)
    pinned = problem if far is None else _with_rows(problem, far)
    rows, points = len(problem.target), []
    terms = np.flatnonzero(is_linear(problem.model) & in_logs(problem.model))
    revived = np.log([REVIVED * problem.model.parameters[i].starts[0] for i in terms])
    for _ in range(MOST_REFITS):
        if not traces:
            break
        starts = np.stack([np.stack([trace.foreseen, trace.thetas[1], trace.thetas[1]]) for trace in traces])
        free = np.ones((len(traces), starts.shape[2]), bool)
        weights, targets = np.zeros((len(traces), len(pinned.target))), np.tile(pinned.target, (len(traces), 1))
        weights[:, :rows] = problem.weights
        # A term that has vanished has no slope in its log: a search could never make it appear again.
        starts[:, 2, terms] = np.maximum(starts[:, 2, terms], revived)
        for k, trace in enumerate(traces):
            if trace.point is None:
                starts[k, :, trace.constant], free[k, trace.constant] = trace.aim, False
            else:
                weights[k, rows + trace.point], targets[k, rows + trace.point] = force, trace.aim
        found = minimise_cases(pinned, starts, weights.__getitem__, free, targets.__getitem__)
        losses = losses_at(problem, found.theta)
        if losses.min() < ratio.loss - 0.01 / ratio.unit and not final:
            raise BetterPoint(found.theta[np.argmin(losses)])
        values = None if far is None else predictions_and_slopes(problem, found.theta, far)[0]
        roots = np.sqrt(ratio.falls(found.theta, losses))
        going = []
        for k, trace in enumerate(traces):
            whole = found.theta[k, trace.constant] if values is None or trace.point is None else values[k, trace.point]
            at = float(whole)
            after = trace.moved(found.theta[k], at, float(roots[k]), float(np.sqrt(ratio.limit)))
            if after.thetas is not trace.thetas:
                points.append(found.theta[k])
            if after.active:
                going.append(after)
            elif trace.constant is not None and abs(trace.edge - after.at[1]) < 1e-9:
                reached[trace.constant, trace.sign] = after.thetas
        traces = going
    return np.array(points).reshape(-1, len(ratio.theta)), reached


def _with_rows(problem: Problem, points) -> Problem:
    """The problem with further rows that count only where a refit gives them a weight."""
    more = len(next(iter(points.values())))

    def longer(values, fill):
        return np.concatenate([values, np.full(more, fill, dtype=values.dtype)])

    return replace(
        problem,
        columns={name: np.concatenate([values, points[name]]) for name, values in problem.columns.items()},
        response=longer(problem.response, 1.0),
        noise=longer(problem.noise, 0.0),
        cluster=longer(problem.cluster, 0),
        fitted=longer(problem.fitted, True),
    )


def _rays(
    problem: Problem,
    ratio: LikelihoodRatio,
    anchors: Float[np.ndarray, "anchors parameters"],
    falls: Float[np.ndarray, "anchors"],
    limits: Float[np.ndarray, "anchors"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "rays parameters"]:
    """Where rays from the anchors, the best fit first, leave the set."""
    low, high = bounds_of(problem.model)
    each = np.zeros(len(anchors), int)
    each[0] = RAYS_FROM_BEST
    chosen = 1 + np.unique(np.linspace(0, max(len(anchors) - 2, 0), 64).astype(int)) if len(anchors) > 1 else []
    each[chosen] = RAYS_FROM_OTHERS // max(len(chosen), 1)
    starts, directions, bounds = [], [], []
    far = far_points(problem)
    slopes = np.zeros((len(anchors), 0, len(low))) if far is None else predictions_and_slopes(problem, anchors, far)[1]
    for anchor, fall, limit, number, slope in zip(anchors, falls, limits, each, slopes, strict=True):
        if not number:
            continue
        errors = errors_near(problem, anchor)
        random = rng.standard_normal((number, len(errors)))
        random = np.vstack([random, slope @ errors.T, -slope @ errors.T])
        random /= np.maximum(np.abs(random).max(axis=1, keepdims=True), 1e-300)
        random /= np.maximum(np.linalg.norm(random, axis=1, keepdims=True), 1e-300)
        directions.append(random @ errors * np.sqrt(max(limit - fall, 0.0)))
        bounds.append(np.full(len(random), limit))
        starts.append(np.tile(anchor, (len(random), 1)))
    start, direction, bound = np.concatenate(starts), np.concatenate(directions), np.concatenate(bounds)
    shortest, longest = np.zeros(len(start)), np.full(len(start), 3.0)
    for _ in range(HALVINGS):
        middle = (shortest + longest) / 2
        thetas = np.clip(start + middle[:, None] * direction, low, high)
        inside = ratio.falls(thetas, losses_at(problem, thetas)) <= bound
        shortest, longest = np.where(inside, middle, shortest), np.where(inside, longest, middle)
    return np.clip(start + shortest[:, None] * direction, low, high)


# How far beyond the largest run lie the points whose predictions are traced: all sizes, or one size, times a factor.
ALL_TIMES, ONE_TIMES = (np.sqrt(10.0), 10.0, 100.0, 1000.0), (30.0, 1000.0)


def far_points(problem: Problem) -> dict[str, Float[np.ndarray, "points ..."]] | None:
    """Points beyond the largest fitted run (centred columns); None for a law without sizes, or that derives columns."""
    law, columns = problem.law, problem.columns
    sizes = [name for name in SIZE_ROLES if name in law.columns and name not in law.signed]
    if law.derive is not None or not sizes:
        return None
    fitted = np.flatnonzero(problem.fitted)
    largest = fitted[np.argmax(np.sum([np.log(columns[name][fitted]) for name in sizes], axis=0))]
    tried = [dict.fromkeys(sizes, factor) for factor in ALL_TIMES]
    tried += [{name: factor} for name in sizes for factor in ONE_TIMES] if len(sizes) > 1 else []
    points = {name: np.repeat(values[[largest]], len(tried), axis=0) for name, values in columns.items()}
    for name in sizes:
        points[name] = points[name] * np.array([factors.get(name, 1.0) for factors in tried])
    return points
