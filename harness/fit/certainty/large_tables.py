"""Tables of many rows: the search and the checks use a sample of the rows, the fit and its errors use all.

A million checkpoints of 500 runs hold hardly more information than every 60th of them, but a multi-start over all
takes minutes.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.certainty.identifiability import Identified, identify
from harness.fit.certainty.information import RANK_FLOOR, scores_and_curvature
from harness.fit.problem.centred import Problem
from harness.fit.problem.fit_status import FitWarning
from harness.fit.problem.model import bounds_of, ends_of_range
from harness.fit.search.solver import Solutions, best_and_runners_up, minimise_cases

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
    starts = identified.starts_with(best_and_runners_up(solutions, 2))
    whole = minimise_cases(problem, starts[None], free=identified.free)
    loss, best = float(whole.loss[0]), solutions.best
    # The other searches are not continued. Their excess over the best loss is scaled up in proportion to the rows.
    scale = problem.weights.sum() / part.weights.sum()
    theta, finished = solutions.theta.copy(), solutions.finished.copy()
    theta[best] = whole.theta[0]
    finished[best] &= whole.finished[0]
    extrapolated = loss + scale * (solutions.loss - solutions.loss[best])
    extended = replace(solutions, theta=theta, loss=extrapolated, finished=finished)
    return extended, replace(identified, theta=whole.theta[0], loss=loss)


def draws_from_sandwich(
    problem: Problem, identified: Identified, draws: int, seed: int
) -> tuple[Float[np.ndarray, "draws parameters"], np.ndarray]:
    """Draws of a normal with the cluster-robust covariance H^-1 (sum s s') H^-1 about the fit (Huber 1967, White 1980).

    They replace a bootstrap of whole clusters, whose draws have this distribution in the limit of many clusters.
    """
    scores, curvature = scores_and_curvature(problem, identified.theta)
    labels, cluster = np.unique(problem.cluster[problem.fitted], return_inverse=True)
    sums = np.stack([np.bincount(cluster, weights=column) for column in scores[problem.fitted].T], axis=1)
    middle = sums.T @ sums * len(labels) / max(len(labels) - 1, 1)
    free = identified.free
    size = np.sqrt(np.maximum(np.diag(curvature), 1e-300))
    values, vectors = np.linalg.eigh((curvature / size / size[:, None])[np.ix_(free, free)])
    kept = values > RANK_FLOOR * values[-1]
    inverse = (vectors[:, kept] / values[kept]) @ vectors[:, kept].T / size[free] / size[free][:, None]
    spread = inverse @ middle[np.ix_(free, free)] @ inverse
    rng = np.random.default_rng(seed)
    theta = np.tile(identified.theta, (draws, 1))
    theta[:, free] += rng.multivariate_normal(np.zeros(int(free.sum())), spread, draws, method="eigh")
    low, high = bounds_of(problem.model)
    theta = np.clip(theta, low, high)
    return theta, ends_of_range(problem.model, theta) * free
