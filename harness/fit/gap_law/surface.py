"""Slopes of gaps in N and D, and how they differ between groups, by generalised least squares in log G.

A gap law's exponents are slopes of log G; the regressions here ask for them without asking for a law. A gap that is not
clearly above zero has no logarithm with a normal error. It enters by its distance from the expected gap, as a share of
the latter, which is the same to first order (the working response of a generalised linear model with a logarithmic
link), and has little weight.

Groups of cells (architectures, tokenizers) are compared point by point: every group has the same cells in N and D, and
each such point has a level of its own, so that the form of the gap in N and D does not matter. Cells scatter by their
errors, by the errors that they share because they were measured on the same documents (`G_shared`), and by a scatter of
their own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.stats import chi2, f, t

# A gap this many standard errors above zero is clear: its logarithm has a nearly normal error. Most gaps must be.
CLEAR, CLEAR_SHARE = 3.0, 0.75
MOST_SCATTER = 10.0
# Rounds until the expected gaps change by less than the tolerance, as a share. About ten are needed.
ROUNDS, TOLERANCE = 100, 1e-8


class Surface(NamedTuple):
    """A fitted regression of log G.

    Attributes:
        groups: the groups in the order of the rows of `coefficients`.
        coefficients: level (at the mean log N and log D of all cells), slope in N and slope in D of each group; where
            groups are compared point by point, minus those of the first group.
        covariance: of the coefficients, row after row.
        degrees: cells minus fitted coefficients.
        scatter: the standard deviation of log G about the regression beyond the errors.
    """

    groups: tuple[str, ...]
    coefficients: Float[np.ndarray, "groups 3"]
    covariance: Float[np.ndarray, "groups*3 groups*3"]
    degrees: int
    scatter: float

    def slope(self, column: int) -> tuple[float, float]:
        """A coefficient of a single group and its standard error; column 1 is the slope in N, 2 that in D."""
        return float(self.coefficients[0, column]), float(np.sqrt(self.covariance[column, column]))

    def difference(self, column: int, first: int, second: int) -> tuple[float, float]:
        """A coefficient of one group minus that of another, and its standard error."""
        weights = np.zeros(self.coefficients.shape)
        weights[first, column], weights[second, column] = 1.0, -1.0
        flat = weights.ravel()
        return float(flat @ self.coefficients.ravel()), float(np.sqrt(flat @ self.covariance @ flat))

    def half_width(self, se: float, confidence: float = 0.95) -> float:
        """Half the width of an interval, by Student's t."""
        return float(t.ppf(0.5 + confidence / 2, self.degrees)) * se

    def equality(self, columns: Sequence[int]) -> float:
        """The p-value of the test that all groups have the same coefficients in these columns (F test)."""
        places = [3 * group + column for column in columns for group in range(1, len(self.groups))]
        apart = (self.coefficients - self.coefficients[0]).ravel()[places]
        covariance = self.covariance[np.ix_(places, places)]
        return float(f.sf(apart @ np.linalg.solve(covariance, apart) / len(apart), len(apart), self.degrees))


def fit_surface(rows: pd.DataFrame, levels: str | None = None) -> Surface | None:
    """Fit log G = level + c log N + b log D; None without rows or with too few clear gaps, or if N or D hardly varies.

    Three quarters of the gaps must be three standard errors above zero, and none as far below.

    Args:
        rows: N, D, G, G_se and perhaps G_shared (`harness.gaps.shared_documents`).
        levels: a column whose every value has a level of its own; the level that is reported is their mean.
    """
    if not _enough_clear(rows):
        return None
    labels = rows[levels].to_numpy() if levels else np.zeros(len(rows))
    own = (labels[:, None] == np.unique(labels)).astype(float)
    kept = np.zeros((3, own.shape[1] + 2))
    kept[0, :-2], kept[1, -2], kept[2, -1] = 1 / own.shape[1], 1.0, 1.0
    return _fitted(rows, ("",), np.column_stack([own, _terms(rows)[:, 1:]]), kept)


def compare_groups(rows: pd.DataFrame, by: str, first: str | None = None, levels_only: bool = False) -> Surface | None:
    """Fit log G = level of the point + (level + c log N + b log D of the group), the first group's being 0.

    Args:
        rows: as for `fit_surface`. Every group must have the same number of cells; those of two groups that stand at
            one place in the order of N and D are at one point.
        by: the column of the groups.
        first: the group to which the others are compared; by default the first by name.
        levels_only: groups differ in their levels and share the slopes.

    Returns:
        the differences, or None if too few gaps of a group are clear, or the groups have no points in common.
    """
    names = sorted(rows[by].astype(str).unique())
    if first is not None and first in names:
        names.insert(0, names.pop(names.index(first)))
    ordered = rows.assign(group=rows[by].astype(str)).sort_values(["group", "N", "D"])
    sizes = ordered.groupby("group").size()
    clear = [_enough_clear(own) for _, own in ordered.groupby("group")]
    if len(names) < 2 or len(set(sizes)) > 1 or not all(clear):
        return None
    point = ordered.groupby("group").cumcount().to_numpy()
    member = ordered["group"].to_numpy()[:, None] == np.asarray(names[1:])
    terms = _terms(ordered)[:, : 1 if levels_only else 3]
    own = (member[:, :, None] * terms[:, None, :]).reshape(len(ordered), -1)
    levels = (point[:, None] == np.arange(sizes.iloc[0])).astype(float)
    # The coefficients of the first group are 0, and those that groups share are not reported.
    kept = np.zeros((3 * len(names), own.shape[1] + levels.shape[1]))
    for column in range(own.shape[1]):
        group, term = divmod(column, terms.shape[1])
        kept[3 * (group + 1) + term, column] = 1.0
    return _fitted(ordered, tuple(names), np.column_stack([own, levels]), kept)


