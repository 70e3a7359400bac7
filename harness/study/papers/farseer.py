"""The study of Farseer: whether a law whose exponent of data depends on the size predicts larger models better.

Li et al. 2025 (arXiv 2506.10972) fit L = exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^(-exp(a1 N^alpha + b1)) to a
dense grid of sizes N and tokens D, and found that it predicts larger models with a fifth of the error of Chinchilla's
law.
The rules are those of `sweeps/studies/farseer/design.md`.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim
from harness.study.contrasts import NOT_KNOWN, Interval95, log_ratio, slopes, symmetric
from harness.study.loss_runs import cell_losses, ended_runs, pooled_sd
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import LossWorld, lettered
from harness.study.methods.many_fits import LogModel, fit_many, starts_of_sums, sums_of_powers
from harness.study.paper import Paper
from harness.study.plots import REFERENCE, Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The blocks whose sizes the laws are fitted to, and the one whose sizes they predict.
FITTED, LARGER = ("small", "middle"), "large"
# Copies of the losses with new errors; groups of cells that are left out in turn; the fewest sizes to fit, to predict.
COPIES, GROUPS, FEWEST_SIZES, FEWEST_LARGER, FEWEST_LENGTHS = 60, 11, 5, 2, 4
# How many times less the error on larger sizes is to be, and the error that counts as small.
BETTER, SMALL = 3.0, 0.03
# The power of N in the exponent of D from which on that changes, and the share of the range that counts as all of it.
CHANGES, MONOTONE = 0.05, 0.99
# The bends alpha, beta and gamma are searched up to this: of a function that is nearly flat nothing else limits them.
BEND = 0.5
# N and D at which the constants of Farseer's law are levels and slopes, in the search only.
AT_N, AT_D = 1e4, 5e5

_Constants = Float[np.ndarray, "fits constants"]
_Rows = Float[np.ndarray, "fits rows"]


class _Cells(NamedTuple):
    """The cells of the runs, in order of N and D.

    Attributes:
        n, d: parameters without embeddings, tokens.
        larger: whether the cell is to be predicted.
        logs: log L, the mean over seeds; copies: the same, then with new errors.
        sd: its standard error, from the spread of seeds pooled over the cells of one D.
    """

    n: Float[np.ndarray, "cells"]
    d: Float[np.ndarray, "cells"]
    larger: np.ndarray
    logs: Float[np.ndarray, "cells"]
    sd: Float[np.ndarray, "cells"]
    copies: Float[np.ndarray, "copies cells"]


class _Predicted(NamedTuple):
    """What a law says, as log of the law's loss over the measured one.

    Attributes:
        ahead: of all cells by the fit to the smaller sizes; for the losses and each copy.
        left_out: of each cell by the fit without its group.
        fitted: of all cells by the fit to all.
        of_smaller, of_all: the constants of the fits to the smaller sizes and to all, for the losses and each copy.
    """

    ahead: Float[np.ndarray, "copies cells"]
    left_out: Float[np.ndarray, "cells"]
    fitted: Float[np.ndarray, "cells"]
    of_smaller: Float[np.ndarray, "copies constants"]
    of_all: Float[np.ndarray, "copies constants"]


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended. Raises InputError if none has."""
    ended = ended_runs(runs)
    table = cell_losses(ended)
    cells = _cells(table)
    sizes = len(np.unique(cells.n[~cells.larger])), len(np.unique(cells.n[cells.larger]))
    notes = [f"{len(ended)} finished runs; N is without the embedding; a cell is the mean of its seeds."]
    if sizes[0] < FEWEST_SIZES or sizes[1] < FEWEST_LARGER or np.isnan(cells.sd).any():
        claims = _claims(NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, "too few cells")
        return LossVerdict(f"Too few runs have ended: {count_of_words(claims)}.", claims, {}, tuple(notes))
    said = {name: _predict(cells, *law) for name, law in _laws(cells.n, cells.d, cells.logs).items()}
    errors = {name: np.abs(each.ahead[:, cells.larger]).mean(axis=1) for name, each in said.items()}
    ratio = _spread(np.log(errors["Chinchilla"] / errors["Farseer"]))
    error = _spread(errors["Farseer"]).clip(least=0.0)
    in_range = log_ratio(np.abs(said["Chinchilla"].left_out), np.abs(said["Farseer"].left_out))
    n, exponents = _exponents(cells)
    slope = slopes(np.log(n), np.log(exponents[0]))[0] if len(n) else NOT_KNOWN
    falling = _share_that_falls(cells, said["Farseer"].of_all)
    rows = f"{len(cells.n)} cells of {sum(sizes)} sizes"
    claims = _claims(ratio, error, in_range, slope, falling, rows)
    times = f"{math.exp(ratio.estimate):.1f} times" if ratio.estimate is not None else "an unknown number of times"
    headline = f"Chinchilla's error on larger sizes is {times} that of Farseer's law: {count_of_words(claims)}."
    tables = {
        "mean absolute error of log loss": [
            {"law": name, "constants": each.of_all.shape[1], "larger sizes": float(errors[name][0]),
             "low": _spread(errors[name]).low, "high": _spread(errors[name]).high,
             "left-out cells": float(np.abs(each.left_out).mean()), "fitted cells": float(np.abs(each.fitted).mean())}
            for name, each in said.items()
        ],
        "mean log of predicted over measured loss, by larger size": [
            {"N": int(size)}
            | {name: float(each.ahead[0, cells.n == size].mean()) for name, each in said.items()}
            for size in np.unique(cells.n[cells.larger])
        ],
        "constants of Farseer's law": [
            {"fitted to": name} | _of_paper(theta)
            for name, theta in (("smaller sizes", said["Farseer"].of_smaller[0]), ("all", said["Farseer"].of_all[0]))
        ],
        "exponent of D, by size": [
            {"N": int(size), "A": float(own[0]), "low": float(np.percentile(own[1:], 2.5)),
             "high": float(np.percentile(own[1:], 97.5)), "A of the law": float(of_law)}
            for size, own, of_law in zip(n, exponents.T, _exponent(said["Farseer"].of_all[0], n), strict=True)
        ],
    }  # fmt: skip
    drawings = {
        "larger": StudyFigure(
            "The loss of larger sizes as predicted from smaller ones, over the measured one: the mean over sizes, with"
            " 95 % intervals from copies of the losses with new errors. The band is what counts as small.",
            functools.partial(_larger_figure, cells, said),
        ),
        "exponents": StudyFigure(
            "The exponent of D from the lengths of each size alone, with 95 % intervals from copies, and that of"
            " Farseer's law fitted to all sizes.",
            functools.partial(_exponents_figure, n, exponents, said["Farseer"].of_all[0]),
        ),
    }
    sd, degrees = pooled_sd(table)
    notes.append(f"Seeds of a cell vary by {sd:.2%} ({degrees} degrees of freedom); cells of one D share their spread.")
    return LossVerdict(headline, claims, tables, tuple(notes), drawings)


