"""The same fit under other reasonable choices: how far the estimates and a prediction move.

The choices are those that move published fits ((Mis)Fitting, arXiv 2502.18969): rows, the robustness of
the objective, the definition of N, checkpoints or final losses, the form of the law.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.certainty.identifiability import Identified
from harness.fit.laws.law import stacked
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import Problem, centre
from harness.fit.problem.columns import SIZE_ROLES, levels
from harness.fit.problem.fit_status import FitStatus
from harness.fit.problem.likelihood import log_likelihood_rows
from harness.fit.problem.model import StatisticalModel
from harness.fit.problem.objective import OBJECTIVES
from harness.fit.problem.program import float64
from harness.fit.problem.raw_units import combination_values, predictions, raw_point
from harness.fit.referee.extrapolation import scale_of
from harness.fit.results.robustness import PREDICTION, Robustness, SensitivityCase
from harness.fit.results.shown import NOT_DETERMINED, UNDETERMINED, is_determined
from harness.fit.search.solver import Solutions, best_and_runners_up, minimise, minimise_cases
from harness.fit.search.starts import grid_of_starts
from sweeps.errors import InputError

OTHER_DELTAS = (1e-4, 1e-3, 1e-2)
N_DEFINITIONS = ("N_total", "N_nonembedding", "N_active", "N_trainable")
FEW_SIZES = 12
# The prediction beyond the rows is made at this factor times their largest N and D.
BEYOND = np.sqrt(10.0)
EXPONENT_RANGE = 0.1  # a fit is fragile if an exponent ranges over more
NOISES = 3.0  # it is also fragile if a prediction ranges over more than this many times a run's noise
LEAST_NOISE = float(np.finfo(np.float32).eps)  # a law that misses rows by less passes through all, without a spare one
REFUTED = 10.0  # an alternative law whose AIC is higher by more than this does not count


def values_at(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> dict[str, float]:
    """The value of every raw parameter and declared combination at a point."""
    combined = {c.label: float(combination_values(problem, theta[None], c)[0]) for c in problem.law.combinations}
    return raw_point(problem, theta) | combined


def prediction_beyond(problem: Problem, theta: Float[np.ndarray, "parameters"]) -> float | None:
    """The response at sqrt(10) times the largest N, D and U of the fitted rows, 10 times the flops (raw units).

    Other columns are those of the largest run. None for laws that derive columns from whole series of rows.
    """
    law, raw = problem.law, problem.raw_columns
    if law.derive is not None or not any(name in raw for name in SIZE_ROLES):
        return None
    largest = int(np.argmax(np.where(problem.fitted, scale_of(law, raw), -np.inf)))
    point = {name: values[[largest]] for name, values in raw.items()}
    for name in SIZE_ROLES:
        if name in point:
            factor = BEYOND**2 if name == "flops" else BEYOND
            point[name] = np.array([raw[name][problem.fitted].max() * factor])
    with float64():
        named = stacked(problem.model.parameters, raw_point(problem, theta))
        response = float(np.ravel(law.predict(named, point))[0])
    return response if np.isfinite(response) else None


def _row_choices(problem: Problem, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """The rows that each choice keeps: without the least or largest of a size, without one N, or final losses only."""
    choices = {}
    for role in (name for name in SIZE_ROLES if name in problem.columns):
        values = problem.columns[role]
        distinct = levels(values[problem.fitted])
        if len(distinct) < 3:
            continue
        few = len(distinct) <= problem.fitted.sum() / 3
        low, high = (distinct[0], distinct[-1]) if few else np.quantile(values[problem.fitted], [0.1, 0.9])
        choices[f"without the smallest {role}"] = values > low
        choices[f"without the largest {role}"] = values < high
        if role == "N" and len(distinct) <= FEW_SIZES:
            raw = problem.raw_columns[role]
            choices |= {f"without N = {size:.3g}": raw != size for size in np.unique(raw[problem.fitted])[1:-1]}
    if "run" in frame.columns and "D" in problem.columns:
        last = frame.assign(_d=problem.columns["D"]).groupby("run")["_d"].transform("max").to_numpy(float)
        final = problem.columns["D"] >= last
        if (~final & problem.fitted).any():
            choices["final losses only"] = final
    return choices


def _other_problems(problem: Problem, marked: pd.DataFrame) -> Iterator[tuple[str, Problem]]:
    """The same rows with other corners of Huber's loss, by least squares, and with other definitions of N."""
    objective = problem.model.objective
    for delta in OTHER_DELTAS if objective.huber else ():
        if delta != problem.options.delta:
            yield f"Huber delta {delta:g}", replace(problem, options=problem.options._replace(delta=delta))
    if objective.least_squares is not None:
        squares = StatisticalModel(problem.law, OBJECTIVES[objective.least_squares])
        yield "least squares on logs", replace(problem, model=squares)
    for name in N_DEFINITIONS if "N" in problem.columns else ():
        if name not in marked.columns or not pd.api.types.is_numeric_dtype(marked[name]):
            continue
        other_n = marked[name].to_numpy(float)
        if np.all(other_n > 0) and not np.allclose(other_n, marked["N"].to_numpy(float)):
            other = marked.assign(N=other_n)
            yield f"N = {name}", centre(problem.law, other, objective=objective.id, options=problem.options)


