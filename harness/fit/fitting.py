"""Fit a law to a table: search, identifiability, errors, and the questions of a referee, in one result."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from harness.fit.certainty.bootstrap import resample
from harness.fit.certainty.confidence_set import BetterPoint, ConfidenceSet, confidence_set
from harness.fit.certainty.identifiability import Identified, identify, nothing_identified
from harness.fit.certainty.intervals import combinations_of, estimates_of
from harness.fit.certainty.large_tables import extend, is_large, large_table_warning, part_of, sandwich_set
from harness.fit.certainty.profiles import profiles_of
from harness.fit.certainty.sign_flip import detect
from harness.fit.forecast import predict
from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import Problem, centre
from harness.fit.problem.fit_status import FitStatus
from harness.fit.problem.likelihood import log_likelihood_rows
from harness.fit.problem.objective import DEFAULT_OPTIONS, HuberOptions
from harness.fit.problem.raw_units import raw_values
from harness.fit.problem.rows_hash import hash_of_rows
from harness.fit.problem.table_checks import oddities
from harness.fit.referee.checklist import checklist
from harness.fit.referee.extrapolation import extrapolate
from harness.fit.referee.fit_warnings import warnings_of
from harness.fit.referee.residual_groups import residual_groups
from harness.fit.referee.scores import holdout_scores, names_of_runs, row_numbers, scatter_of
from harness.fit.referee.sensitivity import cases, robustness
from harness.fit.results.held_out import HeldOutRow
from harness.fit.results.result import Estimate, FitResult, Identifiability, Minimum
from harness.fit.results.shown import finite_rows
from harness.fit.search.solver import Solutions, best_and_runners_up, minimise, status_of
from harness.fit.search.starts import grid_of_starts
from sweeps.errors import InputError

MOST_LISTED = 10_000  # held-out rows that a result lists


MOST_REBUILDS = 3  # of a confidence set, each about a better point that the last one found


@dataclass(frozen=True)
class SolvedFit:
    """A solved fit before its errors are known; bootstrap, comparison and verdict start from it."""

    problem: Problem
    solutions: Solutions
    identified: Identified
    status: FitStatus

    @property
    def degrees(self) -> int:
        """The number of constants that were searched: those of the law, and the scale of the residuals."""
        return len(self.problem.law.parameters) + 1

    @property
    def log_likelihood(self) -> float:
        """The log likelihood of the fitted rows, in raw units."""
        return float(np.sum(log_likelihood_rows(self.problem, self.identified.theta)[self.problem.fitted]))


def solve(
    law: str | Law,
    frame: pd.DataFrame,
    *,
    holdout: str | None = None,
    objective: str | None = None,
    options: HuberOptions = DEFAULT_OPTIONS,
    source: str = "table",
) -> SolvedFit:
    """Search from many starts and test identifiability, without errors.

    Raises InputError for unusable columns, too few rows, or numbers for which the law has no finite value.
    """
    law = get_law(law, frame.columns)
    problem = centre(law, frame, holdout=holdout, objective=objective, options=options, source=source)
    problem = replace(problem, warnings=(*problem.warnings, *oddities(problem, frame)))
    large = is_large(problem)
    searched, _ = part_of(problem, frame) if large else (problem, frame)
    solutions = minimise(searched, grid_of_starts(searched))
    status = status_of(problem, solutions)
    if status is FitStatus.FAILED:
        raise InputError(source, law.response, f"{len(frame)} rows", f"numbers for which {law.formula} is finite")
    if law.contrast and not detect(problem).detected:
        identified = nothing_identified(problem, solutions)
    elif large:
        problem = replace(problem, warnings=(*problem.warnings, large_table_warning(problem)))
        solutions, identified = extend(problem, searched, solutions)
    else:
        identified = identify(problem, solutions)
    return SolvedFit(problem, solutions, identified, _status(status, bool(identified.identified.all())))


def _status(status: FitStatus, identified: bool) -> FitStatus:
    """The status of a fit once it is known whether every parameter is identified."""
    unsure = not identified and status in (FitStatus.CONVERGED, FitStatus.AT_BOUND)
    return FitStatus.NOT_IDENTIFIED if unsure else status


def curvature_estimates(fitted: SolvedFit) -> dict[str, Estimate]:
    """The parameters of a solved fit with errors from the curvature of the likelihood alone: fast, and symmetric."""
    return estimates_of(fitted.problem, fitted.identified)


def set_estimates(fitted: SolvedFit) -> dict[str, Estimate]:
    """The parameters of a solved fit with the intervals of its confidence set, as `fit` gives them, and nothing else.

    The profiles that the page of a fit draws take most of the time of `fit`: 30 of 43 s for a law of 24 constants.
    """
    fitted, region = with_confidence_set(fitted)
    return estimates_of(fitted.problem, fitted.identified, region)


def with_confidence_set(fitted: SolvedFit) -> tuple[SolvedFit, ConfidenceSet | None]:
    """The fit and its confidence set; no set where nothing is identified since there is no gap.

    While the set is built, refits may find a lower loss than the search: that point is then the fit. A loss without a
    minimum (a law that the rows cannot have) can always be lowered further, so that this is done `MOST_REBUILDS` times.
    """
    problem, solutions, identified = fitted.problem, fitted.solutions, fitted.identified
    if not identified.rank:
        return fitted, None
    if is_large(problem):
        return fitted, sandwich_set(problem, identified)
    rebuilds = 0
    while True:
        try:
            minima, final = best_and_runners_up(solutions, 4)[1:], rebuilds == MOST_REBUILDS
            return fitted, confidence_set(problem, identified.ratio, minima, identified.ends, final=final)
        except BetterPoint as better:
            rebuilds += 1
            again = minimise(problem, better.theta[None])
            theta, loss = solutions.theta.copy(), solutions.loss.copy()
            theta[solutions.best], loss[solutions.best] = again.theta[0], again.loss[0]
            solutions = replace(solutions, theta=theta, loss=loss)
            identified = identify(problem, solutions)
            fitted = replace(fitted, solutions=solutions, identified=identified)


def fit(
    law: str | Law,
    frame: pd.DataFrame,
    *,
    holdout: str | None = None,
    bootstrap: int = 200,
    seed: int = 0,
    objective: str | None = None,
    options: HuberOptions = DEFAULT_OPTIONS,
    sensitivity: bool = True,
    source: str = "table",
) -> FitResult:
    """Fit a law to a table with columns in roles.

    Args:
        law: the id of a declared law, or a law.
        frame: columns by role (`N`, `D`, `G`, `L`, ...); optional `G_se` (standard error of G, nats), `cluster` (rows
            to resample together; by default each row alone), `holdout` (rows to score but not to fit).
        holdout: a condition on the columns, in place of the column `holdout`.
        bootstrap: refits to resampled clusters, for a second interval of each parameter; 0 for none.
        seed: the seed of the bootstrap.
        objective: the id of one of `harness.fit.problem.objective`, in place of the law's own.
        options: the residual at which Huber's loss turns from square to linear, and the quantile.
        sensitivity: whether to refit under other reasonable choices.

    Raises:
        InputError: unusable columns, too few rows, or a condition that does not parse.
    """
    fitted = solve(law, frame, holdout=holdout, objective=objective, options=options, source=source)
    return complete(fitted, frame, draws=bootstrap, seed=seed, sensitivity=sensitivity, source=source)


def complete(
    fitted: SolvedFit,
    frame: pd.DataFrame,
    *,
    draws: int = 200,
    seed: int = 0,
    sensitivity: bool = True,
    source: str = "table",
) -> FitResult:
    """Complete a solved fit with errors, scores and warnings."""
    fitted, region = with_confidence_set(fitted)
    problem, solutions, identified = fitted.problem, fitted.solutions, fitted.identified
    law, large = problem.law, is_large(problem)
    searched, searched_frame = part_of(problem, frame) if large else (problem, frame)
    sampled, ends = resample(problem, solutions, 0 if large or region is None else draws, seed)
    estimates = estimates_of(problem, identified, region, sampled, ends)
    known = np.array([value.identified for value in estimates.values()])
    status = _status(fitted.status, bool(known.all()))
    identified = replace(identified, identified=known)
    combinations = combinations_of(problem, identified, region)
    reported = [name for name, value in estimates.items() if value.identified]
    reported += [entry.combination for entry in combinations]
    refits = cases(searched, searched_frame, solutions, identified, reported) if sensitivity and reported else ()
    errors = holdout_scores(problem, identified.theta)
    robust = robustness(problem, identified, refits, status, errors.r2) if refits else None
    beyond = extrapolate(searched, solutions)
    condition = identified.condition if np.isfinite(identified.condition) else None
    loss = solutions.loss
    best, likelihood = float(np.min(loss)), problem.model.objective.variance is not None
    near = loss <= (best + 0.01 if likelihood else best * 1.01)
    value = -fitted.log_likelihood if likelihood else identified.loss * problem.unit
    result = FitResult(
        law=law.id,
        formula=law.formula,
        source=source,
        rows=int(problem.fitted.sum()),
        objective=Minimum(
            name=problem.model.objective.name,
            value=value,
            starts=len(loss),
            starts_within_1_percent=float(np.mean(near)),
            distance_from_start=float(solutions.distance[solutions.best]),
        ),
        status=status,
        parameters=estimates,
        identifiability=Identifiability(
            rank=identified.rank,
            parameters=len(law.parameters),
            condition=condition,
            identified_combinations=combinations,
            regime_rows=identified.regime_rows,
            unbounded_profiles=identified.unbounded,
        ),
        scatter=scatter_of(problem, identified.theta, fitted.degrees),
        holdout=errors,
        sensitivity=refits,
        robustness=robust,
        extrapolation=beyond.summary() if beyond else None,
        checklist=checklist(problem, frame, solutions, identified, len(sampled)),
        warnings=(
            *problem.warnings,
            *warnings_of(status, problem, identified, estimates, robust),
            *residual_groups(problem, identified, frame),
        ),
        log_likelihood=fitted.log_likelihood,
        degrees=fitted.degrees,
        draws=_columns(problem, sampled),
        confidence_set=_columns(problem, region.thetas) if region else {},
        profiles=profiles_of(problem, identified.ratio, region) if region else {},
        limit=region.limit if region else None,
        sizes={role: (float(values.min()), float(values.max())) for role, values in problem.sizes.items()},
        rows_sha256=hash_of_rows(law, frame.loc[problem.fitted]),
    )
    if problem.fitted.all():
        return result
    listed = _held_out_rows(result, problem, frame, source)
    return replace(result, holdout=holdout_scores(problem, identified.theta, listed))


def _held_out_rows(result: FitResult, problem: Problem, frame: pd.DataFrame, source: str) -> list[HeldOutRow]:
    """The held-out rows with the interval for a new run at each; an even selection of many."""
    places = np.flatnonzero(~problem.fitted)
    places = places[:: -(-len(places) // MOST_LISTED)]
    # Columns that are derived from whole series of rows need the fitted rows, too.
    whole = problem.law.derive is not None
    table = predict(result, frame if whole else frame.iloc[places], source=source)
    at = finite_rows((table.iloc[places] if whole else table).to_dict("records"))
    numbers, names = row_numbers(frame), names_of_runs(problem, frame)
    return [
        HeldOutRow(
            int(numbers[place]),
            names[place],
            float(problem.observed[place]),
            row["prediction"],
            row["run_low"],
            row["run_high"],
        )
        for place, row in zip(places, at, strict=True)
    ]


def _columns(problem: Problem, thetas: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Points by parameter, in raw units; nothing for no points."""
    if not len(thetas):
        return {}
    return {name: tuple(map(float, values)) for name, values in raw_values(problem, thetas).items()}
