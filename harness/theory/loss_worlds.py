"""Simulated tables of the studies of losses, from worlds with known answers, and how often their judges are right.

A world says what the held-out loss of every run would be after any number of tokens. A table has the runs of a study's
own presets. Each run has an error of its own, in proportion to its loss, and its curve a further one at every point.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.gap_law.rulings import JudgedClaim, Ruling
from sweeps.cells import derived
from sweeps.grid import Sweep

YES, NO, OPEN = Ruling.SUPPORTED, Ruling.NOT_SUPPORTED, Ruling.NOT_RESOLVED
# Evaluations of a run: so many in each doubling of its tokens, over so many doublings.
PER_DOUBLING, DOUBLINGS = 4, 6
# The standard deviation of the log of a run's loss at 1e11 FLOPs, its power of the FLOPs, and that of one point of a
# curve about the curve. In some 60 small runs the first was 0.01 to 0.02 at 2e9 to 2e10 FLOPs, the last 0.003 to 0.007.
RUN_ERROR, ERROR_POWER, POINT_ERROR = 0.006, -0.2, 0.006

Loss = Callable[[pd.DataFrame, Float[np.ndarray, "rows"]], Float[np.ndarray, "rows"]]


@dataclass(frozen=True)
class LossWorld:
    """A world whose losses are known.

    Attributes:
        truth: in words.
        loss: the runs and the tokens processed by each -> the held-out loss, nats per token.
        expected: claim -> the right words; several where the design need not resolve what the world leaves open.
        noise_scale: the runs -> the gradient noise scale at their end, tokens; None where no claim asks for it.
    """

    id: str
    truth: str
    loss: Loss
    expected: Mapping[str, tuple[Ruling, ...]]
    noise_scale: Callable[[pd.DataFrame], Float[np.ndarray, "rows"]] | None = None


def design_runs(sweeps: Iterable[Sweep]) -> pd.DataFrame:
    """The runs of sweeps that have not been trained, as rows of a study's table without results."""
    rows = []
    for sweep in sweeps:
        for cell in sweep.cells:
            run = cell.config
            if run is None:
                continue
            settings = derived(run, "nonembedding")
            names = ("width", "depth", "N_total", "N_nonembedding", "D", "U", "epochs", "batch_tokens", "lr", "warmup",
                     "weight_decay", "flops", "flops_6nd", "steps")  # fmt: skip
            row = {"block": cell.block, "run_id": f"run {len(rows)}", "status": "done", "draw": run.data.draw}
            rows.append(row | {name: settings[name] for name in names})
    return pd.DataFrame(rows)


def draw_runs(world: LossWorld, design: pd.DataFrame, rng: np.random.Generator, noise: float = 1.0) -> pd.DataFrame:
    """The design's runs with the losses and curves of a world.

    Args:
        noise: a factor on all errors.
    """
    spread = RUN_ERROR * (design["flops_6nd"].to_numpy(float) / 1e11) ** ERROR_POWER
    own = noise * spread * rng.standard_normal(len(design))
    last = np.exp(-np.arange(PER_DOUBLING * DOUBLINGS, -1, -1) * math.log(2) / PER_DOUBLING)
    step = design["batch_tokens"].to_numpy(float)[:, None]
    tokens = np.maximum(np.round(design["D"].to_numpy(float)[:, None] * last / step), 1.0) * step
    points = len(last)
    repeated = design.loc[design.index.repeat(points)].reset_index(drop=True)
    losses = world.loss(repeated, tokens.ravel()).reshape(tokens.shape) * np.exp(own[:, None])
    losses = losses * np.exp(noise * POINT_ERROR * rng.standard_normal(losses.shape))
    curves = {"curve_tokens": [*tokens.astype(np.int64)], "curve_loss": [*losses.astype(np.float32)]}
    final = world.loss(design, design["D"].to_numpy(float)) * np.exp(own)
    scale = np.full(len(design), np.nan) if world.noise_scale is None else world.noise_scale(design)
    scale = scale * np.exp(noise * 0.3 * rng.standard_normal(len(design)))
    return design.assign(heldout_loss=final, noise_scale=scale, **curves)


