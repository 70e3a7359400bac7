"""The share of the gap that is memory of documents, on simulated pairs of twins whose share is known."""

import numpy as np
import pandas as pd
import pytest

from harness.study.documents import document_shares


def pairs(share: float, gap: float, rng: np.random.Generator, count: int = 40) -> pd.DataFrame:
    """Pairs with gaps of different sizes, whose errors are known for half of them to be three times as large."""
    sizes, errors = gap * rng.uniform(0.5, 1.5, count), 0.01 * np.where(np.arange(count) % 2, 1.0, 3.0)
    columns = {"block": "documents", "tokenizer": "bytes", "gap_midway_se": errors, "gap_unread_se": errors}
    measured = {"gap_midway": rng.normal(sizes, errors), "gap_unread": rng.normal(share * sizes, errors)}
    return pd.DataFrame(columns | measured)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_intervals_cover_the_share(share):
    rng = np.random.default_rng(2)
    found = [document_shares(pairs(share, 0.04, rng))[0] for _ in range(400)]
    assert 0.92 <= np.mean([each.low <= share <= each.high for each in found]) <= 0.98
    assert np.mean([each.share for each in found]) == pytest.approx(share, abs=0.01)


def test_no_share_is_told_of_no_gap():
    rng = np.random.default_rng(3)
    assert sum(len(document_shares(pairs(0.5, 0.0, rng))) for _ in range(200)) <= 4
    few = pairs(0.5, 0.04, rng)
    assert not document_shares(few.assign(tokenizer="o200k_base")) and not document_shares(few.head(5))
    assert not document_shares(few.drop(columns=["gap_midway"]))
