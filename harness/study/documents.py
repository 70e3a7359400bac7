"""What part of the gap is memory of documents of which other windows were read, and not of the windows themselves."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t

from harness.study.cells import BLOCK

# The blocks whose text is read once, by windows much shorter than documents, so that midway through a run most windows
# that are not read yet are of documents of which others are.
BLOCKS = ("documents", "once", "nuisances", "domains")
FEWEST_PAIRS = 8
# A share is told only of a gap that is at least as many standard errors above zero.
CLEAR_GAP = 3.0


@dataclass(frozen=True)
class DocumentShare:
    """The share of the gap midway through the first epoch that is there on windows not read yet, too.

    Attributes:
        block: the block of the runs.
        pairs: the number of pairs of twins.
        gap, unread: the means of the two gaps over the pairs, by the same weights, nats per token.
        share: unread over gap; low, high: its 95 % interval.
    """

    block: str
    pairs: int
    gap: float
    unread: float
    share: float
    low: float
    high: float


def document_shares(runs: pd.DataFrame) -> list[DocumentShare]:
    """The share of each of `BLOCKS` that has pairs enough and a gap clearly above zero.

    A pair is weighed by the inverse of the variance of its two gaps. The interval is the jackknife's over pairs, which
    are independent of each other but for the documents that two draws of a small corpus share.

    Args:
        runs: a study's table with the gaps of `harness.gaps.twins.midway_gaps`.
    """
    if "gap_midway" not in runs.columns:
        return []
    measured = runs["gap_midway"].notna() & runs["gap_unread"].notna()
    known = runs.loc[(runs["tokenizer"] == "bytes") & measured]
    blocks = [(name, known.loc[known[BLOCK] == name]) for name in BLOCKS]
    shares = [_share(name, pairs) for name, pairs in blocks if len(pairs) >= FEWEST_PAIRS]
    return [share for share in shares if share is not None]


def _share(block: str, pairs: pd.DataFrame) -> DocumentShare | None:
    gap, gap_se, unread, unread_se = (
        pairs[name].to_numpy(float) for name in ("gap_midway", "gap_midway_se", "gap_unread", "gap_unread_se")
    )
    weight = 1.0 / (gap_se**2 + unread_se**2)
    means = np.array([weight @ gap, weight @ unread]) / weight.sum()
    if means[0] < CLEAR_GAP * float(np.sqrt(np.sum((weight * gap_se) ** 2))) / weight.sum():
        return None
    share, se = _ratio(weight * unread, weight * gap)
    half = float(t.ppf(0.975, len(pairs) - 1)) * se
    return DocumentShare(block, len(pairs), float(means[0]), float(means[1]), share, share - half, share + half)


def _ratio(above: Float[np.ndarray, "pairs"], below: Float[np.ndarray, "pairs"]) -> tuple[float, float]:
    """The ratio of two sums, and its standard error by leaving out one pair after another."""
    without = (above.sum() - above) / (below.sum() - below)
    variance = (len(above) - 1) / len(above) * float(np.sum((without - without.mean()) ** 2))
    return float(above.sum() / below.sum()), variance**0.5