def _alternatives(problem: Problem, marked: pd.DataFrame) -> Iterator[tuple[str, Problem, np.ndarray]]:
    """Other laws of the same response with their best points, if the table has the columns and rows they need."""
    objective = problem.model.objective.id
    for law_id in problem.law.alternatives:
        law = get_law(law_id)
        try:
            other = centre(law, marked, objective=objective, options=problem.options)
        except InputError:
            continue  # too few rows for its constants, or none of its columns
        solutions = minimise(other, grid_of_starts(other))
        yield f"law {law_id}", other, solutions.theta[solutions.best]


def cases(
    problem: Problem, frame: pd.DataFrame, solutions: Solutions, identified: Identified, reported: list[str]
) -> tuple[SensitivityCase, ...]:
    """The fit itself, then refits with rows dropped, other objectives, other definitions of N, or alternative laws.

    Args:
        reported: the parameters and combinations that are identified; refits of the others would only show noise.
    """
    starts = best_and_runners_up(solutions, 3)

    def case(name: str, other: Problem, theta, rows: float, aic_behind: float | None = None) -> SensitivityCase:
        values = values_at(other, theta)
        estimates = {label: values[label] for label in reported if label in values and np.isfinite(values[label])}
        return SensitivityCase(name, int(rows), estimates, prediction_beyond(other, theta), aic_behind)

    def refit(name: str, other: Problem, weights: Float[np.ndarray, "rows"]) -> SensitivityCase:
        theta = minimise_cases(other, starts[None], lambda _: weights).theta[0]
        return case(name, other, theta, np.sum(weights))

    marked, weights, rows = frame.assign(holdout=~problem.fitted), problem.weights, problem.weights.sum()
    kept_rows = {name: weights * kept for name, kept in _row_choices(problem, frame).items()}
    worth = identified.ratio.dependence.rows / rows
    aic = _aic(problem, identified.theta, worth)
    return (
        case("as fitted", problem, identified.theta, rows),
        *(refit(name, problem, kept) for name, kept in kept_rows.items() if np.sum(kept) > len(starts[0]) + 2),
        *(refit(name, other, weights) for name, other in _other_problems(problem, marked)),
        *(
            case(name, other, theta, rows, _aic(other, theta, worth) - aic)
            for name, other, theta in _alternatives(problem, marked)
        ),
    )


def _aic(problem: Problem, theta, worth: float) -> float:
    """Akaike's criterion, where each row counts as `worth` independent rows."""
    likelihood = worth * float(log_likelihood_rows(problem, theta)[problem.fitted].sum())
    return 2.0 * (len(problem.model.parameters) - likelihood)


