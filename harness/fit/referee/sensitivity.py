"""The same fit under other reasonable choices: how far the estimates and a prediction move.

The choices are those that move published fits ((Mis)Fitting, arXiv 2502.18969): rows, the robustness of
the objective, the definition of N, checkpoints or final losses, the form of the law.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.certainty.identifiability import Identified
from harness.fit.laws.law import stacked
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import Problem, centre, rows_needed
from harness.fit.problem.columns import SIZE_ROLES
from harness.fit.problem.likelihood import log_likelihood_rows
from harness.fit.problem.model import StatisticalModel
from harness.fit.problem.objective import OBJECTIVES
from harness.fit.problem.program import float64
from harness.fit.problem.raw_units import predictions, raw_values
from harness.fit.referee.extrapolation import scale_of
from harness.fit.results.result import Robustness, SensitivityCase
from harness.fit.search.solver import Solutions, best_and_runners_up, minimise
from harness.fit.search.starts import grid_of_starts

OTHER_DELTAS = (1e-4, 1e-3, 1e-2)
N_DEFINITIONS = ("N_total", "N_nonembedding", "N_active", "N_trainable")
FEW_SIZES = 12
# The prediction is asked for at this factor times the largest N and D of the rows.
BEYOND = np.sqrt(10.0)
EXPONENT_RANGE = 0.1
NOISES = 3.0
REFUTED = 10.0


def values_at(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> dict[str, float]:
    """Every raw parameter and declared combination at a point."""
    found = {name: float(value[0]) for name, value in raw_values(problem, theta[None]).items()}
    named = stacked(problem.model.parameters, found)
    return found | {c.label: float(c.value(named)) for c in problem.law.combinations}


def prediction_beyond(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> float | None:
    """The response at sqrt(10) times the largest N, D and U of the fitted rows, 10 times the flops (raw units).

    Other columns are those of the largest run. None for laws whose columns come from whole series.
    """
    law, raw = problem.law, problem.raw_columns
    if law.derive is not None or not any(name in raw for name in SIZE_ROLES):
        return None
    largest = int(np.argmax(np.where(problem.fitted, scale_of(problem), -np.inf)))
    point = {name: values[[largest]] for name, values in raw.items()}
    for name in SIZE_ROLES:
        if name in point:
            factor = BEYOND**2 if name == "flops" else BEYOND
            point[name] = np.array([raw[name][problem.fitted].max() * factor])
    values = {name: value[0] for name, value in raw_values(problem, theta[None]).items()}
    with float64():
        found = float(np.ravel(law.predict(stacked(problem.model.parameters, values), point))[0])
    return found if np.isfinite(found) else None


def _refit(problem: Problem, starts, free, weights=None) -> Float[np.ndarray, "parameters"]:
    runs = len(starts)
    found = minimise(problem, starts, None if weights is None else lambda run: weights, np.tile(free, (runs, 1)))
    return found.theta[int(np.argmin(found.loss))]


def _row_choices(problem: Problem, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Name -> the rows that are fitted: without an end, without one size, final losses only."""
    found = {}
    for role in (name for name in SIZE_ROLES if name in problem.columns):
        values = problem.columns[role]
        distinct = np.unique(values[problem.fitted])
        if len(distinct) < 3:
            continue
        few = len(distinct) <= problem.fitted.sum() / 3
        low, high = (distinct[0], distinct[-1]) if few else np.quantile(values[problem.fitted], [0.1, 0.9])
        found[f"without the smallest {role}"] = values > low
        found[f"without the largest {role}"] = values < high
        if role == "N" and len(distinct) <= FEW_SIZES:
            raw = problem.raw_columns[role]
            found |= {f"without N = {size:.3g}": raw != size for size in np.unique(raw[problem.fitted])[1:-1]}
    if "run" in frame.columns and "D" in problem.columns:
        last = frame.assign(_d=problem.columns["D"]).groupby("run")["_d"].transform("max").to_numpy(float)
        final = problem.columns["D"] >= last
        if (~final & problem.fitted).any():
            found["final losses only"] = final
    return found


