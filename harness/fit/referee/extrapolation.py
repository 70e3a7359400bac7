"""Extrapolation: a law is fitted to runs up to some scale and scored on the next larger ones, window after window."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from harness.fit.certainty.information import errors_near, slopes_of_rows
from harness.fit.laws.law import Columns, Law
from harness.fit.problem.centred import Problem
from harness.fit.problem.likelihood import log_likelihood_rows
from harness.fit.problem.raw_units import predictions
from harness.fit.results.result import ExtrapolationErrors
from harness.fit.search.solver import Solutions, best_and_runners_up, minimise_cases

WINDOWS = 4  # sets of runs of growing scale that are scored one after the other
# The first window is fitted to this share of the runs. With fewer, most laws are not identified there.
FIRST_SHARE = 0.5
STARTS_PER_WINDOW = 24


@dataclass(frozen=True)
class Extrapolation:
    """Scores of runs of larger scale than those fitted.

    Attributes:
        rows: which rows were scored, each once, by the fit to all smaller ones.
        score: a number per scored row, larger is better. For a gap it is the log density; for other responses it is
            minus the absolute error of the log, or of the value where the response may be negative.
        relative: |prediction/response - 1| of each scored row.
        reach: the largest scale in a window divided by the largest fitted scale; geometric mean over windows.
        excess: how much larger the errors are than the fits to the smaller runs expect of themselves: the root of the
            mean square error less the mean variance of a new run; relative where the objective is, else in the
            response's unit. 0 if the fits are as good as they say.
        largest: the largest scale of the fitted rows.
    """

    rows: np.ndarray
    score: Float[np.ndarray, "scored"]
    relative: Float[np.ndarray, "scored"]
    reach: float
    excess: float
    largest: float

    def summary(self) -> ExtrapolationErrors:
        """The means that a fit's result reports."""
        known = bool(np.isfinite(self.relative).all())
        return ExtrapolationErrors(
            rows=int(self.rows.sum()),
            reach=self.reach,
            mean_abs_relative_error=float(self.relative.mean()) if known else None,
            mean_score=float(self.score.mean()) if np.isfinite(self.score).all() else None,
            excess=self.excess,
            largest=self.largest,
        )


def scale_of(law: Law, columns: Columns) -> Float[np.ndarray, "rows"]:
    """The scale that orders runs: flops; else parameters times tokens; else the law's first unsigned column.

    Args:
        columns: the law's columns, raw.
    """
    if "flops" in columns:
        return columns["flops"]
    sizes = [name for name in ("N", "N_bar", "N_nonvocab", "D", "U") if name in columns][:2]
    if "N" not in columns and "N_bar" not in columns and "D" not in columns:
        sizes = [name for name in law.columns if name not in law.signed][:1]
    values = np.ones(len(next(iter(columns.values()), ())))
    for name in sizes:
        values = values * columns[name]
    return values


def windows_of(problem: Problem) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows to fit, rows to score) per window, by growing scale; clusters stay whole, held-out rows stay out."""
    scale = scale_of(problem.law, problem.raw_columns)
    labels, cluster = np.unique(problem.cluster, return_inverse=True)
    largest = np.full(len(labels), -np.inf)
    np.maximum.at(largest, cluster, np.where(problem.fitted, scale, -np.inf))
    of_row = largest[cluster]
    distinct = np.sort(largest[np.isfinite(largest)])
    shares = np.linspace(FIRST_SHARE, 1.0, WINDOWS + 1)
    edges = np.unique(np.quantile(distinct, shares, method="lower"))
    windows = []
    for low, high in zip(edges, edges[1:], strict=False):
        train = problem.fitted & (of_row <= low)
        test = problem.fitted & (of_row > low) & (of_row <= high)
        if test.any() and train.sum() >= len(problem.law.parameters) + 1:
            windows.append((train, test))
    return windows


def extrapolate(problem: Problem, solutions: Solutions) -> Extrapolation | None:
    """The scores of all windows; None if there are too few scales for a window."""
    windows = windows_of(problem)
    if not windows:
        return None
    grid = solutions.starts
    starts = np.vstack([best_and_runners_up(solutions, 3), grid[:: max(1, len(grid) // STARTS_PER_WINDOW)]])
    refits = minimise_cases(
        problem, np.tile(starts, (len(windows), 1, 1)), lambda window: windows[window][0].astype(float)
    )
    score, relative = np.full(len(problem.response), np.nan), np.full(len(problem.response), np.nan)
    squares = []
    for (train, test), theta in zip(windows, refits.theta, strict=True):
        window = replace(problem, fitted=train)
        score[test], relative[test] = (part[test] for part in scores(window, theta))
        squares.append(_excess(window, theta, test))
    scale, rows = scale_of(problem.law, problem.raw_columns), np.isfinite(score)
    reach = [np.log(scale[test].max() / scale[train].max()) for train, test in windows]
    known = [square for square in squares if np.isfinite(square)]
    excess = float(np.sqrt(max(np.mean(known), 0.0))) if known else 0.0
    return Extrapolation(
        rows, score[rows], relative[rows], float(np.exp(np.mean(reach))), excess, float(scale[problem.fitted].max())
    )


def _excess(window: Problem, theta, test: np.ndarray) -> float:
    """The mean square error of the scored rows less the variance that the fit to smaller runs expects of them."""
    objective, response = window.model.objective, window.scales[window.law.response]
    with np.errstate(all="ignore"):
        predicted = predictions(window, theta) / response
        residuals = objective.residuals(predicted, window.response)
        spare = max(window.fitted.sum() - len(window.law.parameters), 1)
        own = np.mean(residuals[window.fitted] ** 2) * window.fitted.sum() / spare
        slopes = slopes_of_rows(window, theta)
        errors = errors_near(window, theta)
        of_law = np.sum((slopes @ errors.T) ** 2, axis=1)
        if objective.variance is None:
            unit = 1.0 if objective.log else response
            return float(np.mean(residuals[test] ** 2 - of_law[test] - own)) * unit**2
        noise = objective.variance(predicted, window.noise, objective.own_values(theta))
        return float(np.mean(((residuals**2 - of_law - noise) / predicted**2)[test]))


def scores(problem: Problem, theta) -> tuple[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"]]:
    """Score and relative error of every row under a fit to the problem's fitted rows; see `Extrapolation`."""
    law = problem.law
    predicted, observed = predictions(problem, theta), problem.observed
    with np.errstate(all="ignore"):
        relative = np.abs(predicted / observed - 1.0)
        if law.contrast:
            return log_likelihood_rows(problem, theta), relative
        if law.response in law.signed:
            return -np.abs(predicted - observed), relative
        return -np.abs(np.log(np.maximum(predicted, 1e-300)) - np.log(observed)), relative
