"""Fit a law to a table: search, identifiability, errors, and the questions of a referee, in one result."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from harness.fit.certainty.bootstrap import resample
from harness.fit.certainty.identifiability import Identified, identify, nothing_identified
from harness.fit.certainty.intervals import combinations_of, estimates_of
from harness.fit.certainty.large_tables import draws_from_sandwich, extend, is_large, large_table_warning, part_of
from harness.fit.certainty.profile_likelihood import profile_intervals as profile_of
from harness.fit.certainty.sign_flip import detect
from harness.fit.forecast import predict
from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import Problem, centre
from harness.fit.problem.fit_status import FitStatus
from harness.fit.problem.likelihood import log_likelihood_rows
from harness.fit.problem.objective import DEFAULT_OPTIONS, HuberOptions
from harness.fit.problem.raw_units import raw_values
from harness.fit.problem.table_checks import oddities
from harness.fit.referee.checklist import checklist
from harness.fit.referee.extrapolation import extrapolate
from harness.fit.referee.fit_warnings import warnings_of
from harness.fit.referee.scores import holdout_scores, names_of_runs, row_numbers, scatter_of
from harness.fit.referee.sensitivity import cases, robustness
from harness.fit.results.held_out import HeldOutRow
from harness.fit.results.result import Estimate, FitResult, Identifiability, Minimum
from harness.fit.results.shown import finite_rows
from harness.fit.search.solver import Solutions, minimise, status_of
from harness.fit.search.starts import grid_of_starts
from sweeps.errors import InputError

MOST_LISTED = 10_000  # held-out rows that a result lists


@dataclass(frozen=True)
class SolvedFit:
    """A solved fit before its errors are known; bootstrap, comparison and verdict start from it."""

    problem: Problem
    solutions: Solutions
    identified: Identified
    status: FitStatus

    @property
    def degrees(self) -> int:
        """The number of fitted directions: those of the law, and the scale of the residuals."""
        return self.identified.degrees + 1

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
    law = get_law(law)
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
    if not identified.identified.all() and status in (FitStatus.CONVERGED, FitStatus.AT_BOUND):
        status = FitStatus.NOT_IDENTIFIED
    return SolvedFit(problem, solutions, identified, status)


def curvature_estimates(fitted: SolvedFit) -> dict[str, Estimate]:
    """The parameters of a solved fit with errors from the curvature of the likelihood alone, without a bootstrap."""
    no_draws = resample(fitted.problem, fitted.solutions, fitted.identified, 0, 0)
    return estimates_of(fitted.problem, fitted.identified, *no_draws)


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
    profile: bool = False,
    source: str = "table",
) -> FitResult:
    """Fit a law to a table with columns in roles.

    Args:
        law: the id of a declared law, or a law.
        frame: columns by role (`N`, `D`, `G`, `L`, ...); optional `G_se` (standard error of G, nats), `cluster` (rows
            to resample together; by default each row alone), `holdout` (rows to score but not to fit).
        holdout: a condition on the columns, in place of the column `holdout`.
        bootstrap: refits to resampled clusters; 0 takes standard errors from the curvature.
        seed: the seed of the bootstrap.
        objective: the id of one of `harness.fit.problem.objective`, in place of the law's own.
        options: the residual at which Huber's loss turns from square to linear, and the quantile.
        sensitivity: whether to refit under other reasonable choices.
        profile: whether to add intervals of the profile likelihood.

    Raises:
        InputError: unusable columns, too few rows, or a condition that does not parse.
    """
    fitted = solve(law, frame, holdout=holdout, objective=objective, options=options, source=source)
    return complete(fitted, frame, draws=bootstrap, seed=seed, sensitivity=sensitivity, profile=profile, source=source)


def complete(
    fitted: SolvedFit,
    frame: pd.DataFrame,
    *,
    draws: int = 200,
    seed: int = 0,
    sensitivity: bool = True,
    profile: bool = False,
    source: str = "table",
) -> FitResult:
    """Complete a solved fit with errors, scores and warnings."""
    problem, solutions, identified = fitted.problem, fitted.solutions, fitted.identified
    law = problem.law
    if is_large(problem):
        sampled, ends = draws_from_sandwich(problem, identified, draws, seed)
        searched, searched_frame = part_of(problem, frame)
    else:
        sampled, ends = resample(problem, solutions, identified, draws, seed)
        searched, searched_frame = problem, frame
    estimates = estimates_of(problem, identified, sampled, ends)
    if profile:
        for name, (low, high) in profile_of(problem, identified, fitted.degrees).items():
            estimates[name] = replace(estimates[name], profile_low=low, profile_high=high)
    combinations = combinations_of(problem, identified, sampled)
    reported = [name for name, value in estimates.items() if value.identified]
    reported += [entry.combination for entry in combinations]
    refits = cases(searched, searched_frame, solutions, identified, reported) if sensitivity and reported else ()
    robust = robustness(problem, identified, refits) if refits else None
    beyond = extrapolate(searched, solutions) if sensitivity else None
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
            given_up_for_fewer_directions=(identified.loss - best) * problem.unit,
            starts=len(loss),
            starts_within_1_percent=float(np.mean(near)),
            distance_from_start=float(solutions.distance[solutions.best]),
        ),
        status=fitted.status,
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
        holdout=holdout_scores(problem, identified.theta),
        sensitivity=refits,
        robustness=robust,
        extrapolation=beyond.summary() if beyond else None,
        checklist=checklist(problem, frame, solutions, identified, draws),
        warnings=(*problem.warnings, *warnings_of(fitted.status, problem, identified, estimates, robust)),
        log_likelihood=fitted.log_likelihood,
        degrees=fitted.degrees,
        draws={name: tuple(map(float, values)) for name, values in raw_values(problem, sampled).items()}
        if draws
        else {},
        sizes={role: (float(values.min()), float(values.max())) for role, values in problem.sizes.items()},
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
