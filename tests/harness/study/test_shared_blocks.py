"""Cells of several blocks that were measured on the same documents: their errors can be put together."""

import itertools

import numpy as np
import pandas as pd
import pytest

from harness.fit.gap_law.claims import judge_claims
from harness.study.cells import blocks_of

DRAWS = 4


@pytest.fixture(scope="module")
def runs(run_row):
    """The runs of cells (N, D) with gaps of 0.01 N^0.1, each measured on the documents 0 to 9 or 5 to 14."""
    rng, rows = np.random.default_rng(0), []
    groups = [*(("architectures", name) for name in ("dense", "parallel", "top2")), ("architectures_active", "top2")]
    for block, architecture in groups:
        for n, d, draw in itertools.product((1e4, 1e5), (1e4, 3e4, 1e5), range(DRAWS)):
            first, parts = 0 if n < 5e4 else 5, rng.normal(0.0, 1e-4, 10).astype(np.float32)
            measured = {
                "gap_twin": 0.01 * n**0.1 * (1 + 0.02 * rng.standard_normal()),
                "gap_twin_se": float(np.linalg.norm(parts)),
                "document_groups": np.arange(first, first + 10),
                "document_parts": parts,
            }
            rows.append(run_row(block, n, d, run_id=f"{len(rows)}", draw=draw, architecture=architecture, **measured))
    return pd.DataFrame(rows)


def test_the_covariance_of_cells_of_two_blocks_is_that_of_their_documents(runs):
    blocks = blocks_of(runs)
    vectors = np.stack([vector for cells in blocks.values() for vector in cells["G_shared"]])
    # By hand: the mean of the draws' parts, document by document.
    of_cells = []
    for cells in blocks.values():
        for _, cell in cells.iterrows():
            own = runs.loc[(runs["block"] == cell["block"]) & (runs["architecture"] == cell["architecture"])]
            own = own.loc[(own["N_total"] == cell["N"]) & (own["D"] == cell["D"])]
            sums = np.zeros(15)
            for groups, parts in zip(own["document_groups"], own["document_parts"], strict=True):
                sums[groups] += parts / DRAWS
            of_cells.append(sums)
    np.testing.assert_allclose(vectors @ vectors.T, np.array(of_cells) @ np.array(of_cells).T, rtol=1e-5, atol=1e-15)


def test_architectures_of_two_blocks_are_judged_together(runs):
    claim = next(claim for claim in judge_claims(blocks_of(runs)) if claim.id == "S0-8")
    assert "At equal active parameters" in claim.reason
