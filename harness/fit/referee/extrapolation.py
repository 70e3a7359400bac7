"""Extrapolation: a law is fitted to runs up to some scale and scored on the next larger ones, window after window."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from harness.fit.certainty.information import errors_near, slopes_of_rows
from harness.fit.laws.law import Columns, Law
from harness.fit.problem.centred import Problem
from harness.fit.problem.likelihood import log_likelihood_rows
from harness.fit.problem.raw_units import predictions
from harness.fit.problem.sizes import FLOPS_PER_PARAMETER_TOKEN
from harness.fit.results.result import ExtrapolationErrors
from harness.fit.search.solver import Solutions, best_and_runners_up, minimise_cases

WINDOWS = 4  # sets of runs of growing scale that are scored one after the other
# The first window is fitted to this share of the runs. With fewer, most laws are not identified there.
FIRST_SHARE = 0.5
STARTS_PER_WINDOW = 24


class Window(NamedTuple):
    """A fit to runs up to some scale: the rows it is fitted to, the larger ones that it is scored on, and its point."""

    train: Bool[np.ndarray, "rows"]
    test: Bool[np.ndarray, "rows"]
    theta: Float[np.ndarray, "parameters"]


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
        windows: the fits that were scored.
    """

    rows: np.ndarray
    score: Float[np.ndarray, "scored"]
    relative: Float[np.ndarray, "scored"]
    reach: float
    excess: float
    largest: float
    windows: tuple[Window, ...]

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


def _columns_of_scale(law: Law) -> list[str]:
    if "flops" in law.columns:
        return ["flops"]
    if {"N", "N_bar", "D"}.isdisjoint(law.columns):
        return [name for name in law.columns if name not in law.signed][:1]
    return [name for name in ("N", "N_bar", "N_nonvocab", "D", "U") if name in law.columns][:2]


def scale_of(law: Law, columns: Columns) -> Float[np.ndarray, "rows"]:
    """The scale that orders runs: flops; else 6 N D; else the law's first unsigned column.

    Args:
        columns: the law's columns, raw.
    """
    names = _columns_of_scale(law)
    factor = FLOPS_PER_PARAMETER_TOKEN if len(names) == 2 else 1.0
    return np.prod([columns[name] for name in names], axis=0, initial=factor)


def scale_name(law: Law) -> str:
    """The scale that orders runs, in words."""
    names = _columns_of_scale(law)
    return f"scale 6 {' '.join(names)}" if len(names) == 2 else f"scale {''.join(names)}".strip()


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
    fits = tuple(Window(*window, theta) for window, theta in zip(windows, refits.theta, strict=True))
    largest = float(scale[problem.fitted].max())
    return Extrapolation(rows, score[rows], relative[rows], float(np.exp(np.mean(reach))), excess, largest, fits)


def resampled_scores(
    problem: Problem,
    windows: Sequence[Window],
    rows: Bool[np.ndarray, "rows"],
    weights: Float[np.ndarray, "draws rows"],
) -> Float[np.ndarray, "draws"]:
    """The mean score of some rows, weighted, with every window refitted to its own rows with these weights.

    So it varies as much as the score of another set of runs would: with the runs that are scored, and with the fits.
    """
    cases = [(window, draw) for window in windows for draw in range(len(weights)) if (window.test & rows).any()]
    starts = np.asarray([[window.theta] for window, _ in cases])
    thetas = minimise_cases(problem, starts, lambda case: weights[cases[case][1]] * cases[case][0].train).theta
    totals, counts = np.zeros(len(weights)), np.zeros(len(weights))
    for (window, draw), theta in zip(cases, thetas, strict=True):
        scored = window.test & rows
        score, _ = scores(replace(problem, fitted=window.train), theta)
        totals[draw] += weights[draw][scored] @ score[scored]
        counts[draw] += weights[draw][scored].sum()
    return totals / counts


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
