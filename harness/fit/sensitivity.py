"""The same fit under other reasonable choices: how far the answer moves is part of the answer."""

from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.identify import Identified
from harness.fit.information import raw_values
from harness.fit.law import get_law
from harness.fit.problem import Problem, centre
from harness.fit.solver import Solutions, best_and_runners_up, minimise
from harness.fit.starts import grid_of_starts

OTHER_DELTAS = (1e-4, 1e-2)
N_DEFINITIONS = ("N_total", "N_nonembedding", "N_active", "N_trainable")


def values_at(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> dict[str, float]:
    """Every raw parameter and declared combination at a point."""
    found = {name: float(value[0]) for name, value in raw_values(problem, theta[None]).items()}
    return found | {c.label: float(c.value(found)) for c in problem.law.combinations}


def _refit(problem: Problem, starts, free, weights=None) -> Float[np.ndarray, "parameters"]:
    runs = len(starts)
    found = minimise(problem, starts, None if weights is None else lambda run: weights, np.tile(free, (runs, 1)))
    return found.theta[int(np.argmin(found.loss))]


def _edges(values: Float[np.ndarray, "rows"], fitted: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of the smallest and of the largest value; where values hardly repeat, the lowest and highest tenth."""
    distinct = np.unique(values[fitted])
    if len(distinct) < 3:
        return {}
    few = len(distinct) <= fitted.sum() / 3
    low, high = (distinct[0], distinct[-1]) if few else np.quantile(values[fitted], [0.1, 0.9])
    return {"smallest": values <= low, "largest": values >= high}


def cases(
    problem: Problem, frame: pd.DataFrame, solutions: Solutions, identified: Identified, reported: list[str]
) -> tuple[dict, ...]:
    """Refits with rows dropped, another definition of N, another corner of Huber's loss, or an alternative law.

    Args:
        reported: parameters and combinations that are identified; the others would only show noise.

    Returns:
        per case: its name, the rows fitted, and the estimates.
    """
    starts = np.vstack([identified.theta, best_and_runners_up(solutions, 3)])
    starts[:, ~identified.free] = identified.theta[~identified.free]
    found: list[dict] = []

    def add(case: str, other: Problem, theta, rows: float) -> None:
        values = values_at(other, theta)
        estimates = {name: values[name] for name in reported if name in values and np.isfinite(values[name])}
        found.append({"case": case, "rows": int(rows), "estimates": estimates})

    for role in (name for name in ("N", "D") if name in problem.columns):
        for end, mask in _edges(problem.columns[role], problem.fitted).items():
            weights = problem.weights * ~mask
            if np.sum(weights) > len(starts[0]) + 2:
                theta = _refit(problem, starts, identified.free, weights)
                add(f"without the {end} {role}", problem, theta, np.sum(weights))
    if problem.model.objective.id == "log_huber":
        for delta in OTHER_DELTAS:
            other = replace(problem, options=problem.options._replace(delta=delta))
            add(f"Huber delta {delta:g}", other, _refit(other, starts, identified.free), problem.weights.sum())
    marked, objective = frame.assign(holdout=~problem.fitted), problem.model.objective.id
    for name in N_DEFINITIONS if "N" in problem.columns else ():
        if name not in frame.columns or not pd.api.types.is_numeric_dtype(frame[name]):
            continue
        other_n = frame[name].to_numpy(float)
        if not np.all(other_n > 0) or np.allclose(other_n, frame["N"].to_numpy(float)):
            continue
        other = centre(problem.law, marked.assign(N=other_n), objective=objective, options=problem.options)
        add(f"N = {name}", other, _refit(other, starts, identified.free), problem.weights.sum())
    for law_id in problem.law.alternatives:
        other = centre(get_law(law_id), marked, objective=objective, options=problem.options)
        again = minimise(other, grid_of_starts(other))
        add(f"law {law_id}", other, again.theta[int(np.argmin(again.loss))], problem.weights.sum())
    return tuple(found)
