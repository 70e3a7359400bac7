"""How often the one-word verdict, and `universality`, are right on tables drawn from worlds whose answer is known.

The design can tell the worlds apart: the u = D/N^z of its 174 runs, at the published z, is log-uniform from 0.01 to
1000, so that both branches of the law are seen. `harness.fit.gap_law.nulls` draws such a table once, on the design of a
given table.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.fit.fitting import curvature_estimates
from harness.fit.gap_law.constants import SOURCE_RUNS, SOURCE_SCATTER, predict_gap
from harness.fit.gap_law.nulls import judge_simulated
from harness.fit.gap_law.rule import TESTED_EXPONENTS, TESTED_LAW, Word
from harness.fit.results.no_gap import NoGap
from harness.fit.shared.nested import ALL_OWN
from harness.fit.shared.universality import judge_universality
from sweeps.published_gap import PUBLISHED_GAP

NOISE = 1e-3  # standard error (nats) of the measured gaps in worlds whose true gap is zero
LAG = 0.05  # how far the middle of the averaged last steps lies before the run's end, as a share of the run


@dataclass(frozen=True)
class VerdictWorld:
    """A world whose true gap is known, and the one-word verdict (`Word`) that is right for tables simulated from it.

    Attributes:
        mean: (N, D) -> the true mean of the measured gap, nats per token.
        noise: (N, D) -> the standard error of the measured gap, nats per token.
        gives_errors: whether the table has a column of standard errors.
    """

    id: str
    truth: str
    expected: Word
    mean: Callable[[np.ndarray, np.ndarray], np.ndarray]
    noise: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda n, d: np.zeros(len(n))
    gives_errors: bool = False


def _nothing(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.zeros(len(n))


def _lag(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The bias of a gap whose training loss is an average over the last steps: negative, and a power law in D.

    The training loss falls as the data term of Chinchilla's law with the constants of Besiroglu et al. 2024.
    """
    return -LAG * 0.3658 * 2085.43 * d**-0.3658


VERDICT_WORLDS = {
    world.id: world
    for world in (
        VerdictWorld(
            "no_gap", "no gap, noise of known size", Word.NO_DETECTABLE_GAP, _nothing, lambda n, d: NOISE + 0 * n, True
        ),
        VerdictWorld(
            "no_gap_shrinking_noise",
            "no gap, noise that falls as D^-1/2, whose size the table does not give: it is a power law in D",
            Word.NO_DETECTABLE_GAP,
            _nothing,
            lambda n, d: NOISE * (d / 1e6) ** -0.5,
        ),
        VerdictWorld("lag", "no gap but the lag of an average over the last steps", Word.NO_DETECTABLE_GAP, _lag),
        VerdictWorld(
            "tokens_only",
            "G = A D^-beta with the published constants",
            Word.N_FREE,
            lambda n, d: PUBLISHED_GAP.A * d**-PUBLISHED_GAP.beta,
        ),
        VerdictWorld("law", "the law with its published constants", Word.SUPPORTED, predict_gap),
    )
}


def draw_world(
    world: VerdictWorld, seed: int, rows: int = SOURCE_RUNS, scatter: float = SOURCE_SCATTER
) -> pd.DataFrame:
    """Draw one table of a world, with roles N, D, G and perhaps G_se."""
    rng = np.random.default_rng(seed)
    n = 10 ** rng.uniform(5, 9, rows)
    d = 10 ** rng.uniform(-2, 3, rows) * n**PUBLISHED_GAP.z
    noise = world.noise(n, d)
    gap = world.mean(n, d) * (1 + scatter * rng.standard_normal(rows)) + noise * rng.standard_normal(rows)
    table = pd.DataFrame({"N": n, "D": d, "G": gap})
    return table.assign(G_se=noise) if world.gives_errors else table


def try_verdict(world: VerdictWorld, tables: int, seed: int = 0) -> dict[str, Any]:
    """What the rule says of independent tables of a world.

    Returns:
        world, expected (word), tables; words: how many tables got each word; right: the share that got the expected
        word; slope_claimed: the share of tables in which the interval of the law's beta excludes 0.
    """
    words: Counter[str] = Counter()
    claims = 0
    for index in range(tables):
        judgement, fits = judge_simulated(draw_world(world, seed + index))
        words[judgement.word.value] += 1
        beta = curvature_estimates(fits[TESTED_LAW])["beta"]
        claims += beta.identified and not (beta.ci_low or 0.0) <= 0.0 <= (beta.ci_high or 0.0)
    expected = world.expected.value
    counts = {"world": world.id, "expected": expected, "tables": tables, "words": dict(words)}
    return counts | {"right": words[expected] / tables, "slope_claimed": claims / tables}


def draw_groups(
    seed: int, *, rows: int = SOURCE_RUNS, groups: int = 2, ratio: float = 1.0, apart: float = 0.0,
    scatter: float = SOURCE_SCATTER,
) -> pd.DataFrame:  # fmt: skip
    """Draw the world `law` with its rows in groups `a`, `b`, ... in turn; the last has ratio x A, alpha + apart."""
    table = draw_world(VERDICT_WORLDS["law"], seed, rows, scatter)
    code = np.arange(rows) % groups
    last = code == groups - 1
    factor = np.where(last, ratio * (table["N"] / 1e7) ** -apart, 1.0)
    return table.assign(G=table["G"] * factor, group=[chr(ord("a") + c) for c in code])


def try_universality(
    tables: int, seed: int = 0, *, bootstrap: int = 99, rows: int = SOURCE_RUNS, groups: int = 2, ratio: float = 1.0,
    apart: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    """What `universality` says of independent tables of groups whose truth is known.

    Returns:
        the settings; words: how many tables got each word; rejected: the share of tables in which shared exponents were
        rejected at 5 %; covered: for each exponent, the share of 90 % intervals of a difference that hold the true one.
    """
    words: Counter[str] = Counter()
    rejected, holds_truth = 0, {name: [] for name in TESTED_EXPONENTS}
    for index in range(tables):
        table = draw_groups(seed + index, rows=rows, groups=groups, ratio=ratio, apart=apart)
        judgement = judge_universality(table, "group", bootstrap=bootstrap, seed=index)
        words[str(judgement.verdict)] += 1
        if isinstance(judgement, NoGap):
            continue
        step = next(test for test in judgement.tests if test.larger == ALL_OWN)
        rejected += step.p_value <= 0.05
        last = max(judgement.groups)
        for d in judgement.differences:
            truth = -apart if d.quantity == "alpha" and d.groups[1] == last else 0.0
            if d.ci_low is not None and d.ci_high is not None:
                holds_truth[d.quantity].append(d.ci_low <= truth <= d.ci_high)
    covered = {name: float(np.mean(values)) for name, values in holds_truth.items()}
    settings = {"tables": tables, "rows": rows, "groups": groups, "ratio": ratio, "apart": apart}
    return settings | {"words": dict(words), "rejected": rejected / tables, "covered": covered}
