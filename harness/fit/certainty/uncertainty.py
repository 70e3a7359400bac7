"""Standard errors and confidence intervals: Fisher information, and a bootstrap that resamples whole clusters."""

import numpy as np
from jaxtyping import Float
from scipy.stats import norm
from scipy.stats import t as student

from harness.fit.certainty.identify import Identified
from harness.fit.certainty.information import raw_map, whitened_jacobian
from harness.fit.problem.problem import Problem
from harness.fit.search.solver import Solutions, best_and_runners_up, bounds_of, minimise

RANK_FLOOR = 1e-6
LEVEL = 95.0
AT_BOUND_SHARE = 0.025


def covariance(problem: Problem, identified: Identified) -> Float[np.ndarray, "parameters parameters"]:
    """Inverse Fisher information in raw coordinates, on the directions that the data fix (a pseudo-inverse)."""
    jacobian = np.nan_to_num(whitened_jacobian(problem, identified.theta))
    norms = np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300)
    _, values, vectors = np.linalg.svd(jacobian / norms, full_matrices=False)
    kept = values > RANK_FLOOR * values[0]
    half = (vectors[kept] / values[kept, None]) / norms
    # A rival's constant may be e^180 here, and its slope beyond any float: cut off where the square still is one.
    slope, half = (np.clip(np.nan_to_num(part), -1e70, 1e70) for part in (raw_map(problem, identified.theta)[1], half))
    return slope @ half.T @ half @ slope.T


def cluster_weights(cluster: np.ndarray, fitted: np.ndarray, draws: int, seed: int) -> Float[np.ndarray, "draws rows"]:
    """How often each row is drawn when whole clusters are drawn with replacement; held-out rows never are."""
    labels = np.unique(cluster[fitted])
    position = np.searchsorted(labels, np.where(fitted, cluster, labels[0]))
    counts = np.random.default_rng(seed).multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=draws)
    return counts[:, position] * fitted.astype(float)


def resample(
    problem: Problem, solutions: Solutions, identified: Identified, draws: int, seed: int
) -> tuple[Float[np.ndarray, "draws parameters"], np.ndarray]:
    """Refits to resampled clusters, from the adopted point and the runners-up; and which ends were hit, per draw.

    A parameter held at an end of its range (a kink beyond the data) stays there: draws describe what is identified.
    """
    if draws == 0:
        return np.empty((0, len(identified.theta))), np.empty((0, len(identified.theta)), int)
    weights = cluster_weights(problem.cluster, problem.fitted, draws, seed)
    starts = np.vstack([identified.theta, best_and_runners_up(solutions, 2)[-1]])
    starts[:, ~identified.free] = identified.theta[~identified.free]
    runs = len(starts)
    found = minimise(
        problem,
        np.tile(starts, (draws, 1)),
        lambda run: weights[run // runs],
        np.tile(identified.free, (draws * runs, 1)),
    )
    best = found.loss.reshape(draws, runs).argmin(axis=1) + runs * np.arange(draws)
    theta = found.theta[best]
    low, high = bounds_of(problem.model)
    ends = np.where(theta - low < 1e-6, -1, np.where(high - theta < 1e-6, 1, 0)) * identified.free
    return theta, ends


def deviation(draws: Float[np.ndarray, "draws"]) -> float:
    """Half the span of the middle 68.27 %: a standard deviation that a few draws far out do not move."""
    return float(np.subtract(*np.percentile(draws, [84.135, 15.865])) / 2)


def tail(clusters: int, degrees: int) -> float:
    """The share of draws on either side of a 95 % interval: 2.5 % with many clusters, less with few.

    Resampling n clusters gives a spread too small by sqrt((n - p)/n), and a normal's quantile where Student's is due:
    the expanded percentile interval of Hesterberg 2015 (The American Statistician 69, 371).
    """
    spare = max(clusters - degrees, 1)
    return float(norm.cdf(-np.sqrt(clusters / spare) * student.ppf(0.5 + LEVEL / 200, spare)))


def interval(
    draws: Float[np.ndarray, "draws"], at_end: np.ndarray | None = None, share: float = (1 - LEVEL / 100) / 2
) -> tuple[float | None, float | None]:
    """Percentile interval with `share` of the draws beyond either end; None where 2.5 % or more stopped at the range's.

    A percentile of draws that the range cut off describes the range, not the data.
    """
    low, high = np.quantile(draws, [share, 1 - share])
    at_end = np.zeros(len(draws), int) if at_end is None else at_end
    return (
        None if np.mean(at_end < 0) > AT_BOUND_SHARE else float(low),
        None if np.mean(at_end > 0) > AT_BOUND_SHARE else float(high),
    )
