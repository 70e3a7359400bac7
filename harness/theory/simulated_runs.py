"""What the oracles share: the check of settings, and the table of simulated runs, which has a sweep's columns."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from sweeps.errors import InputError


def runs_like(
    oracle: str,
    N: Float[np.ndarray, "rows"],
    D: Float[np.ndarray, "rows"],
    *,
    epochs: Float[np.ndarray, "rows"] | float = 1.0,
    flops: Float[np.ndarray, "rows"] | None = None,
    loss: Float[np.ndarray, "rows"] | None = None,
    train_loss: Float[np.ndarray, "rows"] | None = None,
    gap: Float[np.ndarray, "rows"] | None = None,
    gap_se: Float[np.ndarray, "rows"] | None = None,
    seed: Int[np.ndarray, "rows"] | int = 0,
    **more: Any,
) -> pd.DataFrame:
    """Build a table of simulated runs, one row per run.

    Args:
        oracle: the simulator's name; run ids begin with it.
        N, D: parameters and samples; a sample counts as a token.
        epochs: passes over the D/epochs distinct samples.
        flops: training FLOPs; 6ND if the oracle has no count of its own.
        loss, train_loss, gap: in the oracle's unit of error (`more` may say which).
        more: further columns, such as the oracle's own names of N and D.
    """
    n, d = np.asarray(N, float), np.asarray(D, float)
    columns: dict[str, Any] = {
        "run_id": [f"{oracle}-{index:05d}" for index in range(len(n))],
        "status": "done",
        "architecture": oracle,
        "tokenizer": "none",
        "domain": oracle,
        "seed": seed,
        **{name: n for name in ("N_total", "N_nonembedding", "N_active", "N_trainable")},
        "D": d,
        "U": d / epochs,
        "epochs": epochs,
        "batch_tokens": 1.0,
        "flops": 6.0 * n * d if flops is None else flops,
        "train_loss_final100": train_loss,
        "val_loss_final100": loss,
        "gap_probe": gap,
        "gap_probe_se": gap_se,
    }
    return pd.DataFrame({name: value for name, value in columns.items() if value is not None} | more)


def check_settings(command: str, *settings: tuple[str, Any, bool, str]) -> None:
    """Raise InputError about the first setting (option, value, whether usable, what is expected) that is not usable."""
    for option, value, usable, expected in settings:
        if not usable:
            raise InputError(command, option, value, expected)