def _cells(table: pd.DataFrame) -> _Cells:
    ordered = table.sort_values(["N_nonembedding", "D"]).reset_index(drop=True)
    d = ordered["D"].to_numpy(float)
    of_length = {length: pooled_sd(own)[0] for length, own in ordered.groupby("D")}
    spread = np.array([of_length[length] for length in d])
    sd = np.where(np.isnan(spread), pooled_sd(ordered)[0], spread) / np.sqrt(ordered["runs"].to_numpy(float))
    logs = np.log(ordered["L"].to_numpy(float))
    copies = np.tile(logs, (COPIES + 1, 1))
    copies[1:] += sd * np.random.default_rng(0).standard_normal((COPIES, len(logs)))
    larger = (ordered["block"] == LARGER).to_numpy()
    return _Cells(ordered["N_nonembedding"].to_numpy(float), d, larger, logs, sd, copies)


def _power(bend: ArrayLike) -> np.ndarray:
    """g = BEND tanh(bend), and never 0, by which it is divided."""
    power = BEND * np.tanh(bend)
    return np.where(np.abs(power) < 1e-6, 1e-6, power)


def _bent(x: np.ndarray, bend: Float[np.ndarray, "fits 1"]) -> _Rows:
    """(e^(g x) - 1)/g, which is x at g = 0, of g = `_power`(bend)."""
    power = _power(bend)
    return np.expm1(power * x) / power


