"""Tables of many rows: the search and the checks use a sample of the rows, the fit and its errors use all.

A million checkpoints of 500 runs hold hardly more information than every 60th of them, but a multi-start over all
takes minutes.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from harness.fit.certainty.confidence_set import ConfidenceSet
from harness.fit.certainty.identifiability import Identified, identify
from harness.fit.certainty.information import RANK_FLOOR, scores_and_curvature
from harness.fit.certainty.likelihood_ratio import CONFIDENCE
from harness.fit.problem.centred import Problem
from harness.fit.problem.fit_status import FitWarning
from harness.fit.problem.model import bounds_of, ends_of_range
from harness.fit.search.solver import Solutions, best_and_runners_up, minimise_cases

RAYS = 1000  # points on the edge of the ellipsoid of a large table
MOST_ROWS = 16_384  # rows that a multi-start uses; a larger table is sampled


def is_large(problem: Problem) -> bool:
    """Whether a table has too many rows for a multi-start over all of them."""
    return len(problem.response) > MOST_ROWS


def part_of(problem: Problem, frame: pd.DataFrame, seed: int = 0) -> tuple[Problem, pd.DataFrame]:
    """A random sample of the rows, in the table's order, with about the same share of every run."""
    rows = np.sort(np.random.default_rng(seed).choice(len(problem.response), MOST_ROWS, replace=False))
    return problem.select(rows), frame.iloc[rows].reset_index(drop=True)


def large_table_warning(problem: Problem) -> FitWarning:
    """The warning that says how a large table was fitted."""
    share = MOST_ROWS / len(problem.response)
    text = (
        f"{len(problem.response)} rows: multi-start, identifiability and other choices on {share:.2%} of them, the fit"
        " itself on all; errors from the curvature and the scores of whole clusters (sandwich)"
    )
    return FitWarning("large_table", text)


def extend(problem: Problem, part: Problem, solutions: Solutions) -> tuple[Solutions, Identified]:
    """Continue, with all rows, the best searches that were made on a part of them."""
    identified = identify(part, solutions)
    whole = minimise_cases(problem, best_and_runners_up(solutions, 2)[None])
    loss, best = float(whole.loss[0]), solutions.best
    # The other searches are not continued. Their excess over the best loss is scaled up in proportion to the rows.
    scale = problem.weights.sum() / part.weights.sum()
    theta, finished = solutions.theta.copy(), solutions.finished.copy()
    theta[best] = whole.theta[0]
    finished[best] &= whole.finished[0]
    extrapolated = loss + scale * (solutions.loss - solutions.loss[best])
    extended = replace(solutions, theta=theta, loss=extrapolated, finished=finished)
    return extended, replace(identified, ratio=replace(identified.ratio, theta=whole.theta[0], loss=loss))


def sandwich_set(problem: Problem, identified: Identified, seed: int = 0) -> ConfidenceSet:
    """The ellipsoid of the cluster-robust covariance H^-1 (sum s s') H^-1 about the fit (Huber 1967, White 1980).

    Its edge takes the place of `confidence_set`, which it equals in the limit of many clusters.
    """
    scores, curvature = scores_and_curvature(problem, identified.theta)
    labels, cluster = np.unique(problem.cluster[problem.fitted], return_inverse=True)
    sums = np.stack([np.bincount(cluster, weights=column) for column in scores[problem.fitted].T], axis=1)
    middle = sums.T @ sums * len(labels) / max(len(labels) - 1, 1)
    size = np.sqrt(np.maximum(np.diag(curvature), 1e-300))
    values, vectors = np.linalg.eigh(curvature / size / size[:, None])
    kept = values > RANK_FLOOR * values[-1]
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / size / size[:, None]
    spread = inverse @ middle @ inverse
    values, vectors = np.linalg.eigh(spread)
    directions = np.random.default_rng(seed).standard_normal((RAYS, len(size)))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    limit = float(stdtrit(max(len(labels) - len(problem.law.parameters), 1), CONFIDENCE) ** 2)
    steps = directions * np.sqrt(np.maximum(values, 0.0) * limit) @ vectors.T
    # The step along which a constant changes most is known exactly.
    errors = np.sqrt(np.maximum(np.diag(spread), 1e-300))
    steps = np.concatenate([steps, spread / errors * np.sqrt(limit), -spread / errors * np.sqrt(limit)])
    low, high = bounds_of(problem.model)
    thetas = np.clip(np.concatenate([identified.theta[None], identified.theta + steps]), low, high)
    ends = ends_of_range(problem.model, thetas)
    reached = {
        (index, sign): np.stack([identified.theta, thetas[1:][ends[1:, index] == sign][0]])
        for index in range(len(problem.law.parameters))
        for sign in (-1, 1)
        if np.any(ends[1:, index] == sign)
    }
    return ConfidenceSet(thetas, thetas[:1], limit, high - low, reached)
