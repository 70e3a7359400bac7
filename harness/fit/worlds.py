"""Worlds whose answer is known, and what the rule says of tables drawn from them: how often it is right, and wrong.

On a design that can tell (174 runs, u = D/N^0.74 log-uniform from 0.01 to 1000, so that both branches are seen).
`harness.fit.nulls` does the same once, on the design of a given table.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.fit.assess import assess, quick_estimates
from harness.fit.decide import Word
from harness.fit.predict import predict_gap

ROWS = 174
SCATTER = 0.08
NOISE = 1e-3  # nats, of a gap that is measured where there is none
LAG = 0.05  # share of a run by which the middle of the last steps' average precedes its end


@dataclass(frozen=True)
class World:
    """A truth, and the word that the rule should say of it.

    Attributes:
        mean: (N, D) -> the true mean of the measured gap, nats per token.
        noise: (N, D) -> its standard error.
        told: whether the table gives the standard error.
    """

    id: str
    truth: str
    expected: Word
    mean: Callable[[np.ndarray, np.ndarray], np.ndarray]
    noise: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda n, d: np.zeros(len(n))
    told: bool = False


def _nothing(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.zeros(len(n))


def _lag(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """What the average of the last steps' losses has too much, as a gap: below zero, and a power law in D."""
    return -LAG * 0.3658 * 2085.43 * d**-0.3658


WORLDS = (
    World("no_gap", "no gap, noise of known size", Word.NO_DETECTABLE_GAP, _nothing, lambda n, d: NOISE + 0 * n, True),
    World(
        "no_gap_shrinking_noise",
        "no gap, noise that falls as D^-1/2 and is not told: its size is a power law in D",
        Word.NO_DETECTABLE_GAP,
        _nothing,
        lambda n, d: NOISE * (d / 1e6) ** -0.5,
    ),
    World("lag", "no gap but the lag of an average over the last steps", Word.NO_DETECTABLE_GAP, _lag),
    World("tokens_only", "G = 0.86 D^-0.42", Word.N_FREE, lambda n, d: 0.86 * d**-0.42),
    World("law", "the law with its published constants", Word.SUPPORTED, predict_gap),
)


def get_world(name: str) -> World:
    return next(world for world in WORLDS if world.id == name)


def draw(world: World, seed: int, rows: int = ROWS, scatter: float = SCATTER) -> pd.DataFrame:
    """One table of a world."""
    rng = np.random.default_rng(seed)
    n = 10 ** rng.uniform(5, 9, rows)
    d = 10 ** rng.uniform(-2, 3, rows) * n**0.74
    noise = world.noise(n, d)
    gap = world.mean(n, d) * (1 + scatter * rng.standard_normal(rows)) + noise * rng.standard_normal(rows)
    table = pd.DataFrame({"N": n, "D": d, "G": gap})
    return table.assign(G_se=noise) if world.told else table


@dataclass(frozen=True)
class Trial:
    """What the rule said of the tables of one world.

    Attributes:
        right: the share of the tables of which it said the expected word.
        slope_claimed: the share of the tables for which the law's beta had an interval that leaves 0 out.
    """

    world: str
    expected: str
    tables: int
    said: dict[str, int]
    right: float
    slope_claimed: float


def trial(world: World, tables: int, seed: int = 0) -> Trial:
    """The rule's words on `tables` independent tables of a world."""
    said: Counter[str] = Counter()
    claimed = 0
    for index in range(tables):
        found = assess(draw(world, seed + index))
        said[found.word.value] += 1
        beta = quick_estimates(found.fits["gap"])["beta"]
        claimed += beta.identified and not (beta.ci_low or 0.0) <= 0.0 <= (beta.ci_high or 0.0)
    return Trial(
        world.id, world.expected.value, tables, dict(said), said[world.expected.value] / tables, claimed / tables
    )
