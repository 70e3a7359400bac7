"""Estimates of parameters and of combinations, with standard errors and 95 % intervals, in raw units."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, stdtrit

from harness.fit.certainty.confidence_set import ConfidenceSet
from harness.fit.certainty.identifiability import Identified
from harness.fit.certainty.information import covariance
from harness.fit.certainty.likelihood_ratio import CONFIDENCE
from harness.fit.laws.law import Combination, Law, Parameter
from harness.fit.problem.centred import Problem
from harness.fit.problem.raw_units import (
    combination_values,
    function_of_raw,
    raw_coordinates,
    raw_map,
    raw_point,
    raw_values,
)
from harness.fit.results.result import CombinationEstimate, Estimate

LEVEL = 95.0
AT_BOUND_SHARE = 0.025
# The most that an interval from the curvature extends to either side, in logs: no constant is uncertain by e^100.
LARGEST_LOG_ERROR = 100.0
# The widest 95 % interval of an exponent, or of a combination of exponents, that counts as identified.
WIDEST_EXPONENT = 0.5
# A quantity has no limit if it still moves by more than `MOVING` of its interval while a constant moves by `NEAR_END`
# of its range, where that constant reaches the end of its range inside the confidence set, and is at its extreme there.
NEAR_END, MOVING = 0.05, 0.02

Interval = tuple[float | None, float | None]


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
) -> Interval:
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


def range_over(region: ConfidenceSet, of: Callable[[np.ndarray], np.ndarray]) -> Interval:
    """The 95 % interval of a function of points: its range over the confidence set, None on a side without a limit."""
    values = of(region.thetas)
    values = values[np.isfinite(values)]
    if not len(values):
        return None, None
    low, high = float(values.min()), float(values.max())
    open_low = open_high = False
    for (index, _), pair in region.reached.items():
        moved = pair[1, index] - pair[0, index]
        if moved == 0.0:
            continue
        with np.errstate(all="ignore"):
            first, last = of(pair)
            # The last step of a trace may be cut short by the end of the range: it says little then.
            further = (last - first) * min(abs(NEAR_END * region.span[index] / moved), 1.0)
        margin = MOVING * (high - low)
        open_low |= bool(further < -margin and last < low + margin)
        open_high |= bool(further > margin and last > high - margin)
    return None if open_low else low, None if open_high else high


def _exponents(law: Law) -> set[str]:
    return {p.name for p in law.parameters if p.transform == "identity" and (p.of or p.name) not in law.linear}


def estimates_of(
    problem: Problem,
    identified: Identified,
    region: ConfidenceSet | None = None,
    sampled: Float[np.ndarray, "draws parameters"] | None = None,
    ends: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """Every parameter with its errors: from the confidence set, or from the curvature if there is none.

    Args:
        sampled, ends: bootstrap draws and where they ended (`bootstrap.resample`), for a second interval.
    """
    parameters, count = problem.model.parameters, len(problem.law.parameters)
    point = raw_point(problem, identified.theta)
    spread = covariance(problem, identified.theta, identified.ratio.dependence.information)
    errors = np.sqrt(np.maximum(np.diag(spread), 0.0))
    student = float(stdtrit(identified.ratio.spare, CONFIDENCE))
    clusters = len(np.unique(problem.cluster[problem.fitted]))
    draws = raw_values(problem, sampled) if sampled is not None and len(sampled) else {}
    estimates = {}
    for index, parameter in enumerate(parameters):
        name, value = parameter.name, point[parameter.name]
        known = bool(identified.identified[index])
        curvature = _interval_of_error(parameter, value, errors[index], student)
        se = errors[index] * (value if parameter.transform == "log" else 1.0)
        low, high = curvature
        if region is not None:
            low, high = _interval_of_constant(problem, identified, region, index)
        if index >= count and identified.rank:
            low = 0.0 if low is None else low  # a scatter below the range of the search counts as zero
        elif region is not None:
            known = known and _is_narrow(low, high, value, name in _exponents(problem.law))
        elif not known:
            low = high = se = None
        if region is not None:
            se = se if low == 0.0 else _error_of_interval(parameter, value, low, high, student)
        again: Interval = (None, None)
        if name in draws and ends is not None:
            again = interval(draws[name], ends[:, index], tail(clusters, count + 1))
        estimate = value if np.isfinite(value) else None
        estimates[name] = Estimate(
            estimate, _finite(se), _finite(low), _finite(high), known, parameter.published,
            _finite(errors[index] * (value if parameter.transform == "log" else 1.0)) if known else None, *again,
        )  # fmt: skip
    return estimates


def _is_narrow(low: float | None, high: float | None, value: float, exponent: bool) -> bool:
    """Whether an interval is closed and, for an exponent, at most `WIDEST_EXPONENT` wide (times its size above 1)."""
    return (
        low is not None and high is not None and (not exponent or high - low <= WIDEST_EXPONENT * max(1.0, abs(value)))
    )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


def _interval_of_error(parameter: Parameter, value: float, error: float, student: float) -> tuple[float, float]:
    """The interval of a standard error, symmetric in the coordinate of the search."""
    step = min(student * error, LARGEST_LOG_ERROR)
    if parameter.transform == "log":
        return value * np.exp(-step), value * np.exp(step)
    return value - step, value + step


def _error_of_interval(parameter: Parameter, value: float, low, high, student: float) -> float | None:
    """The standard error whose interval has the same width; None for an open interval."""
    if low is None or high is None or (parameter.transform == "log" and low <= 0):
        return None
    width = np.log(high / low) * value if parameter.transform == "log" else high - low
    return float(width / 2 / student)


def _interval_of_constant(problem: Problem, identified: Identified, region: ConfidenceSet, index: int) -> Interval:
    """The 95 % interval of a constant of the law in raw units, open where it may stand at an end of its range."""
    parameter = problem.model.parameters[index]
    if index < len(identified.lost) and identified.lost[index]:
        return None, None
    low, high = range_over(region, lambda thetas: raw_coordinates(problem, thetas)[:, index])
    if (index, -1) in region.reached:
        low = None
    if (index, 1) in region.reached:
        high = None
    if parameter.transform == "log":
        low, high = (None if end is None else float(np.exp(min(end, 700.0))) for end in (low, high))
    return low, high


def combinations_of(
    problem: Problem, identified: Identified, region: ConfidenceSet | None = None
) -> tuple[CombinationEstimate, ...]:
    """Estimates of the declared combinations that are identified; of identified directions if none are declared.

    A combination that is one identified parameter alone is left out, since it is an estimate already.
    """
    count, point = len(problem.law.parameters), raw_map(problem, identified.theta)[0]
    if identified.rank == 0:
        return ()
    spread = covariance(problem, identified.theta, identified.ratio.dependence.information)
    student = float(stdtrit(identified.ratio.spare, CONFIDENCE))
    alone = {p.name for p, known in zip(problem.law.parameters, identified.identified, strict=False) if known}
    entries = []
    for combination in problem.law.combinations:
        fixed = fixed_value(problem, identified, point, combination)
        if fixed is None or combination.label in alone:
            continue
        value, gradient = fixed
        se = float(np.sqrt(max(gradient @ spread @ gradient, 0.0)))
        low, high = value - student * se, value + student * se
        if region is not None:
            low, high = range_over(region, lambda thetas, c=combination: combination_values(problem, thetas, c))
            if low is None or high is None:
                continue
            se = (high - low) / 2 / student
        entries.append(CombinationEstimate(combination.label, value, se, low, high, combination.published))
    if not problem.law.combinations and len(identified.null):
        for direction in _identified_directions(identified, count):
            # The weights are rounded before the value is taken, so that the printed terms add up to it.
            weights = np.round(direction, 2)
            value, step = float(weights @ point[:count]), weights @ spread[:count, :count] @ weights
            se = float(np.sqrt(max(step, 0.0)))
            low, high = value - student * se, value + student * se
            if region is not None:
                low, high = range_over(
                    region, lambda thetas, w=weights: raw_coordinates(problem, thetas)[:, :count] @ w
                )
            if low is not None and high is not None and np.isfinite([value, se, low, high]).all():
                label = _direction_label(problem.law, weights)
                entries.append(CombinationEstimate(label, value, se, low, high, None))
    return tuple(entry for entry in entries if np.isfinite([entry.estimate, entry.se]).all())


def fixed_value(
    problem: Problem, identified: Identified, point: Float[np.ndarray, "parameters"], combination: Combination
) -> tuple[float, Float[np.ndarray, "parameters"]] | None:
    """The value and the gradient of a combination at a point (raw coordinates); None if the rows do not identify it."""
    value, gradient = function_of_raw(problem, point, combination.value)
    along = gradient[: len(problem.law.parameters)]
    lost = np.linalg.norm(identified.null @ along) if len(identified.null) else 0.0
    if not identified.rank or not np.isfinite(value) or not lost <= 1e-2 * np.linalg.norm(gradient):
        return None
    return value, gradient


def _identified_directions(identified: Identified, count: int) -> np.ndarray:
    """An orthonormal basis of the directions orthogonal to the null directions."""
    _, _, vectors = np.linalg.svd(identified.null, full_matrices=True)
    return vectors[len(identified.null) : count]


def _direction_label(law: Law, weights: np.ndarray) -> str:
    terms = [
        f"{weight:+.2f}*{'log ' if parameter.transform == 'log' else ''}{parameter.name}"
        for weight, parameter in zip(weights, law.parameters, strict=True)
        if weight
    ]
    return " ".join(terms)
