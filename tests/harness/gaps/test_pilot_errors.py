"""What a pilot lets expect, against tables drawn from a known trend."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.fit.gap_law.constants import reduced_data
from harness.gaps.pilot_errors import expected_from
from models.count import count
from sweeps.errors import InputError
from sweeps.grid import expand
from sweeps.spec import read_spec

SWEEP = """
name: pilot
defaults: {context: 64, batch: 4, domain: stdlib_code, twins: true, draws: 12}
blocks:
  - grid:
      architecture: [dense, parallel]
      params: [1e4, 1e5]
      tokens: [4e3, 6e4]
      epochs: [1, 4]
"""


def pilot(rng: np.random.Generator):
    """(Runs of a design, its table with gaps 2 N^0.3 D^-0.2 epochs and errors of a fifth of that, 1.5 for parallel)."""
    runs, rows = [], []
    for run in expand(read_spec(SWEEP, "pilot"), "pilot").configs:
        if run.data.half == "b":
            continue
        n = count(run.model).nonembedding
        gap = 2 * n**0.3 * run.tokens**-0.2 * run.epochs
        error = gap / 5 * (1.5 if run.model.architecture == "parallel" else 1.0)
        runs.append((run, gap, error))
        rows.append(
            {"run_id": run.run_id, "status": "done", "half": "a", "architecture": run.model.architecture,
             "tokenizer": "bytes", "domain": "stdlib_code", "width": run.model.width, "N_nonembedding": n,
             "D": run.tokens,
             "U": run.data.unique_tokens, "epochs": run.epochs, "batch_tokens": run.batch_tokens, "seed": 0,
             "gap_probe": 0.0, "gap_probe_se": 1.0, "gap_twin": gap + error * rng.standard_normal(),
             "gap_twin_se": error}
        )  # fmt: skip
    return runs, pd.DataFrame(rows)


def test_the_trend_of_a_pilot_gives_gaps_and_errors_back():
    rng = np.random.default_rng(0)
    runs, table = pilot(rng)
    expected = expected_from(table, Path("pilot.parquet"))
    for run, gap, error in runs:
        found = expected(run)
        assert found is not None
        assert found.gap == pytest.approx(gap, rel=0.2) and found.error == pytest.approx(error, rel=0.2)


def test_a_run_without_twins_is_not_told_the_error_of_twins():
    rng = np.random.default_rng(0)
    runs, table = pilot(rng)
    run = runs[0][0]
    alone = run.model_copy(update={"data": run.data.model_copy(update={"half": None})})
    assert expected_from(table, Path("pilot.parquet"))(alone) is None


def test_a_pilot_of_three_cells_is_refused():
    rng = np.random.default_rng(0)
    _, table = pilot(rng)
    few = table.loc[reduced_data(table["N_nonembedding"], table["D"]) > 1].iloc[:24]
    with pytest.raises(InputError, match="at least 4 cells"):
        expected_from(few, Path("pilot.parquet"))
