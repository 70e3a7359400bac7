"""Estimates of parameters and of identified combinations, with standard errors and 95 % intervals, in raw units."""

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, stdtrit

from harness.fit.certainty.identifiability import Identified
from harness.fit.certainty.information import covariance
from harness.fit.laws.law import Combination, Law, stacked
from harness.fit.problem.centred import Problem
from harness.fit.problem.raw_units import function_of_raw, raw_coordinates, raw_map, raw_point, raw_values
from harness.fit.results.result import CombinationEstimate, Estimate

LEVEL = 95.0
AT_BOUND_SHARE = 0.025
# The most that an interval from the curvature extends to either side, in logs: no constant is uncertain by e^100.
LARGEST_LOG_ERROR = 100.0


def deviation(draws: Float[np.ndarray, "draws"]) -> float:
    """A standard deviation that a few outlying draws do not move: half the span of the middle 68.27 %."""
    return float(np.subtract(*np.percentile(draws, [84.135, 15.865])) / 2)


def tail(clusters: int, degrees: int) -> float:
    """The share of draws on either side of a 95 % interval: 2.5 % with many clusters, less with few.

    A bootstrap of n clusters is too narrow: its spread is too small by sqrt((n - p)/n), and its quantiles are those of
    a normal in place of Student's. The share makes up for both, as in the expanded percentile interval of Hesterberg
    2015 (The American Statistician 69, 371).
    """
    spare = max(clusters - degrees, 1)
    return float(ndtr(-np.sqrt(clusters / spare) * stdtrit(spare, 0.5 + LEVEL / 200)))


def percentiles(draws: Float[np.ndarray, "draws ..."], level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """The limits of the middle `level` % of the draws, for one quantity or for several side by side."""
    low, high = np.percentile(draws, [50 - level / 2, 50 + level / 2], axis=0)
    return low, high


def interval(
    draws: Float[np.ndarray, "draws"], at_end: np.ndarray | None = None, share: float = (1 - LEVEL / 100) / 2
) -> tuple[float | None, float | None]:
    """Percentile interval with `share` of the draws beyond either end.

    A side is None if more than 2.5 % of the draws stopped at that end of the parameter's range (`at_end`): the
    percentile would describe the range, not the data.
    """
    low, high = np.quantile(draws, [share, 1 - share])
    at_end = np.zeros(len(draws), int) if at_end is None else at_end
    return (
        None if np.mean(at_end < 0) > AT_BOUND_SHARE else float(low),
        None if np.mean(at_end > 0) > AT_BOUND_SHARE else float(high),
    )


def estimates_of(
    problem: Problem, identified: Identified, sampled: Float[np.ndarray, "draws parameters"], ends: np.ndarray
) -> dict[str, Estimate]:
    """Every parameter with its errors: from the draws of a bootstrap, or from the curvature if there are none."""
    parameters = problem.model.parameters
    point = raw_point(problem, identified.theta)
    errors = np.sqrt(np.maximum(np.diag(covariance(problem, identified.theta)), 0.0))
    draws = raw_values(problem, sampled) if len(sampled) else {}
    share = _share(problem, identified)
    estimates = {}
    for index, parameter in enumerate(parameters):
        name, logs = parameter.name, parameter.transform == "log"
        unit = point[name] if logs else 1.0
        known = bool(identified.identified[index])
        curvature = float(errors[index] * unit)
        if name in draws:
            spread = np.log(draws[name]) if logs else draws[name]
            se = deviation(spread) * unit
            low, high = interval(draws[name], ends[:, index], share)
        else:
            step = min(1.96 * errors[index], LARGEST_LOG_ERROR)
            low, high = (
                (unit * np.exp(-step), unit * np.exp(step)) if logs else (point[name] - step, point[name] + step)
            )
            se, low, high = curvature, float(low), float(high)
        if low is None and index >= len(problem.law.parameters):
            low = 0.0  # a scatter below the range of the search counts as zero
        if not known:
            se = low = high = curvature = None
        estimate = point[name] if np.isfinite(point[name]) else None
        estimates[name] = Estimate(estimate, se, low, high, known, parameter.published, curvature)
    return estimates


def fixed_value(
    problem: Problem, identified: Identified, point: Float[np.ndarray, "parameters"], combination: Combination
) -> tuple[float, Float[np.ndarray, "parameters"]] | None:
    """The value and the gradient of a combination at a point (raw coordinates); None if the rows do not identify it."""
    value, gradient = function_of_raw(problem, point, combination.value)
    along = gradient[: len(problem.law.parameters)]
    lost = np.linalg.norm(identified.null @ along) if len(identified.null) else 0.0
    if not identified.rank or not np.isfinite(value) or lost > 1e-2 * np.linalg.norm(gradient):
        return None
    return value, gradient


def combinations_of(problem: Problem, identified: Identified, sampled) -> tuple[CombinationEstimate, ...]:
    """Estimates of the declared combinations that are identified; of identified directions if none are declared."""
    count = len(problem.law.parameters)
    if identified.rank == 0:
        return ()
    point = raw_map(problem, identified.theta)[0]
    spread, share = covariance(problem, identified.theta), _share(problem, identified)
    values = raw_values(problem, sampled) if len(sampled) else {}
    entries: list[tuple[str, float, np.ndarray, np.ndarray, float | None]] = []
    for combination in problem.law.combinations:
        fixed = fixed_value(problem, identified, point, combination)
        if fixed is not None:
            named = stacked(problem.model.parameters, values) if values else {}
            draws = np.asarray(combination.value(named)) if values else np.empty(0)
            entries.append((combination.label, *fixed, draws, combination.published))
    if not problem.law.combinations and len(identified.null):
        points = raw_coordinates(problem, sampled) if len(sampled) else np.empty((0, len(point)))
        for direction in _identified_directions(identified, count):
            gradient = np.concatenate([direction, np.zeros(len(point) - count)])
            label = _direction_label(problem.law, direction)
            entries.append((label, float(gradient @ point), gradient, points @ gradient, None))
    return tuple(_combination(*entry, spread, share) for entry in entries)


def _identified_directions(identified: Identified, count: int) -> np.ndarray:
    """An orthonormal basis of the directions orthogonal to the null directions."""
    _, _, vectors = np.linalg.svd(identified.null, full_matrices=True)
    return vectors[len(identified.null) : count]


def _direction_label(law: Law, direction: np.ndarray) -> str:
    terms = [
        f"{weight:+.2f}*{'log ' if parameter.transform == 'log' else ''}{parameter.name}"
        for weight, parameter in zip(direction, law.parameters, strict=True)
        if abs(weight) > 0.005
    ]
    return " ".join(terms)


def _share(problem: Problem, identified: Identified) -> float:
    return tail(len(np.unique(problem.cluster[problem.fitted])), identified.degrees + 1)


def _combination(
    label: str, value: float, gradient, draws, published: float | None, spread, share: float
) -> CombinationEstimate:
    se = float(np.sqrt(max(gradient @ spread @ gradient, 0.0)))
    low, high = value - 1.96 * se, value + 1.96 * se
    if len(draws):
        se = deviation(draws)
        low, high = interval(draws, None, share)
    return CombinationEstimate(label, value, se, low, high, published)
