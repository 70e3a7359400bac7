"""The table of runs of a simulated study, row by row."""

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def run_row() -> Callable[..., dict[str, object]]:
    """A function that makes the row of a run of dense models on papers, byte by byte, which ended well.

    It takes block, N, D, the epochs, and columns that differ from those of such a run, gaps among them.
    """

    def row(block: str, n: float, d: float, epochs: float = 1.0, **columns: object) -> dict[str, object]:
        return {
            "block": block, "status": "done", "half": "a", "seed": 0, "architecture": "dense", "tokenizer": "bytes",
            "domain": "science", "width": 8, "depth": 1, "N_total": n, "N_nonembedding": n, "N_active": n, "D": d,
            "U": d / epochs, "epochs": epochs, "flops": 6 * n * d, "D_bytes": d, "bytes_per_token": 1.0,
            "batch_tokens": 256, "lr": 0.01, "schedule": "cosine", "weight_decay": 0.1, "noise_scale": 1.0,
            "train_loss_final100": 2.0, "val_loss_final100": 1.2 + 40 / d**0.3, "converged": True, "gap_online": None,
            "gap_probe": 0.1, "gap_drift": 0.0, "placebo_twin": 0.0, "placebo_twin_se": 1e-3,
        } | columns  # fmt: skip

    return row