def noise_of(problem: Problem, identified: Identified) -> float:
    """The relative spread about the law: between the seeds of a cell where there are several, else over all rows."""
    with np.errstate(all="ignore"):
        residual = (problem.observed / predictions(problem, identified.theta) - 1.0)[problem.fitted]
    rows = int(problem.fitted.sum())
    settings = [values[problem.fitted].reshape(rows, -1) for values in (problem.cluster, *problem.columns.values())]
    cell = np.unique(np.hstack(settings), axis=0, return_inverse=True)[1].ravel()
    counts = np.bincount(cell)
    spare = float(np.sum(counts - 1))
    if spare >= 3 and len(counts) > 1 and counts.max() <= 10:
        mean = np.bincount(cell, weights=residual) / counts
        return float(np.sqrt(np.sum((residual - mean[cell]) ** 2) / spare))
    return float(1.4826 * np.median(np.abs(residual - np.median(residual))))


def robustness(
    problem: Problem, identified: Identified, refits: tuple[SensitivityCase, ...], status: FitStatus, r2: float | None
) -> Robustness:
    """The verdict `fragile`, `stable` or `undecided`, by rule.

    A fit is fragile if, over the cases, an exponent (or a combination of exponents) ranges over more than 0.1, or the
    prediction at sqrt(10) times the largest N and D over more than three times the noise of a run. Alternative laws
    count for the prediction only (a constant of the same name need not be the same constant), and only if their AIC is
    at most 10 behind: a law that the rows refute says nothing about what lies beyond them. Else it is stable if the
    search converged, every constant is identified, at least one other choice was examined, and the held-out rows are
    predicted better than by their mean; it is undecided if not.

    Args:
        r2: the fit's R^2 on its held-out rows; None without such rows.
    """
    exponents = {
        p.name for p in problem.law.parameters if p.transform == "identity" and p.name not in problem.law.linear
    }
    ranges: dict[str, tuple[float, str, float, str]] = {}
    reasons = []
    labels = [c.label for c in problem.law.combinations if not c.label.startswith("log ")]
    own = [case for case in refits if not case.case.startswith("law ")]
    for name in dict.fromkeys(name for case in own for name in case.estimates):
        values = [(case.estimates[name], case.case) for case in own if name in case.estimates]
        (low, at_low), (high, at_high) = min(values), max(values)
        ranges[name] = (low, at_low, high, at_high)
        if high - low > EXPONENT_RANGE and (name in exponents or name in labels):
            reasons.append(f"{name} ranges from {low:.3g} ({at_low}) to {high:.3g} ({at_high})")
    likely = [case for case in refits if (case.aic_behind or 0.0) <= REFUTED]
    predicted = [(case.prediction, case.case) for case in likely if case.prediction is not None]
    if predicted:
        (low, at_low), (high, at_high) = min(predicted), max(predicted)
        share = noise_of(problem, identified)
        noise = share * abs(predicted[0][0])
        ranges[PREDICTION] = (low, at_low, high, at_high)
        if not is_determined(low, high):
            reasons.append(
                f"the prediction at sqrt(10) times the largest sizes is {NOT_DETERMINED}: it differs by more than a"
                f" factor of {UNDETERMINED:g} between other choices ({at_low}, {at_high})"
            )
        elif high - low > NOISES * noise:
            reasons.append(
                f"the prediction at sqrt(10) times the largest sizes ranges from {low:.4g} ({at_low}) to {high:.4g}"
                f" ({at_high}), more than {NOISES:g} times the noise of a run"
                f" ({f'{noise:.2g}' if share > LEAST_NOISE else NOT_DETERMINED})"
            )
    if reasons:
        return Robustness("fragile", tuple(reasons), ranges)
    doubts = [f"the fit is {status}"] if status is not FitStatus.CONVERGED else []
    doubts += ["no other choice could be examined"] if len(refits) < 2 else []
    doubts += [f"held-out rows are predicted worse than by their mean (R^2 {r2:.3g})"] if (r2 or 0.0) < 0 else []
    return Robustness("undecided" if doubts else "stable", tuple(doubts), ranges)
