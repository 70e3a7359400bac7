"""The bootstrap: refits to tables in which whole clusters of rows are drawn with replacement.

Guarantee: with many independent clusters the refits spread as estimates from new data would, whatever the noise of a
row and however rows of one cluster depend on each other (Efron 1979; Field and Welsh 2007). `intervals` turns draws
into 95 % intervals that allow for few clusters.

Not for: clusters that depend on each other (runs that share held-out documents), fewer than about a dozen clusters, and
parameters at the edge of their range, whose draws describe the range. Such an interval is left open on that side.
"""

import numpy as np
from jaxtyping import Float

from harness.fit.certainty.identifiability import Identified
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
    problem: Problem, solutions: Solutions, identified: Identified, draws: int, seed: int
) -> tuple[Float[np.ndarray, "draws parameters"], np.ndarray]:
    """Refit to resampled clusters, starting from the point that `identify` adopted and from the second-best one.

    A parameter that was held at an end of its range (a kink beyond the data) stays there.

    Returns:
        the parameters of every draw, in the coordinates of the search; and where each of them ended in its range, per
        draw: -1 at the lower end, 1 at the upper end, 0 between them.
    """
    if draws == 0:
        return np.empty((0, len(identified.theta))), np.empty((0, len(identified.theta)), int)
    weights = cluster_weights(problem.cluster, problem.fitted, draws, seed)
    starts = identified.starts_with(best_and_runners_up(solutions, 2)[-1])
    theta = minimise_cases(problem, np.tile(starts, (draws, 1, 1)), lambda draw: weights[draw], identified.free).theta
    return theta, ends_of_range(problem.model, theta) * identified.free
