"""The generalization gap as a measurement: a contrast of mean losses, its error, and what it could detect.

Every estimator is a sum of signed means over sets of documents:

    probe     mean of L over held-out - mean of L over seen
    control   the same of L - L', the losses of a model that was trained on neither set: what makes documents hard
              cancels within each of them
    twin      half the mean of L - L' over what the other has seen, less that over what the run has seen: the difficulty
              of documents cancels within each, and the better model's lead between the two sets
    placebo   any of them between two sets that neither model has seen: truly zero
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from harness.data.permutation import mix

# Two-sided test at 5 %, detected in 80 % of repetitions: 1.96 + 0.84 standard errors.
DETECTABLE = 2.8


class Side(NamedTuple):
    """One set of a contrast; a row is a document, or what of it is in one window.

    Attributes:
        weight: of the set's mean in the contrast.
        sums: losses, or differences of losses, of each row's tokens added up.
        counts: of what the mean is per: tokens, or bytes.
        clusters: within which rows may depend on each other, numbered alike on all sides.
    """

    weight: float
    sums: Float[np.ndarray, "rows"]
    counts: Int[np.ndarray, "rows"]
    clusters: Int[np.ndarray, "rows"]

    def only(self, chosen: Bool[np.ndarray, "rows"]) -> "Side":
        """Of some of the rows."""
        return Side(self.weight, self.sums[chosen], self.counts[chosen], self.clusters[chosen])


class Gap(NamedTuple):
    """A contrast in nats per token (or bits per byte), and its standard error.

    A gap below `minimum_detectable` is not evidence of no gap. Negative gaps are kept as they are.
    """

    gap: float
    se: float

    @property
    def minimum_detectable(self) -> float:
        """The smallest gap that this design detects in four of five repetitions, at 5 %."""
        return DETECTABLE * self.se


def contrast(*sides: Side) -> Gap:
    """The weighted sum of the sides' means, with a standard error that lets the rows of a cluster be dependent.

    A mean m = sum S / sum T is a ratio of two sums over clusters; without cluster c it changes by
    (S_c - m T_c) / (T - T_c), and its variance is (k - 1) / k times the sum of their squares over k clusters (the
    jackknife; Cochran, Sampling Techniques, 3rd ed., 6.17). Of clusters of equal size that is the linearised variance
    with the usual small-sample factor k / (k - 1); of few that are unequal, such as packages of code, it does not come
    out too small. A cluster with rows on several sides adds up its residuals there before they are squared.

    Returns:
        the contrast, NaN without rows on one of the sides; its error is infinite with fewer than two clusters there.
    """
    clusters, place = np.unique(np.concatenate([side.clusters for side in sides]), return_inverse=True)
    residual = np.zeros(len(clusters))
    value, start, certain = 0.0, 0, True
    for side in sides:
        total = float(side.counts.sum())
        mine, start = place[start : start + len(side.sums)], start + len(side.sums)
        if total == 0:
            return Gap(math.nan, math.inf)
        mean = float(side.sums.sum()) / total
        value += side.weight * mean
        counts = np.bincount(mine, side.counts, len(clusters))
        count = np.count_nonzero(counts)
        if count < 2:
            certain = False
            continue
        off = np.bincount(mine, side.sums - mean * side.counts, len(clusters))
        residual += side.weight * math.sqrt((count - 1) / count) * off / (total - counts)
    return Gap(value, math.sqrt(float(np.sum(residual**2))) if certain else math.inf)


def probe_gap(seen: Side, heldout: Side) -> Gap:
    """L_heldout - L_seen of the same parameters."""
    return contrast(heldout._replace(weight=1.0), seen._replace(weight=-1.0))


def control_gap(seen: Side, heldout: Side) -> Gap:
    """The probe gap less that of a model trained on neither set; the sides hold differences L - L' of losses."""
    return probe_gap(seen, heldout)


def twin_gap(seen: Side, other: Side) -> Gap:
    """The gap of two runs on disjoint halves, from the differences L - L' on what each has seen.

    On its own text the run leads by the gap, on the other's it is behind by it, and a lead that has nothing to do with
    what was seen is on both.
    """
    return contrast(other._replace(weight=0.5), seen._replace(weight=-0.5))


def halves(clusters: Int[np.ndarray, "rows"], seed: int) -> Bool[np.ndarray, "rows"]:
    """Which rows are in the first of two halves of the clusters, by hash."""
    hashed = mix(mix(np.asarray([seed + 1], np.uint64)) + clusters.astype(np.uint64))
    return (hashed >> np.uint64(63)).astype(bool)


def effective_number(weights: Float[np.ndarray, "clusters"] | Int[np.ndarray, "clusters"]) -> float:
    """How many clusters of equal weight would make a mean as uncertain as these: (sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weights.sum(dtype=np.float64) ** 2 / np.sum(weights.astype(np.float64) ** 2))


def spread(side: Side) -> float:
    """Standard deviation over clusters of their means, as far as the error of the mean of all shows it."""
    _, place = np.unique(side.clusters, return_inverse=True)
    return contrast(side).se * math.sqrt(effective_number(np.bincount(place, side.counts)))


def tokens_needed(tokens: int, se: float, target: float) -> float:
    """Evaluation tokens for a standard error, given that so many gave another: errors fall with the root of them."""
    return tokens * (se / target) ** 2
