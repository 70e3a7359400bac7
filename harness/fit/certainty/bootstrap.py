"""The bootstrap: refits to tables in which whole clusters of rows are drawn with replacement.

It checks the intervals of the likelihood (`confidence_set`), which take the scatter of the rows to be the same
everywhere: the refits spread as estimates from new data would, whatever the noise of a row and however rows of one
cluster depend on each other (Efron 1979; Field and Welsh 2007).

Not for: clusters that depend on each other (runs that share held-out documents), fewer than about a dozen clusters, and
parameters at the edge of their range, whose draws describe the range.
"""

import numpy as np
from jaxtyping import Float

from harness.fit.problem.centred import Problem
from harness.fit.problem.model import ends_of_range
from harness.fit.search.solver import Solutions, best_and_runners_up, minimise_cases


def cluster_weights(cluster: np.ndarray, fitted: np.ndarray, draws: int, seed: int) -> Float[np.ndarray, "draws rows"]:
    """How often each row is drawn when whole clusters are drawn with replacement; held-out rows are never drawn."""
    labels = np.unique(cluster[fitted])
    position = np.searchsorted(labels, np.where(fitted, cluster, labels[0]))
    counts = np.random.default_rng(seed).multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=draws)
    return counts[:, position] * fitted.astype(float)


def resample(
    problem: Problem, solutions: Solutions, draws: int, seed: int
) -> tuple[Float[np.ndarray, "draws parameters"], np.ndarray]:
    """Refit to resampled clusters, all constants free, starting from the best fit and from the second-best one.

    Returns:
        the parameters of every draw, in the coordinates of the search; and where each of them ended in its range, per
        draw: -1 at the lower end, 1 at the upper end, 0 between them.
    """
    count = solutions.theta.shape[1]
    if draws == 0:
        return np.empty((0, count)), np.empty((0, count), int)
    weights = cluster_weights(problem.cluster, problem.fitted, draws, seed)
    starts = best_and_runners_up(solutions, 2)
    theta = minimise_cases(problem, np.tile(starts, (draws, 1, 1)), lambda draw: weights[draw]).theta
    return theta, ends_of_range(problem.model, theta)