def _farseer(n: np.ndarray, d: np.ndarray) -> LogModel:
    """Log L of Farseer's law.

    The coordinates are, at AT_N: log, slope in log N and bend of the floor U; the same of the second term at AT_D; the
    same of the exponent A. They are those of the paper's family, in which B is the second term at D = 1.
    """
    x, y = np.log(n / AT_N), np.log(d)

    def log_model(theta: _Constants) -> _Rows:
        log_u, u_slope, u_bend, level, level_slope, b_bend, log_a, a_slope, a_bend = theta.T[..., None]
        a = np.exp(np.clip(log_a + a_slope * _bent(x, a_bend), -20.0, 3.0))
        at = np.exp(np.minimum(log_a, 3.0)) * math.log(AT_D)
        log_b = level + at + (level_slope + a_slope * at) * _bent(x, b_bend)
        floor = np.clip(log_u + u_slope * _bent(x, u_bend), -20.0, 20.0)
        return np.logaddexp(floor, np.clip(log_b - a * y, -20.0, 20.0))

    return log_model


def _exponent(theta: Float[np.ndarray, "constants"], n: np.ndarray) -> Float[np.ndarray, "rows"]:
    """A(N) of Farseer's law."""
    return np.exp(theta[6] + theta[7] * _bent(np.log(n / AT_N), theta[8:9]))


def _skaling(n: np.ndarray, d: np.ndarray) -> LogModel:
    """Log L of E + (A/N^alpha + B/D^beta)^k; the coordinates are those of the sum of powers, and log k."""
    plain = sums_of_powers({"N": n, "D": d})

    def log_model(theta: _Constants) -> _Rows:
        inner = theta[:, :5].copy()
        inner[:, 0] = -12.0
        return np.logaddexp(theta[:, :1], np.exp(np.clip(theta[:, 5:6], -3.0, 1.6)) * plain(inner))

    return log_model


def _laws(n: np.ndarray, d: np.ndarray, logs: np.ndarray) -> dict[str, tuple[LogModel, list[list[float]]]]:
    """Each law as log L of its constants, and where its searches begin."""
    middle = float(logs.mean())
    within_power = [[-1.0, *[0.8, math.log(0.4)] * 2, math.log(k)] for k in (0.3, 0.9)]
    farseer = [
        [middle + math.log(floor), -0.2, bend / 2, middle + math.log(1 - floor), 0.0, -bend, math.log(a), slope, -bend]
        for floor, a, slope, bend in ((0.7, 0.4, -0.2, 0.3), (0.7, 0.4, 0.1, -0.3), (0.5, 0.3, -0.05, 0.3),
                                      (0.4, 0.25, 0.1, 0.3))
    ]  # fmt: skip
    return {
        "Farseer": (_farseer(n, d), farseer),
        "Chinchilla": (sums_of_powers({"N": n, "D": d}), starts_of_sums(logs, 2)),
        "skaling": (_skaling(n, d), within_power),
    }


def _predict(cells: _Cells, model: LogModel, starts: Sequence[Sequence[float]]) -> _Predicted:
    """Fit a law to the smaller sizes and to all, each also on every copy, and to all but each group, in one batch."""
    lengths = np.unique(cells.d, return_inverse=True)[1]
    group = (np.unique(cells.n, return_inverse=True)[1] + 2 * lengths) % GROUPS
    without = (group[None] != np.arange(GROUPS)[:, None]).astype(float)
    everything = np.ones_like(cells.copies)
    logs = np.vstack([cells.copies, cells.copies, np.tile(cells.logs, (GROUPS, 1))])
    theta = fit_many(model, starts, logs, np.vstack([everything * ~cells.larger, everything, without]))
    off = model(theta) - logs
    count = len(cells.copies)
    left_out = off[2 * count + group, np.arange(len(group))]
    return _Predicted(off[:count], left_out, off[count], theta[:count], theta[count : 2 * count])