def try_judge(
    judge: Callable[[pd.DataFrame], tuple[JudgedClaim, ...]],
    worlds: Iterable[LossWorld],
    design: pd.DataFrame,
    tables: int,
    seed: int = 0,
) -> pd.DataFrame:
    """Judge simulated tables of every world.

    Returns:
        one row for each world and claim: the right words, the share of tables that got one of them (`right`), the share
        that got a wrong one other than `not_resolved` (`wrong`), and the count of each word.
    """
    rows = []
    for world in worlds:
        words: dict[str, Counter[Ruling]] = {name: Counter() for name in world.expected}
        for index in range(tables):
            for claim in judge(draw_runs(world, design, np.random.default_rng([seed, index]))):
                words[claim.id][claim.ruling] += 1
        for name, count in words.items():
            right = sum(count[word] for word in world.expected[name])
            wrong = sum(n for word, n in count.items() if word is not OPEN and word not in world.expected[name])
            row = {"world": world.id, "claim": name, "expected": " or ".join(world.expected[name])}
            rows.append(row | {"right": right / tables, "wrong": wrong / tables} | {w.value: count[w] for w in Ruling})
    return pd.DataFrame(rows)


def _shared_power(share: Float[np.ndarray, "rows"] | float, n: np.ndarray, d: np.ndarray) -> Float[np.ndarray, "rows"]:
    """A loss whose compute-optimal N grows as C^share, from N 1e4 and D 1e6; alpha + beta = 0.7, as far as is known."""
    alpha, beta = 0.7 * (1 - np.asarray(share)), 0.7 * np.asarray(share)
    return 1.0 + 1.3 * beta / 0.7 * (n / 1e4) ** -alpha + 1.3 * alpha / 0.7 * (d / 1e6) ** -beta


def allocation_world(id_: str, truth: str, shares: Mapping[str, float], **words: tuple[Ruling, ...]) -> LossWorld:
    """A world of the study `compute_optimal`: the exponent a of each recipe, with the head counted in N and in C."""

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        share = np.array([shares[block] for block in runs["block"]])
        # Before the rate has fallen the loss is higher than that of a run that ends there.
        before = np.exp(0.03 * (1 - tokens / runs["D"].to_numpy(float)))
        return _shared_power(share, runs["N_total"].to_numpy(float), tokens) * before

    return LossWorld(id_, truth, loss, {f"CO-{name[1:]}": word for name, word in words.items()})


ALLOCATION_WORLDS = {
    world.id: world
    for world in (
        allocation_world(
            "corrected", "a = 0.5 in every recipe",
            {"fixed_warmup": 0.5, "fixed_rate": 0.5, "tuned_rate": 0.5},
            _1=(YES,), _2=(NO,), _3=(NO,), _4=(YES,), _5=(YES,),
        ),
        allocation_world(
            "kaplan", "a = 0.7, 0.6 and 0.5: each correction lowers it",
            {"fixed_warmup": 0.7, "fixed_rate": 0.6, "tuned_rate": 0.5},
            _1=(YES,), _2=(YES,), _3=(YES,), _4=(YES,), _5=(YES,),
        ),
        allocation_world(
            "steep", "a = 0.65 in every recipe",
            {"fixed_warmup": 0.65, "fixed_rate": 0.65, "tuned_rate": 0.65},
            _1=(YES,), _2=(NO,), _3=(NO,), _4=(NO,), _5=(YES,),
        ),
    )
}  # fmt: skip


