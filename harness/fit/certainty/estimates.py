"""Estimates with their errors, in raw units: of the parameters, and of the combinations that are identified."""

import numpy as np
from jaxtyping import Float

from harness.fit.certainty.identify import Identified
from harness.fit.certainty.information import function_of_raw, raw_coordinates, raw_map, raw_values
from harness.fit.certainty.uncertainty import covariance, deviation, interval, tail
from harness.fit.laws.law import Combination, Law, stacked
from harness.fit.problem.problem import Problem
from harness.fit.result import Estimate

LARGEST_STEP = 100.0


def estimates_of(problem: Problem, identified: Identified, sampled, ends) -> dict[str, Estimate]:
    parameters = problem.model.parameters
    point = {name: float(value[0]) for name, value in raw_values(problem, identified.theta[None]).items()}
    errors = np.sqrt(np.maximum(np.diag(covariance(problem, identified)), 0.0))
    draws = raw_values(problem, sampled) if len(sampled) else {}
    share = _share(problem, identified)
    found = {}
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
            step = min(1.96 * errors[index], LARGEST_STEP)
            low, high = (
                (unit * np.exp(-step), unit * np.exp(step)) if logs else (point[name] - step, point[name] + step)
            )
            se, low, high = curvature, float(low), float(high)
        if low is None and index >= len(problem.law.parameters):
            low = 0.0  # a scatter below the range of the search is none
        if not known:
            se = low = high = curvature = None
        estimate = point[name] if np.isfinite(point[name]) else None
        found[name] = Estimate(estimate, se, low, high, known, parameter.published, curvature)
    return found


def fixed_value(
    problem: Problem, identified: Identified, point: Float[np.ndarray, "parameters"], combination: Combination
) -> tuple[float, Float[np.ndarray, "parameters"]] | None:
    """A combination and its gradient at a point (raw coordinates); None unless the rows fix its direction."""
    value, gradient = function_of_raw(problem, point, combination.value)
    along = gradient[: len(problem.law.parameters)]
    lost = np.linalg.norm(identified.null @ along) if len(identified.null) else 0.0
    if not identified.rank or not np.isfinite(value) or lost > 1e-2 * np.linalg.norm(gradient):
        return None
    return value, gradient


def combinations_of(problem: Problem, identified: Identified, sampled) -> list[dict]:
    """Declared combinations whose gradient lies in the identified directions; with none declared, those directions."""
    count = len(problem.law.parameters)
    if identified.rank == 0:
        return []
    point = raw_map(problem, identified.theta)[0]
    spread, share = covariance(problem, identified), _share(problem, identified)
    values = raw_values(problem, sampled) if len(sampled) else {}
    found = []
    for combination in problem.law.combinations:
        fixed = fixed_value(problem, identified, point, combination)
        if fixed is None:
            continue
        value, gradient = fixed
        named = stacked(problem.model.parameters, values) if values else {}
        draws = np.asarray(combination.value(named)) if values else np.empty(0)
        found.append(_combination(combination.label, value, gradient, spread, draws, combination.published, share))
    if not problem.law.combinations and len(identified.null):
        points = raw_coordinates(problem, sampled) if len(sampled) else np.empty((0, len(point)))
        for direction in _identified_directions(identified, count):
            gradient = np.concatenate([direction, np.zeros(len(point) - count)])
            label = _direction_label(problem.law, direction)
            found.append(_combination(label, float(gradient @ point), gradient, spread, points @ gradient, None, share))
    return found


def _identified_directions(identified: Identified, count: int) -> np.ndarray:
    """An orthonormal basis of what is orthogonal to the null directions."""
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


def _combination(label: str, value: float, gradient, spread, draws, published: float | None, share: float) -> dict:
    se = float(np.sqrt(max(gradient @ spread @ gradient, 0.0)))
    low, high = value - 1.96 * se, value + 1.96 * se
    if len(draws):
        se = deviation(draws)
        low, high = interval(draws, None, share)
    return {
        "combination": label,
        "estimate": value,
        "se": se,
        "ci_low": low,
        "ci_high": high,
        "published": published,
    }
