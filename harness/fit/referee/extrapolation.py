"""Extrapolation: a law is fitted to runs up to some scale and scored on the next larger ones, window after window."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

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
    """

    rows: np.ndarray
    score: Float[np.ndarray, "scored"]
    relative: Float[np.ndarray, "scored"]
    reach: float

    def summary(self) -> ExtrapolationErrors:
        """The means that a fit's result reports."""
        known = bool(np.isfinite(self.relative).all())
        return ExtrapolationErrors(
            rows=int(self.rows.sum()),
            reach=self.reach,
            mean_abs_relative_error=float(self.relative.mean()) if known else None,
            mean_score=float(self.score.mean()) if np.isfinite(self.score).all() else None,
        )


def scale_of(problem: Problem) -> Float[np.ndarray, "rows"]:
    """The scale that orders runs: flops; else parameters times tokens; else the law's first unsigned column."""
    raw = problem.raw_columns
    if "flops" in raw:
        return raw["flops"]
    sizes = [name for name in ("N", "N_bar", "N_nonvocab", "D", "U") if name in raw][:2]
    if "N" not in raw and "N_bar" not in raw and "D" not in raw:
        sizes = [name for name in problem.law.columns if name not in problem.law.signed][:1]
    values = np.ones(len(problem.response))
    for name in sizes:
        values = values * raw[name]
    return values


def windows_of(problem: Problem) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows to fit, rows to score) per window, by growing scale; clusters stay whole, held-out rows stay out."""
    scale = scale_of(problem)
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
    for (train, test), theta in zip(windows, refits.theta, strict=True):
        score[test], relative[test] = (part[test] for part in scores(replace(problem, fitted=train), theta))
    scale, rows = scale_of(problem), np.isfinite(score)
    reach = [np.log(scale[test].max() / scale[train].max()) for train, test in windows]
    return Extrapolation(rows, score[rows], relative[rows], float(np.exp(np.mean(reach))))


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