def repetition_world(
    id_: str, truth: str, constant: float, overfits: Mapping[float, float], *words: tuple[Ruling, ...]
) -> LossWorld:
    """A world of the study `repetition`.

    Args:
        constant: R_D of the value of a repeat (`harness.fit.laws.repetition.data_constrained`), infinite where a
            repeated token is worth a new one.
        overfits: weight decay -> the cost of an epoch at 1e4 parameters and 1e5 unique tokens, nats; it grows as
            (N/U)^0.8 and levels off at 60 epochs.
    """

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n, unique = runs["N_nonembedding"].to_numpy(float), runs["U"].to_numpy(float)
        again = np.maximum(tokens / unique - 1, 0.0)
        worth = again if math.isinf(constant) else -constant * np.expm1(-again / constant)
        cost = np.array([overfits[value] for value in runs["weight_decay"]]) * (n / unique * 10) ** 0.8
        effective = np.minimum(tokens, unique) * (1 + worth)
        excess = 16.3 * n**-0.35 + 82 * effective**-0.35 - cost * 60 * np.expm1(-again / 60)
        return 1.0 + excess / (1 + (excess / 4.5) ** 4) ** 0.25

    return LossWorld(id_, truth, loss, {f"RP-{number}": word for number, word in enumerate(words, 1)})


REPETITION_WORLDS = {
    world.id: world
    for world in (
        repetition_world(
            "published", "a repeat's value decays with R_D = 15.4 epochs, whatever the weight decay",
            15.39, {0.0: 0.0, 0.1: 0.0, 1.0: 0.0}, (YES,), (YES,), (YES, OPEN), (NO,), (YES,),
        ),
        repetition_world(
            "worthless", "a repeat's value decays with R_D = 2 epochs, whatever the weight decay",
            2.0, {0.0: 0.0, 0.1: 0.0, 1.0: 0.0}, (NO,), (NO,), (YES, OPEN), (NO,), (YES,),
        ),
        repetition_world(
            "overfitting", "repeats are worth new text but cost overfitting, which strong weight decay nearly prevents",
            math.inf, {0.0: 0.03, 0.1: 0.02, 1.0: 0.002}, (YES, NO, OPEN), (NO, OPEN), (NO,), (YES,), (NO, OPEN),
        ),
    )
}  # fmt: skip


def batch_world(id_: str, truth: str, in_n: float, in_d: float, noise: float, *words: tuple[Ruling, ...]) -> LossWorld:
    """A world of the study `batch_noise`: B_crit = 4000 (N/3e4)^in_n (D/2^19)^in_d tokens, D those of small batches.

    Args:
        noise: the noise scale over the critical batch.
    """

    def critical(n: np.ndarray, d: np.ndarray) -> np.ndarray:
        return 4000 * (n / 3e4) ** in_n * (d / 2**19) ** in_d

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n, batch = runs["N_nonembedding"].to_numpy(float), runs["batch_tokens"].to_numpy(float)
        least = tokens
        for _ in range(60):  # the D of small batches that has the loss of these tokens: tokens = D (1 + B/B_crit)
            least = np.sqrt(least * tokens / (1 + batch / critical(n, least)))
        # The best rate grows as the root of the batch up to the critical one.
        best = 0.006 * 32 / runs["width"].to_numpy(float) * np.sqrt(np.minimum(batch, critical(n, tokens)) / 512)
        off = 0.01 * np.log(runs["lr"].to_numpy(float) / best) ** 2
        return (1.0 + 16.3 * n**-0.35 + 82 * least**-0.35) * np.exp(off)

    def noise_scale(runs: pd.DataFrame) -> np.ndarray:
        return noise * critical(runs["N_nonembedding"].to_numpy(float), runs["D"].to_numpy(float))

    return LossWorld(id_, truth, loss, {f"BN-{number}": word for number, word in enumerate(words, 1)}, noise_scale)


BATCH_WORLDS = {
    world.id: world
    for world in (
        batch_world("published", "B_crit grows as D^0.47 and N^0.087; the noise scale is 1.5 times it", 0.087, 0.47,
                    1.5, (YES,), (YES,), (YES,), (YES,), (YES,)),
        batch_world("size", "B_crit grows as N^0.5 and not with D; the noise scale is a tenth of it", 0.5, 0.0, 0.1,
                    (YES,), (NO,), (NO,), (NO,), (NO,)),
        batch_world("constant", "B_crit is the same for all; the noise scale is 1.5 times it", 0.0, 0.0, 1.5,
                    (YES,), (NO,), (YES,), (NO,), (YES,)),
    )
}  # fmt: skip