def _spread(values: Float[np.ndarray, "copies"]) -> Interval95:
    """The first value, with 1.96 standard deviations of the others, those of copies, on either side."""
    return symmetric(values[0], 1.96 * float(np.std(values[1:], ddof=1)))


def _exponents(cells: _Cells) -> tuple[Float[np.ndarray, "sizes"], Float[np.ndarray, "copies sizes"]]:
    """The sizes with all lengths, and A_N of L = E_N + B_N D^-A_N fitted to each alone; then those of copies."""
    lengths = np.unique(cells.d)
    sizes = np.array([size for size in np.unique(cells.n) if np.sum(cells.n == size) == len(lengths)])
    if len(sizes) < FEWEST_SIZES or len(lengths) < FEWEST_LENGTHS:
        return np.zeros(0), np.zeros((COPIES + 1, 0))
    # All sizes have the same lengths, so that one batch fits the sizes of all copies.
    logs = np.stack([cells.copies[:, cells.n == size] for size in sizes], axis=1)
    middle = float(cells.logs.mean())
    starts = [
        [middle + math.log(floor), middle + math.log(1 - floor), math.log(a)] for floor, a in ((0.7, 0.5), (0.3, 0.2))
    ]
    theta = fit_many(sums_of_powers({"D": lengths}), starts, logs.reshape(-1, len(lengths)))
    return sizes, np.exp(theta[:, 2]).reshape(logs.shape[:2])


def _share_that_falls(cells: _Cells, theta: Float[np.ndarray, "copies constants"]) -> Interval95:
    """The share of the range of log N and log D in which the fitted surface falls with both; percentiles of copies."""
    n, d = (np.geomspace(values.min(), values.max(), count) for values, count in ((cells.n, 40), (cells.d, 20)))
    grid = np.meshgrid(n, d, indexing="ij")
    surface = _farseer(*(values.ravel() for values in grid))(theta).reshape(-1, len(n), len(d))
    falls = (np.diff(surface, axis=1)[:, :, 1:] < 0) & (np.diff(surface, axis=2)[:, 1:] < 0)
    share = falls.mean(axis=(1, 2))
    low, high = np.percentile(share, [2.5, 97.5])
    return Interval95(float(share[0]), min(float(low), float(share[0])), max(float(high), float(share[0])))


def _of_paper(theta: Float[np.ndarray, "constants"]) -> dict[str, float]:
    """The constants of the paper: a N^g + b is the log of A (1), B (2) and U (3)."""
    log_u, u_slope, u_bend, level, level_slope, b_bend, log_a, a_slope, a_bend = theta
    at = math.exp(log_a) * math.log(AT_D)
    parts = {
        1: ("alpha", log_a, a_slope, a_bend),
        2: ("beta", level + at, level_slope + a_slope * at, b_bend),
        3: ("gamma", log_u, u_slope, u_bend),
    }
    constants: dict[str, float] = {}
    for number, (name, value, slope, bend) in parts.items():
        power = float(_power(bend))
        constants |= {name: power, f"a{number}": slope / power * AT_N**-power, f"b{number}": value - slope / power}
    return {name: float(value) for name, value in constants.items()}


def _claims(
    ratio: Interval95, error: Interval95, in_range: Interval95, slope: Interval95, falling: Interval95, rows: str
) -> tuple[JudgedClaim, ...]:
    # The paper's law leaves the sign open: the size of the power counts, and an interval on both sides of 0 goes below.
    turned = slope if slope.estimate is None or slope.estimate >= 0 else _negative(slope)
    sign = "falls" if turned is not slope else "grows"
    judged: tuple[tuple[str, str, DecidingNumber, str], ...] = (
        ("FA-1", "on larger sizes the error of Farseer's law is a third of Chinchilla's",
         within("log of Chinchilla's error over Farseer's on larger sizes", math.log(BETTER), None, *ratio), ""),
        ("FA-2", "the error of Farseer's law on larger sizes is small",
         within("mean error of log loss on larger sizes", 0.0, SMALL, *error), ""),
        ("FA-3", "Farseer's law predicts left-out cells better than Chinchilla's",
         within("log of Chinchilla's error over Farseer's on left-out cells", 0.0, None, *in_range), ""),
        ("FA-4", "the exponent of D changes with N",
         within("power of N in the exponent of D, without its sign", CHANGES, None, *turned),
         "" if slope.estimate is None else f"The exponent {sign} with N."),
        ("FA-5", "the fitted surface falls with N and with D",
         within("share of the range of N and D in which the surface falls with both", MONOTONE, 1.0, *falling), ""),
    )  # fmt: skip
    return tuple(JudgedClaim(id_, claim, each.ruling, rows, (each,), said) for id_, claim, each, said in judged)