def _terms(rows: pd.DataFrame) -> Float[np.ndarray, "rows 3"]:
    sizes = np.log(rows[["N", "D"]].to_numpy(float))
    return np.column_stack([np.ones(len(rows)), sizes - sizes.mean(axis=0)])


def _fitted(
    rows: pd.DataFrame, names: tuple[str, ...], design: Float[np.ndarray, "rows columns"],
    kept: Float[np.ndarray, "groups*3 columns"],
) -> Surface | None:  # fmt: skip
    """Solve the regression, and give those coefficients that `kept` picks from its columns."""
    gap, error = rows["G"].to_numpy(float), rows["G_se"].to_numpy(float)
    degrees, clear = len(rows) - design.shape[1], gap >= CLEAR * error
    if degrees < 1 or np.any(gap < -CLEAR * error) or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    # The expected gaps of cells that are not clear; a guess at first.
    expected = np.maximum(gap, error)
    for _ in range(ROUNDS):
        size = np.where(clear, gap, expected)
        logs, noise = np.log(size) + np.where(clear, 0.0, gap / size - 1), _noise(rows, size, error)
        scatter = common_scatter(design, logs, noise, degrees)
        solution, covariance, _ = least_squares(design, logs, noise + scatter**2 * np.eye(len(rows)))
        change = np.where(clear, 0.0, design @ solution - np.log(expected))
        expected = expected * np.exp(np.clip(change, -1.0, 1.0))
        if np.max(np.abs(change)) < TOLERANCE:
            return Surface(names, (kept @ solution).reshape(-1, 3), kept @ covariance @ kept.T, degrees, scatter)
    return None


def _enough_clear(rows: pd.DataFrame) -> bool:
    return len(rows) > 0 and float(np.mean(rows["G"] >= CLEAR * rows["G_se"])) >= CLEAR_SHARE


def _noise(rows: pd.DataFrame, size: Float[np.ndarray, "rows"], error: Float[np.ndarray, "rows"]):
    """The covariance of the errors of log G, given the gaps' sizes."""
    own = (error / size) ** 2
    if "G_shared" not in rows:
        return np.diag(own)
    vectors = np.stack([np.asarray(vector, float) for vector in rows["G_shared"]]) / size[:, None]
    return vectors @ vectors.T + np.diag(np.maximum(own - np.sum(vectors**2, axis=1), 0.0))


def least_squares(design, logs, covariance):
    """(Solution, its covariance, the sum of squares of the whitened residuals)."""
    weighed = np.linalg.solve(covariance, design)
    spread = np.linalg.inv(design.T @ weighed)
    solution = spread @ (weighed.T @ logs)
    residual = logs - design @ solution
    return solution, spread, float(residual @ np.linalg.solve(covariance, residual))


def common_scatter(design, logs, noise, degrees: int) -> float:
    """The scatter at which the whitened residuals have their expected sum of squares (Paule and Mandel 1982)."""

    def excess(scatter: float) -> float:
        return least_squares(design, logs, noise + scatter**2 * np.eye(len(logs)))[2] - degrees

    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, MOST_SCATTER))  # pyright: ignore[reportArgumentType]


def scatter_interval(
    residual: Float[np.ndarray, "rows"], error: Float[np.ndarray, "rows"], degrees: int
) -> tuple[float, float, float | None]:
    """(Estimate, low, high) of the scatter of residuals beyond their errors: 95 %, by the Q profile (Viechtbauer 2007).

    The upper end is None where residuals are so much smaller than their errors that no scatter would be in the
    interval: the errors are then too large to tell one.

    Args:
        degrees: rows minus the constants that were fitted to them.
    """

    def at(quantile: float) -> float:
        def excess(scatter: float) -> float:
            return float(np.sum(residual**2 / (error**2 + scatter**2))) - quantile

        if excess(0.0) <= 0 or excess(MOST_SCATTER) >= 0:
            return 0.0 if excess(0.0) <= 0 else MOST_SCATTER
        return float(brentq(excess, 0.0, MOST_SCATTER))  # pyright: ignore[reportArgumentType]

    high = at(float(chi2.ppf(0.025, degrees)))
    return at(float(degrees)), at(float(chi2.ppf(0.975, degrees))), high if high > 0 else None
