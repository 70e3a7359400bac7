"""Profile likelihood: 95 % intervals from its fall when one constant is fixed and the others are refitted.

They are computed on request (`--profile`), beside the intervals of `intervals`.
"""

from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from harness.fit.certainty.identifiability import Identified
from harness.fit.certainty.information import covariance
from harness.fit.problem.centred import Problem
from harness.fit.problem.likelihood import evidence_per_loss
from harness.fit.problem.model import StatisticalModel
from harness.fit.problem.raw_units import raw_coordinates
from harness.fit.search.solver import minimise

# Distances from the estimate, in standard errors, at which a profile is evaluated. A quadratic log likelihood has its
# 95 % limit at 1.96; a skewed one may have it much farther out.
STEPS = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 9.0, 14.0])
CONFIDENCE = 0.975  # quantile of Student's t at the end of a two-sided 95 % interval
WIDEST = 1e250  # the largest raw value that a profile tries (the least is its inverse): beyond any real constant


def raw_problem(problem: Problem) -> Problem:
    """The same rows in raw units, so that a prefactor is a coordinate of the search and can be fixed."""
    law = problem.law
    wide = [replace(p, low=1.0 / WIDEST, high=WIDEST) if p.transform == "log" else p for p in law.parameters]
    scale = problem.scales[law.response]
    return replace(
        problem,
        model=StatisticalModel(law.on_raw_columns(tuple(wide)), problem.model.objective),
        columns=problem.raw_columns,
        response=problem.response * scale,
        noise=problem.noise * scale,
        scales={name: 1.0 for name in problem.scales},
    )


def limit_of(rows: float, degrees: int) -> float:
    """The fall of 2 log L at the end of a 95 % interval, chosen to match a t test: 3.84 with many rows."""
    spare = max(rows - degrees, 1.0)
    return float(rows * np.log1p(stdtrit(spare, CONFIDENCE) ** 2 / spare))


def profile_intervals(
    problem: Problem, identified: Identified, degrees: int
) -> dict[str, tuple[float | None, float | None]]:
    """The 95 % interval of every identified constant of the law, in raw units; None on a side without a limit.

    For gaps the intervals are exact in the limit of many rows; for Huber fits they assume the density that the loss
    implies.
    """
    raw = raw_problem(problem)
    point = raw_coordinates(problem, identified.theta[None])[0]
    spread = covariance(problem, identified.theta)
    best = minimise(raw, point[None])
    start, loss = best.theta[0], float(best.loss[0])
    unit = 2 * evidence_per_loss(raw, start)
    limit = limit_of(problem.weights.sum(), degrees)
    chosen = [i for i, known in enumerate(identified.identified[: len(problem.law.parameters)]) if known]
    points, free = [], []
    for i in chosen:
        error = np.sqrt(max(spread[i, i], 1e-300))
        for offset in (*-STEPS, *STEPS):
            # The other parameters start where a quadratic log likelihood would have its conditional maximum.
            points.append(start + spread[:, i] / max(spread[i, i], 1e-300) * offset * error)
            free.append(np.arange(len(start)) != i)
    if not points:
        return {}
    refits = minimise(raw, np.array(points), free=np.array(free))
    falls = (unit * (refits.loss - loss)).reshape(len(chosen), 2, len(STEPS))
    intervals: dict[str, tuple[float | None, float | None]] = {}
    for row, i in enumerate(chosen):
        parameter, error = problem.law.parameters[i], np.sqrt(spread[i, i])
        ends = []
        for side, sign in enumerate((-1.0, 1.0)):
            steps = _crossing(falls[row, side], limit)
            value = None if steps is None else start[i] + sign * steps * error
            ends.append(None if value is None else float(np.exp(value) if parameter.transform == "log" else value))
        intervals[parameter.name] = (ends[0], ends[1])
    return intervals


def _crossing(falls: np.ndarray, limit: float) -> float | None:
    """Where the profile crosses the limit, in standard errors. Its square root, nearly a line, is interpolated."""
    beyond = np.flatnonzero(falls > limit)
    if not len(beyond):
        return None
    last = beyond[0]
    low_step, low_root = (0.0, 0.0) if last == 0 else (STEPS[last - 1], np.sqrt(max(falls[last - 1], 0.0)))
    high_root = np.sqrt(falls[last]) if np.isfinite(falls[last]) else np.inf
    share = 1.0 if not np.isfinite(high_root) else (np.sqrt(limit) - low_root) / max(high_root - low_root, 1e-12)
    return float(low_step + share * (STEPS[last] - low_step))
