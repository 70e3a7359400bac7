"""Columns that a law leaves out: the residuals tell whether they matter."""

import numpy as np
import pandas as pd
import pytest

from harness import fit


def table(seed: int, factor: float, curves: int = 1) -> pd.DataFrame:
    """Runs of two optimizers, one of which has `factor` times the reducible loss, and two authors at random."""
    rng = np.random.default_rng(seed)
    n, d = 10 ** rng.uniform(7, 9, (2, 40))
    d = np.repeat(20 * d, curves) * np.tile(np.linspace(0.5, 1.0, curves), 40)
    n, optimizer = np.repeat(n, curves), np.repeat(np.resize(["adam", "sgd"], 40), curves)
    own = np.where(optimizer == "sgd", factor, 1.0)
    error = np.repeat(0.002 * rng.standard_normal(40), curves)
    loss = 1.8 + own * (480 * n**-0.35 + 2085 * d**-0.37)
    run, author = np.repeat(np.arange(40), curves), np.repeat(rng.choice(["a", "b", "c"], 40), curves)
    columns = {"N": n, "D": d, "L": loss * np.exp(error), "run": run, "optimizer": optimizer, "author": author}
    return pd.DataFrame(columns)


def codes(runs: pd.DataFrame) -> dict[str, str]:
    return {warning.code: warning.message for warning in fit(runs, "chinchilla", sensitivity=False).warnings}


@pytest.mark.slow
def test_a_column_that_matters_is_named():
    message = codes(table(0, 1.2))["residuals_by_group"]
    assert "optimizer" in message and "adam -" in message and "sgd +" in message and "--by optimizer" in message


@pytest.mark.slow
@pytest.mark.parametrize("curves", [1, 20])
def test_columns_that_do_not_matter_are_not(curves):
    """Checkpoints of a run share its error: taken as independent, 20 of them would make any column matter."""
    assert not any("residuals_by_group" in codes(table(seed, 1.0, curves)) for seed in range(4))
