"""A ladder of runs whose losses obey Chinchilla's law: what the trackers are given, and must give back."""

import os
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

# The trackers report their use to their makers unless they are told otherwise before they are imported.
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "WANDB_ERROR_REPORTING": "false"}


@dataclass(frozen=True)
class Given:
    """One run: its name, its settings, and the step and the loss of each of its evaluations."""

    name: str
    params: int
    tokens: int
    curve: tuple[tuple[int, float], ...]


@pytest.fixture(scope="session")
def ladder() -> list[Given]:
    """Twelve runs, four sizes on three numbers of tokens, with 0.3 % of noise."""
    rng = np.random.default_rng(14)
    runs = []
    for n in (10**7, 3 * 10**7, 10**8, 3 * 10**8):
        for ratio in (5, 20, 80):
            d = n * ratio * np.array([0.25, 0.5, 1])
            loss = (1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658) * np.exp(0.003 * rng.standard_normal(3))
            curve = zip((10, 20, 40), map(float, loss), strict=True)
            runs.append(Given(f"n{n}-r{ratio}", n, n * ratio, tuple(curve)))
    return runs


@pytest.fixture(scope="session")
def check_ladder(ladder):
    """A check that imported tables hold the ladder, its runs in any order, in the columns that are named."""

    def check(imported, name: str, n: str, d: str, loss: str, places: float = 1e-12) -> None:
        wanted = pd.DataFrame([(run.name, run.params, run.tokens, run.curve[-1][1]) for run in ladder])
        wanted.columns = [name, n, d, loss]
        found = imported.runs[list(wanted.columns)]
        _same(found, wanted, [name], places)
        points = [(run.name, step, run.params, value) for run in ladder for step, value in run.curve]
        wanted = pd.DataFrame(points, columns=["run_id", "step", n, loss])
        names = dict(zip(imported.runs["run_id"], imported.runs[name], strict=True))
        found = imported.curves.assign(run_id=imported.curves["run_id"].map(names))
        _same(found[list(wanted.columns)], wanted, ["run_id", "step"], places)

    return check


def _same(found: pd.DataFrame, wanted: pd.DataFrame, order: list[str], places: float) -> None:
    tables = [table.sort_values(order, ignore_index=True) for table in (found, wanted)]
    pd.testing.assert_frame_equal(*tables, check_dtype=False, rtol=places)
