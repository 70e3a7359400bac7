"""Cells of several blocks that were measured on the same documents: their errors can be put together."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.gap_law.claims import judge_claims
from harness.study.cells import blocks_of

DRAWS = 4


def drawn(block: str, architecture: str, cells: list[tuple[float, float]], rng: np.random.Generator) -> pd.DataFrame:
    """The runs of cells (N, D) with gaps of 0.01 N^0.1, each measured on the documents 0 to 9 or 5 to 14."""
    rows = []
    for n, d in cells:
        for draw in range(DRAWS):
            first = 0 if n < 5e4 else 5
            parts = rng.normal(0.0, 1e-4, 10).astype(np.float32)
            row = {
                "run_id": f"{block}{architecture}{len(rows)}", "block": block, "status": "done", "half": "a", "seed": 0,
                "draw": draw, "architecture": architecture, "tokenizer": "bytes", "domain": "science", "width": 8,
                "depth": 1, "N_total": n, "N_nonembedding": n, "N_active": n, "D": d, "U": d, "epochs": 1.0,
                "flops": 6 * n * d, "D_bytes": d, "batch_tokens": 256, "lr": 0.01, "schedule": "cosine",
                "weight_decay": 0.1, "bytes_per_token": 1.0, "gap_online": None, "gap_probe": 0.1, "placebo_twin": 0.0,
                "placebo_twin_se": 1e-3, "gap_drift": 0.0, "noise_scale": 1.0, "converged": True,
                "train_loss_final100": 2.0, "val_loss_final100": 3.0, "document_groups": np.arange(first, first + 10),
                "document_parts": parts, "gap_twin_se": float(np.linalg.norm(parts)),
                "gap_twin": 0.01 * n**0.1 * (1 + 0.02 * rng.standard_normal()),
            }  # fmt: skip
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def runs():
    rng = np.random.default_rng(0)
    points = [(n, d) for n in (1e4, 1e5) for d in (1e4, 3e4, 1e5)]
    parts = [drawn("architectures", name, points, rng) for name in ("dense", "parallel", "top2")]
    return pd.concat([*parts, drawn("architectures_active", "top2", points, rng)], ignore_index=True)


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
