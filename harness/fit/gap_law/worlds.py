"""Worlds whose answer is known, and what the rule says of tables drawn from them: how often it is right, and wrong.

On a design that can tell (174 runs, u = D/N^0.74 log-uniform from 0.01 to 1000, so that both branches are seen).
`harness.fit.gap_law.nulls` does the same once, on the design of a given table.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.fit.gap_law.assess import assess, quick_estimates
from harness.fit.gap_law.decide import Word
from harness.fit.gap_law.published import predict_gap
from harness.fit.shared.nested import OWN
from harness.fit.shared.universality import universality

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


def draw_groups(
    seed: int, *, rows: int = ROWS, groups: int = 2, ratio: float = 1.0, apart: float = 0.0, scatter: float = SCATTER
) -> pd.DataFrame:
    """The law on the same design in groups `a`, `b`, ... in turn; the last has `ratio` times A, and alpha + `apart`."""
    table = draw(get_world("law"), seed, rows, scatter)
    code = np.arange(rows) % groups
    last = code == groups - 1
    factor = np.where(last, ratio * (table["N"] / 1e7) ** -apart, 1.0)
    return table.assign(G=table["G"] * factor, group=[chr(ord("a") + c) for c in code])


@dataclass(frozen=True)
class GroupTrial:
    """What `universality` said of groups whose truth is known.

    Attributes:
        rejected: the share of the tables of which shared exponents were rejected at 5 %.
        covered: the share of their 90 % intervals of a difference that hold the true one.
    """

    tables: int
    rows: int
    groups: int
    ratio: float
    apart: float
    said: dict[str, int]
    rejected: float
    covered: dict[str, float]


def trial_of_groups(
    tables: int, seed: int = 0, *, bootstrap: int = 99, rows: int = ROWS, groups: int = 2, ratio: float = 1.0,
    apart: float = 0.0,
) -> GroupTrial:  # fmt: skip
    """The words of `universality` on independent tables."""
    said: Counter[str] = Counter()
    rejected, held = 0, {name: [] for name in ("alpha", "z", "beta")}
    for index in range(tables):
        table = draw_groups(seed + index, rows=rows, groups=groups, ratio=ratio, apart=apart)
        found = universality(table, "group", bootstrap=bootstrap, seed=index)
        said[found.verdict.value] += 1
        step = next(test for test in found.tests if test.larger == OWN)
        rejected += step.p_value <= 0.05
        last = max(found.groups)
        for d in found.differences:
            truth = -apart if d.quantity == "alpha" and d.groups[1] == last else 0.0
            if d.ci_low is not None and d.ci_high is not None:
                held[d.quantity].append(d.ci_low <= truth <= d.ci_high)
    covered = {name: float(np.mean(values)) for name, values in held.items()}
    return GroupTrial(tables, rows, groups, ratio, apart, dict(said), rejected / tables, covered)
