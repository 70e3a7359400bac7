"""The estimators of the gap (probe, control, twin, placebo): contrasts of mean losses with their errors.

Every estimator is a sum of signed means over sets of documents:

    probe     mean of L over held-out - mean of L over seen
    control   the same for L - L', where L' are the losses of a model that was trained on neither set: the difficulty of
              a document cancels within the document
    twin      half the difference between the means of L - L' over what the twin has seen and over what the run has
              seen: the difficulty of a document cancels within the document, the lead of the better model between sets
    placebo   any of these between two sets that neither model has seen: the true gap is zero
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from harness.data.permutation import mix

# A gap of 1.96 + 0.84 standard errors is found by a two-sided test at 5 % in 80 % of repetitions.
DETECTABLE = 2.8


class Side(NamedTuple):
    """One set of documents in a contrast; a row is a document, or the part of it that lies in one window.

    Attributes:
        weight: the weight of the set's mean in the contrast.
        sums: for each row, the sum over its tokens of losses, or of differences of losses.
        counts: for each row, the tokens (or bytes) by which the sums are divided.
        clusters: for each row, its cluster, numbered alike on all sides; rows of a cluster may be dependent.
    """

    weight: float
    sums: Float[np.ndarray, "rows"]
    counts: Int[np.ndarray, "rows"]
    clusters: Int[np.ndarray, "rows"]

    def only(self, chosen: Bool[np.ndarray, "rows"]) -> "Side":
        """The side with only the chosen rows."""
        return Side(self.weight, self.sums[chosen], self.counts[chosen], self.clusters[chosen])


class Gap(NamedTuple):
    """A contrast in nats per token (or bits per byte), and its standard error.

    A gap below `minimum_detectable` is not evidence of no gap. Negative gaps are kept as they are.
    """

    gap: float
    se: float

    @property
    def minimum_detectable(self) -> float:
        """The smallest true gap that is found at the 5 % level in four of five repetitions."""
        return DETECTABLE * self.se


# A gap that cannot be measured, because a side has no rows.
NO_GAP = Gap(math.nan, math.inf)


class Influences(NamedTuple):
    """How a contrast depends on each cluster of documents.

    Attributes:
        value: the contrast; NaN if a side has no rows.
        clusters: the clusters.
        parts: for each cluster, by how much the contrast would move without it, scaled so that the squares add up to
            the variance. Of two contrasts on the same clusters the products add up to the covariance.
        certain: whether every side has two clusters, so that the parts have a meaning.
    """

    value: float
    clusters: Int[np.ndarray, "clusters"]
    parts: Float[np.ndarray, "clusters"]
    certain: bool


def influences(*sides: Side) -> Influences:
    """The weighted sum of the sides' means, and what each cluster of documents contributes to it.

    A mean m = sum S / sum T is a ratio of two sums over clusters; without cluster c it changes by
    (S_c - m T_c) / (T - T_c), and its variance is (k - 1) / k times the sum of their squares over k clusters (the
    jackknife; Cochran, Sampling Techniques, 3rd ed., 6.17). For clusters of equal size this is the linearised variance
    with the usual small-sample factor k / (k - 1); for few unequal clusters, such as packages of code, it is not too
    small, as the linearised one is. The residuals of a cluster with rows on several sides are added before squaring.
    """
    clusters, place = np.unique(np.concatenate([side.clusters for side in sides]), return_inverse=True)
    parts = np.zeros(len(clusters))
    value, start, certain = 0.0, 0, True
    for side in sides:
        total = float(side.counts.sum())
        cluster, start = place[start : start + len(side.sums)], start + len(side.sums)
        if total == 0:
            return Influences(math.nan, clusters, parts, False)
        mean = float(side.sums.sum()) / total
        value += side.weight * mean
        counts = np.bincount(cluster, side.counts, len(clusters))
        count = np.count_nonzero(counts)
        if count < 2:
            certain = False
            continue
        off = np.bincount(cluster, side.sums - mean * side.counts, len(clusters))
        parts += side.weight * math.sqrt((count - 1) / count) * off / (total - counts)
    return Influences(value, clusters, parts, certain)


def contrast(*sides: Side) -> Gap:
    """The weighted sum of the sides' means, with a standard error that lets the rows of a cluster be dependent.

    Returns:
        the contrast and its standard error. The contrast is NaN if a side has no rows; the error is infinite if a side
        has fewer than two clusters.
    """
    found = influences(*sides)
    return Gap(found.value, math.sqrt(float(np.sum(found.parts**2))) if found.certain else math.inf)


def probe_gap(seen: Side, heldout: Side) -> Gap:
    """L_heldout - L_seen of the same parameters."""
    return contrast(heldout._replace(weight=1.0), seen._replace(weight=-1.0))


def control_gap(seen: Side, heldout: Side) -> Gap:
    """The probe gap less the probe gap of a model trained on neither set.

    Both sides hold the differences L - L' of the two models' losses.
    """
    return probe_gap(seen, heldout)


def twin_gap(seen: Side, other: Side) -> Gap:
    """The gap of two runs on disjoint halves, from the differences L - L' on what each has seen.

    On its own text the run is better by the gap, on its twin's text worse by the gap. A lead that has nothing to do
    with the text is the same on both sides, and cancels.
    """
    return contrast(other._replace(weight=0.5), seen._replace(weight=-0.5))


def halves(side: Side, seed: int) -> tuple[Side, Side]:
    """A side cut into two halves of its clusters, by hash."""
    first = in_first_half(side.clusters, seed)
    return side.only(first), side.only(~first)


def in_first_half(clusters: Int[np.ndarray, "rows"], seed: int) -> Bool[np.ndarray, "rows"]:
    """Which rows are in the first of two halves of the clusters, by hash."""
    hashed = mix(mix(np.asarray([seed + 1], np.uint64)) + clusters.astype(np.uint64))
    return (hashed >> np.uint64(63)).astype(bool)


def effective_number(weights: Float[np.ndarray, "clusters"] | Int[np.ndarray, "clusters"]) -> float:
    """How many clusters of equal weight would give an equally uncertain mean: (sum w)^2 / sum w^2 (Kish 1965)."""
    return float(weights.sum(dtype=np.float64) ** 2 / np.sum(weights.astype(np.float64) ** 2))


def spread(side: Side) -> float:
    """The standard deviation over clusters of their means, computed back from the standard error of the mean of all."""
    _, place = np.unique(side.clusters, return_inverse=True)
    return contrast(side).se * math.sqrt(effective_number(np.bincount(place, side.counts)))


def tokens_needed(tokens: float, se: float, target: float) -> float:
    """Evaluation tokens for the standard error `target` if `tokens` gave `se`: errors fall as 1/sqrt(tokens)."""
    return tokens * (se / target) ** 2