def cases(
    problem: Problem, frame: pd.DataFrame, solutions: Solutions, identified: Identified, reported: list[str]
) -> tuple[SensitivityCase, ...]:
    """Refits with rows dropped, other objectives, another definition of N, or an alternative law.

    Args:
        reported: the parameters and combinations that are identified; refits of the others would only show noise.

    Returns:
        per case, the fit itself first: its name, the rows fitted, the estimates, and the response predicted at sqrt(10)
        times the largest N and D (`prediction_beyond`).
    """
    starts = np.vstack([identified.theta, best_and_runners_up(solutions, 3)])
    starts[:, ~identified.free] = identified.theta[~identified.free]
    found: list[SensitivityCase] = []

    def add(case: str, other: Problem, theta, rows: float, aic_behind: float | None = None) -> None:
        values = values_at(other, theta)
        estimates = {name: values[name] for name in reported if name in values and np.isfinite(values[name])}
        beyond = prediction_beyond(other, theta)
        found.append(SensitivityCase(case, int(rows), estimates, beyond, aic_behind))

    add("as fitted", problem, identified.theta, problem.weights.sum())
    for case, kept in _row_choices(problem, frame).items():
        weights = problem.weights * kept
        if np.sum(weights) > len(starts[0]) + 2:
            add(case, problem, _refit(problem, starts, identified.free, weights), np.sum(weights))
    if problem.model.objective.huber:
        for delta in OTHER_DELTAS:
            if delta != problem.options.delta:
                other = replace(problem, options=problem.options._replace(delta=delta))
                add(f"Huber delta {delta:g}", other, _refit(other, starts, identified.free), problem.weights.sum())
    if (squares := problem.model.objective.least_squares) is not None:
        other = replace(problem, model=StatisticalModel(problem.law, OBJECTIVES[squares]))
        add("least squares on logs", other, _refit(other, starts, identified.free), problem.weights.sum())
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
        if problem.fitted.sum() < rows_needed(get_law(law_id), objective):
            continue
        other = centre(get_law(law_id), marked, objective=objective, options=problem.options)
        again = minimise(other, grid_of_starts(other))
        theta = again.theta[int(np.argmin(again.loss))]
        behind = _aic(other, theta) - _aic(problem, identified.theta)
        add(f"law {law_id}", other, theta, problem.weights.sum(), behind)
    return tuple(found)


def _aic(problem: Problem, theta) -> float:
    return 2.0 * (len(problem.model.parameters) - float(log_likelihood_rows(problem, theta)[problem.fitted].sum()))


def noise_of(problem: Problem, identified: Identified) -> float:
    """Relative spread about the law: between the seeds of a cell where there are several, else of all rows."""
    predicted = predictions(problem, identified.theta[None])[0]
    observed = problem.response * problem.scales[problem.law.response]
    with np.errstate(all="ignore"):
        residual = (observed / predicted - 1.0)[problem.fitted]
    cluster = np.unique(problem.cluster[problem.fitted], return_inverse=True)[1]
    counts = np.bincount(cluster)
    spare = float(np.sum(counts - 1))
    if spare >= 3 and len(counts) > 1 and counts.max() <= 10:
        mean = np.bincount(cluster, weights=residual) / counts
        return float(np.sqrt(np.sum((residual - mean[cluster]) ** 2) / spare))
    return float(1.4826 * np.median(np.abs(residual - np.median(residual))))


def robustness(problem: Problem, identified: Identified, moved: tuple[SensitivityCase, ...]) -> Robustness:
    """The verdict `fragile` or `stable`, by rule.

    Fragile: over the cases an exponent (or a combination of exponents) ranges over more than 0.1, or the prediction at
    sqrt(10) times the largest N and D over more than three times the noise of a run. Alternative laws count for the
    prediction only (a constant of the same name need not be the same constant), and only if their AIC is at most 10
    behind: a law that the rows refute says nothing about what lies beyond them.

    Returns:
        verdict, reasons (one a range that is too wide), ranges (name -> [low, case, high, case]).
    """
    exponents = {
        p.name for p in problem.law.parameters if p.transform == "identity" and p.name not in problem.law.linear
    }
    ranges: dict[str, tuple[float, str, float, str]] = {}
    reasons = []
    labels = [c.label for c in problem.law.combinations if not c.label.startswith("log ")]
    own = [case for case in moved if not case.case.startswith("law ")]
    for name in dict.fromkeys(name for case in own for name in case.estimates):
        values = [(case.estimates[name], case.case) for case in own if name in case.estimates]
        (low, at_low), (high, at_high) = min(values), max(values)
        ranges[name] = (low, at_low, high, at_high)
        if high - low > EXPONENT_RANGE and (name in exponents or name in labels):
            reasons.append(f"{name} ranges from {low:.3g} ({at_low}) to {high:.3g} ({at_high})")
    likely = [case for case in moved if (case.aic_behind or 0.0) <= REFUTED]
    predicted = [(case.prediction, case.case) for case in likely if case.prediction is not None]
    if predicted:
        (low, at_low), (high, at_high) = min(predicted), max(predicted)
        noise = noise_of(problem, identified) * abs(predicted[0][0])
        ranges["prediction"] = (low, at_low, high, at_high)
        if high - low > NOISES * noise:
            reasons.append(
                f"the prediction at sqrt(10) times the largest sizes ranges from {low:.4g} ({at_low}) to {high:.4g}"
                f" ({at_high}), more than {NOISES:g} times the noise of a run ({noise:.2g})"
            )
    return Robustness("fragile" if reasons else "stable", tuple(reasons), ranges)
