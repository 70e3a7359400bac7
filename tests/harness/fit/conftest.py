"""Tables from known truths, as functions of a seed, for the tests of harness/fit."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness import predict_gap

ROWS = 174
PUBLIC = Path(os.environ.get("ISOGAP_PUBLIC_DATA", Path(__file__).parents[3] / ".." / "shared" / "data"))


def _crossing(seed: int, rows: int = ROWS, scatter: float = 0.08) -> pd.DataFrame:
    """The law with its published constants on a design that straddles its crossover: u log-uniform in 1e-2..1e3."""
    rng = np.random.default_rng(seed)
    n = 10 ** rng.uniform(5, 9, rows)
    d = 10 ** rng.uniform(-2, 3, rows) * n**0.74
    return pd.DataFrame({"N": n, "D": d, "G": predict_gap(n, d) * (1 + scatter * rng.standard_normal(rows))})


def _ordinary(seed: int, rows: int = ROWS, scatter: float = 0.08) -> pd.DataFrame:
    """The same law where models are usually trained: N 1e6..1e9, 1 to 300 tokens a parameter, so that u > 30."""
    rng = np.random.default_rng(seed)
    n = 10 ** rng.uniform(6, 9, rows)
    d = n * np.exp(rng.uniform(0, np.log(300), rows))
    return pd.DataFrame({"N": n, "D": d, "G": predict_gap(n, d) * (1 + scatter * rng.standard_normal(rows))})


def _losses(seed: int, rows: int = 120, scatter: float = 0.003) -> pd.DataFrame:
    """Chinchilla's loss at published constants over N 1e6..1e9 and 2 to 600 tokens a parameter."""
    rng = np.random.default_rng(seed)
    n = 10 ** rng.uniform(6, 9, rows)
    d = n * np.exp(rng.uniform(np.log(2), np.log(600), rows))
    loss = 1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658
    return pd.DataFrame({"N": n, "D": d, "L": loss * np.exp(scatter * rng.standard_normal(rows))})


@pytest.fixture(scope="session")
def crossing():
    return _crossing


@pytest.fixture(scope="session")
def ordinary():
    return _ordinary


@pytest.fixture(scope="session")
def losses():
    return _losses


def _optimal_size(flops: np.ndarray) -> np.ndarray:
    """N* of Chinchilla's loss at published constants: g (C/6)^a, a = beta/(alpha + beta) = .5126."""
    g = (0.3478 * 482.01 / (0.3658 * 2085.43)) ** (1 / (0.3478 + 0.3658))
    return g * (flops / 6) ** (0.3658 / (0.3478 + 0.3658))


def _profiles(seed: int, scatter: float = 0.002) -> pd.DataFrame:
    """The same loss on ten budgets, on each at the sizes of one grid within a factor of ten of the optimum."""
    rng, grid = np.random.default_rng(seed), np.geomspace(3e7, 3e10, 25)
    flops, n = np.repeat(np.geomspace(1e18, 1e21, 10), len(grid)), np.tile(grid, 10)
    near = np.abs(np.log(n / _optimal_size(flops))) < np.log(10)
    n, d = n[near], flops[near] / 6 / n[near]
    loss = 1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658
    return pd.DataFrame({"N": n, "D": d, "L": loss * np.exp(scatter * rng.standard_normal(len(n)))})


@pytest.fixture(scope="session")
def optimal_size():
    return _optimal_size


@pytest.fixture(scope="session")
def profiles():
    return _profiles


def _public(name: str) -> pd.DataFrame:
    path = PUBLIC / name
    if not path.exists():
        pytest.skip(f"no table of public runs at {path} (set ISOGAP_PUBLIC_DATA)")
    return pd.read_csv(path)


@pytest.fixture(scope="session")
def public():
    """A table of public runs by its file name; where there is none (they are not the project's) the test is skipped."""
    return _public