def _negative(value: Interval95) -> Interval95:
    estimate, low, high = (None if each is None else -each for each in value)
    return Interval95(estimate, high, low)


def _larger_figure(cells: _Cells, said: Mapping[str, _Predicted]) -> "Figure":
    lengths = np.unique(cells.d[cells.larger])
    series = {}
    for place, (name, each) in enumerate(said.items()):
        off = np.stack([each.ahead[:, cells.larger & (cells.d == length)].mean(axis=1) for length in lengths], axis=1)
        off = 100 * np.expm1(off)
        half = 1.96 * off[1:].std(axis=0, ddof=1)
        # Moved aside by 3 % in D, so that intervals do not hide each other.
        series[name] = Series(lengths * 1.03 ** (place - 1), off[0], off[0] - half, off[0] + half)
    ticks = {float(length): f"{length / 1e6:.2g}" for length in lengths}
    band = (-100 * SMALL, 100 * SMALL)
    return series_figure(
        series, "tokens read, millions", "predicted loss above measured, %", log_x=True, band=band, ticks=ticks,
        title="How far laws of small sizes miss larger ones", kinds=True,
    )  # fmt: skip


def _exponents_figure(n: np.ndarray, exponents: np.ndarray, theta: np.ndarray) -> "Figure":
    series = {}
    if len(n):
        low, high = np.percentile(exponents[1:], [2.5, 97.5], axis=0)
        series = {
            "each size alone": Series(n, exponents[0], low, high, line=""),
            "Farseer's law": Series(n, _exponent(theta, n), mark="", of=REFERENCE),
        }
    ticks = {1e3: "1,000", 1e4: "10,000", 1e5: "100,000"}
    return series_figure(
        series, "N, parameters without the embedding", "exponent of the tokens D", log_x=True, ticks=ticks,
        title="The exponent of data by size",
    )  # fmt: skip


def _world(id_: str, truth: str, words: str, law: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> LossWorld:
    """A world whose loss is a law of N and D.

    Args:
        words: of the claims in order, in the letters of `lettered`.
    """

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        return law(runs["N_nonembedding"].to_numpy(float), np.asarray(tokens, float))

    # Of 24 runs outside the design the seeds of a cell varied by half of what is usual here where runs were long.
    return LossWorld(id_, truth, loss, lettered("FA", words), errors=0.5)


def _of_farseer(*theta: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda n, d: np.exp(_farseer(n, d)(np.array(theta)[None])[0])


_WORLDS = (
    _world("published", "Farseer's law; the exponent of D falls as about N^-0.2", "yyYYY",
           _of_farseer(0.5, -0.25, 0.35, -0.2, 0.05, -0.3, -1.0, -0.2, 0.2)),
    _world("rises", "Farseer's law; at few tokens larger models are worse", "??Y?N",
           _of_farseer(0.55, -0.15, 0.2, -0.35, 0.3, -0.3, -1.0, 0.15, 0.2)),
    _world("chinchilla", "Chinchilla's law", "NynNY",
           lambda n, d: 0.9 + 0.75 * (n / 1e4) ** -0.25 + 0.65 * (d / 5e5) ** -0.4),
    _world("skaling", "a power of a sum of two powers", "??YYY",
           lambda n, d: (5.6 * (n / 1e4) ** -0.7 + 9 * (d / 5e5) ** -0.7) ** 0.32),
)  # fmt: skip

FARSEER = Paper(_judge, _WORLDS)
