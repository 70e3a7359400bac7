"""Simulated tables of the studies of losses, from worlds with known answers, and how often a judge is right of them.

A world says what the held-out loss of every run would be after any number of tokens. A table has the runs of a study's
own presets. Each run has an error of its own, in proportion to its loss, and its curve a further one at every point.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from harness.fit.gap_law.rulings import JudgedClaim, Ruling
from harness.record.table import setting_columns
from models.intervention import name_of
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
        measured: the runs, and for each a standard normal number, which `noise` of `draw_runs` has scaled -> further
            measured columns of the table of runs, or losses and curves in the place of the usual ones; None where no
            claim asks for any.
        errors: a factor on all errors: below 1 where the runs that a judge compares share their text and held-out text.
    """

    id: str
    truth: str
    loss: Loss
    expected: Mapping[str, tuple[Ruling, ...]]
    measured: Callable[[pd.DataFrame, Float[np.ndarray, "rows"]], Mapping[str, ArrayLike]] | None = None
    errors: float = 1.0


def numbered(letters: str, words: Iterable[tuple[Ruling, ...]]) -> dict[str, tuple[Ruling, ...]]:
    """The right words by claim, where the claims of a study are its letters with the numbers 1, 2, ..."""
    return {f"{letters}-{number}": word for number, word in enumerate(words, 1)}


def lettered(letters: str, words: str) -> dict[str, tuple[Ruling, ...]]:
    """As `numbered`, of a letter a claim: Y and N, y and n where it may also stay open, or ? for any word."""
    meaning = {"Y": (YES,), "N": (NO,), "y": (YES, OPEN), "n": (NO, OPEN), "?": (YES, NO, OPEN)}
    return numbered(letters, [meaning[word] for word in words])


def design_runs(sweeps: Iterable[Sweep]) -> pd.DataFrame:
    """The runs of sweeps that have not been trained, as rows of a study's table without results."""
    cells = [cell for sweep in sweeps for cell in sweep.cells if cell.config]
    runs = [cell.config for cell in cells if cell.config]
    names = sorted({name_of(fields) for run in runs for fields in run.interventions})
    rows = zip(cells, setting_columns(runs, names), strict=True)
    return pd.DataFrame([{"block": cell.block, "status": "done", **row} for cell, row in rows])


def further_errors(
    errors: Float[np.ndarray, "rows"], shape: tuple[int, ...], which: int = 0
) -> Float[np.ndarray, "*shape"]:
    """More normal numbers for a world's `measured`, of the scale of its errors and drawn by them.

    Args:
        which: another value draws other numbers.
    """
    rng = np.random.default_rng([which, *errors.view(np.uint64).tolist()])
    return float(np.sqrt(np.mean(errors**2))) * rng.standard_normal(shape)


def probe_errors(
    runs: pd.DataFrame, errors: Float[np.ndarray, "rows"], of_draws: Sequence[float], more: float, correlation: float
) -> Float[np.ndarray, "rows probes"]:
    """Errors of log losses of runs that several texts measure, for a world's `measured`.

    Args:
        errors: what `measured` is given.
        of_draws: for each text the standard deviation of the error that all runs of a draw have in common there.
        more: a factor on RUN_ERROR, the error of a run; correlation: that of the errors of a run on two texts.
    """
    spread = more * RUN_ERROR * (runs["flops_6nd"].to_numpy(float) / 1e11) ** ERROR_POWER
    normal = further_errors(errors, (len(of_draws) + 1, len(runs)))
    of_run = math.sqrt(correlation) * normal[0] + math.sqrt(1 - correlation) * normal[1:]
    draws = runs["draw"].to_numpy(int)
    of_draw = further_errors(errors, (len(of_draws), draws.max() + 1), 1)[:, draws]
    return (spread * of_run + np.asarray(of_draws)[:, None] * of_draw).T


def draw_runs(world: LossWorld, design: pd.DataFrame, rng: np.random.Generator, noise: float = 1.0) -> pd.DataFrame:
    """The design's runs with the losses and curves of a world.

    Args:
        noise: a factor on all errors.
    """
    noise = noise * world.errors
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
    measured = world.measured(design, noise * rng.standard_normal(len(design))) if world.measured else {}
    return design.assign(**({"heldout_loss": final} | curves | dict(measured)))


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
