"""The sign-flip test of whether there is a gap at all: valid for any noise that is symmetric about zero."""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from harness.fit.problem.centred import Problem
from harness.fit.results.no_gap import NoGap

FLIPS = 1999  # draws of random signs, for the statistic's distribution if there were no gap
SIGNIFICANCE = 0.01  # a gap is detected below this p value
NOT_ABOVE_ZERO = "the gaps are not shown to lie above zero (one-sided sign-flip test at 1 %)"
POWERS = (0.0, 0.25, 0.5, 1.0)  # the powers b that are tried in the weights D^-b


@dataclass(frozen=True)
class Signal:
    """Whether the gaps differ from zero, with the p value of the sign-flip test and the share of positive rows."""

    detected: bool
    p_value: float
    positive_share: float


def detect(problem: Problem, seed: int = 0) -> Signal:
    """Test "every gap is zero" by flipping signs, whole clusters together: exact for symmetric noise of unknown size.

    The statistic is the largest over powers b of the self-normalised sums S_b = sum(g)/sqrt(sum(g^2)) over clusters,
    with g the sum of w G over a cluster, w = D^-b / (SE^2 + median(G^2)) and SE the standard error of G. The weights
    D^-b keep a gap that is seen only at few tokens from being drowned by the other rows. Where rows share known errors
    (`Problem.shared`), the covariances between clusters are added to sum(g^2) below the observed sums, if they are
    above zero.

    Fewer than seven clusters have too few flips for a p value of 1 %. Their sums are then taken for normal: S_b is a
    function of Student's t, and the least p value counts as many times as there are powers (Bonferroni).
    """
    fitted = problem.fitted
    gap = problem.response[fitted]
    noise = problem.noise[fitted]
    labels, cluster = np.unique(problem.cluster[fitted], return_inverse=True)
    tokens = problem.columns["D"][fitted] if "D" in problem.columns else np.ones(len(gap))
    floor = np.median(gap**2) + 1e-300
    weights = np.stack([tokens**-b / (noise**2 + floor) for b in POWERS])
    sums = np.stack([np.bincount(cluster, weights=row * gap, minlength=len(labels)) for row in weights])
    size = np.sqrt(np.sum(sums**2, axis=1)) + 1e-300
    flips = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, len(labels)))
    null = (flips @ (sums / size[:, None]).T).max(axis=1)
    between = np.zeros(len(POWERS))
    if problem.shared is not None:
        shared = problem.shared[fitted]
        of_clusters = np.zeros((len(labels), len(POWERS), shared.shape[1]))
        np.add.at(of_clusters, cluster, weights.T[:, :, None] * shared[:, None, :])
        between = np.sum(of_clusters.sum(axis=0) ** 2 - np.sum(of_clusters**2, axis=0), axis=1)
    observed = (sums.sum(axis=1) / np.sqrt(size**2 + np.maximum(between, 0.0))).max()
    if 0.5 ** len(labels) > SIGNIFICANCE:
        p_value = min(1.0, len(POWERS) * _student(observed, len(labels)))
    else:
        p_value = float((1 + np.sum(null >= observed)) / (1 + FLIPS))
    return Signal(p_value < SIGNIFICANCE, p_value, float(np.mean(gap > 0)))


def no_gap(problem: Problem, question: str) -> NoGap | None:
    """The answer if the law is one of gaps and none is detected in the fitted rows; None if the question stands."""
    if not problem.law.contrast or (signal := detect(problem)).detected:
        return None
    gap = problem.observed[problem.fitted]
    return NoGap(question, len(gap), float(gap.mean()), float(gap.std()), signal.p_value, signal.positive_share)


def _student(ratio: float, clusters: int) -> float:
    """The one-sided p value of S = sum(x)/sqrt(sum(x^2)) of that many normal x: t = S sqrt((n - 1)/(n - S^2))."""
    if clusters < 2:
        return 1.0
    spare = max(clusters - ratio**2, 1e-12)
    return float(stdtr(clusters - 1, -ratio * np.sqrt((clusters - 1) / spare)))
