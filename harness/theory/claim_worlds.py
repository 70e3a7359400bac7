"""How often the rules for the claims say the right word, on a study's own design, in worlds with known answers.

A world says what the gaps of a study's cells would be. Its tables have the design's cells and expected errors.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.gap_law.claims import Blocks, judge_claims
from harness.fit.gap_law.constants import predict_gap
from harness.fit.gap_law.rulings import Ruling
from sweeps.published_gap import PUBLISHED_GAP

YES, NO, OPEN = Ruling.SUPPORTED, Ruling.NOT_SUPPORTED, Ruling.NOT_RESOLVED
# Claims that no run decides: the source's own text, and arithmetic.
DECIDED = {"S0-3": OPEN, "S0-12": YES, "S0-14": YES}
# Factors on the gap in worlds where groups share exponents: what the source claims of mixtures, and of the batch size.
MIXTURE, BATCH_POWER = 1.3, 0.2
# The error of a cell without a gap, nats per token.
LEAST_ERROR = 2e-4


@dataclass(frozen=True)
class ClaimWorld:
    """A world whose gaps are known.

    Attributes:
        truth: in words.
        gap: (N, D, U) -> the gap of the reference group, nats per token.
        online: what the online estimator shows of a gap, as a factor.
        share: a in N* ~ C^a of its losses.
        expected: claim -> the right words; several where the design need not resolve what the world leaves open.
        apart: by how much the last group of a block has another exponent of N than the others.
    """

    id: str
    truth: str
    gap: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    online: float
    share: float
    expected: Mapping[str, tuple[Ruling, ...]]
    apart: float = 0.0


def _expected(law: Ruling, shared: tuple[Ruling, ...], **others: tuple[Ruling, ...]) -> dict[str, tuple[Ruling, ...]]:
    words = {f"S0-{number}": (law,) for number in range(1, 16)} | {name: (word,) for name, word in DECIDED.items()}
    return words | dict.fromkeys(("S0-7", "S0-8", "S0-9"), shared) | {f"S0-{n[1:]}": word for n, word in others.items()}


CLAIM_WORLDS = {
    world.id: world
    for world in (
        ClaimWorld(
            "law", "the law with its published constants", lambda n, d, u: predict_gap(n, d), 1.0,
            # Gaps as small as the law's are lost in the noise of online losses.
            1 / (1 + PUBLISHED_GAP.z), _expected(YES, (YES,), _4=(YES, OPEN)),
        ),
        ClaimWorld(
            "n_free", "G = A D^-0.42, whatever N is",
            lambda n, d, u: PUBLISHED_GAP.A * d**-PUBLISHED_GAP.beta, 0.0, 0.5,
            # Above the crossover this is the law itself: alpha = z beta holds, and its slope in D.
            _expected(NO, (YES,), _5=(YES, NO, OPEN), _10=(YES,), _11=(YES,), _15=(YES, NO, OPEN)),
        ),
        ClaimWorld(
            "memory", "G = 0.0012 N^0.3 D^-0.05 epochs^1.2, which grows with N and with repetition",
            lambda n, d, u: 0.0012 * n**0.3 * d**-0.05 * (d / u) ** 1.2, 0.0, 0.5,
            _expected(NO, (YES,), _5=(YES, NO, OPEN)),
        ),
        ClaimWorld(
            "classical", "G = N^0.8 / U, degrees of freedom over unique tokens",
            lambda n, d, u: n**0.8 / u, 0.0, 0.5, _expected(NO, (YES,), _5=(YES, NO, OPEN)),
        ),
        ClaimWorld(
            "apart", "the law, but the last group of every block has another exponent of N, by 0.3",
            lambda n, d, u: predict_gap(n, d), 1.0, 1 / (1 + PUBLISHED_GAP.z),
            _expected(YES, (NO,), _4=(YES, OPEN)), 0.3,
        ),
        ClaimWorld(
            "no_gap", "no gap at all", lambda n, d, u: np.zeros(len(n)), 1.0, 0.5,
            _expected(OPEN, (OPEN,), _1=(NO,), _13=(NO,), _15=(NO,)),
        ),
    )
}  # fmt: skip


def draw_blocks(world: ClaimWorld, design: Blocks, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """The design's cells with gaps and losses of a world, and errors drawn from `G_se` and `gap_online_se`.

    Mixtures have a prefactor of their own, and so has every batch size: the source claims both.
    """
    return {name: _draw_block(world, name, rows, rng) for name, rows in design.items()}


def _draw_block(world: ClaimWorld, name: str, rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    n, d, unique = (rows[role].to_numpy(float) for role in ("N", "D", "U"))
    gap = world.gap(n, d, unique) * _factor(name, rows, world.apart)
    # The error of a gap is in proportion to it: in the pilot it grew about as the power 0.8 of gaps of 0.003 to 0.5.
    error = np.hypot(rows["G_se"].to_numpy(float) * gap / rows["gap_expected"].to_numpy(float), LEAST_ERROR)
    online_error = rows["gap_online_se"].to_numpy(float)
    # A loss whose compute-optimal N grows as C^share, with an irreducible part: alpha + beta = 0.6.
    loss = 1.0 + 40 * n ** (-0.6 * (1 - world.share)) + 60 * d ** (-0.6 * world.share)
    return rows.assign(
        G=gap + error * rng.standard_normal(len(rows)),
        G_se=error,
        gap_online=gap * world.online + online_error * rng.standard_normal(len(rows)),
        L=loss * np.exp(0.003 * rng.standard_normal(len(rows))),
        converged=True,
    )


def _factor(name: str, rows: pd.DataFrame, apart: float) -> Float[np.ndarray, "rows"]:
    by = {"architectures": "architecture", "tokenizers": "tokenizer", "temperature": "B"}.get(name)
    if by is None:
        return np.ones(len(rows))
    labels = rows[by].to_numpy()
    factor = (rows["N"].to_numpy(float) / 1e5) ** np.where(labels == max(labels), apart, 0.0)
    if by == "architecture":
        return factor * np.where(np.isin(labels, ["dense", "parallel"]), 1.0, MIXTURE)
    return factor * (labels.astype(float) / min(labels)) ** BATCH_POWER if by == "B" else factor


def try_claims(design: Blocks, tables: int, seed: int = 0) -> pd.DataFrame:
    """Judge simulated studies of every world.

    Returns:
        one row for each world and claim: the right words, the share of studies that got one of them (`right`), the
        share that got a wrong one other than `not_resolved` (`wrong`), and the count of each word.
    """
    rows = []
    for world in CLAIM_WORLDS.values():
        words: dict[str, Counter[Ruling]] = {name: Counter() for name in world.expected}
        for index in range(tables):
            blocks = draw_blocks(world, design, np.random.default_rng([seed, index]))
            for judged in judge_claims(blocks):
                words[judged.id][judged.ruling] += 1
        for name, count in words.items():
            right = sum(count[word] for word in world.expected[name])
            claimed = sum(n for word, n in count.items() if word is not OPEN and word not in world.expected[name])
            row = {"world": world.id, "claim": name, "expected": " or ".join(world.expected[name])}
            rows.append(
                row | {"right": right / tables, "wrong": claimed / tables} | {w.value: count[w] for w in Ruling}
            )
    return pd.DataFrame(rows)
