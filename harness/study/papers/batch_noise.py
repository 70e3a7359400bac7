"""The study of batches: the critical batch from steps and tokens to a loss, its growth, and the gradient noise scale.

The critical batch is that of McCandlish et al. 2018 (arXiv 1812.06162). Zhang et al. 2024 (arXiv 2410.21676) claim that
it grows with D at fixed N and hardly with N at fixed D. The rules are those of `sweeps/studies/batch_noise/design.md`.
"""

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import chdtri

from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval
from harness.study.figures import ACCENT, FAINT, blank_figure
from harness.study.loss_runs import CURVE_LOSS, CURVE_TOKENS, ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, YES, LossWorld, numbered
from harness.study.methods.trade_offs import Critical, Growth, fit_growth, smooth_curve, trade_offs
from harness.study.paper import Paper
from harness.study.plots import label_ticks, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A target is the loss that the smallest batch reaches after so many tokens.
TARGETS = tuple(2**power for power in (16, 17, 18, 19))
# A target of fewer batches has no critical batch.
FEWEST_BATCHES = 5
# The exponents of D at fixed N and of N at fixed D that are claimed, and how far from them still agrees.
GROWTH_IN_D, GROWTH_IN_N, SAME_GROWTH = 0.47, 0.087, 0.15
# By how much the exponent of D is to exceed that of N; neither is above 1.5.
MORE = 0.15
# The scatter of log steps about the law that still counts as following it.
SCATTER = 0.1
# The noise scale predicts the critical batch if they agree to this factor.
SAME_BATCH = 3.0


def judge_batch_noise(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended.

    Raises:
        InputError: no finished run.
    """
    ended = ended_runs(runs)
    ended = ended.assign(
        N=ended["N_nonembedding"].astype(float), curve=[smooth_curve(*each) for each in _curves(ended)]
    )
    found = [each for _, own in ended.groupby("N") for each in trade_offs(own, TARGETS, FEWEST_BATCHES)]
    known = [each for each in found if math.isfinite(each.b_crit)]
    # D is E_min, the tokens that batches far below the critical one need: the smallest batch needs somewhat more.
    fitted = fit_growth(*np.array([(each.n, each.e_min, each.b_crit) for each in known]).reshape(-1, 3).T)
    noise = _noise(ended, fitted)
    claims = _claims(known, fitted, noise)
    if fitted is None:
        grows = "is not known at enough points"
    else:
        grows = f"grows as D^{fitted.powers[1]:.2f} at fixed N and as N^{fitted.powers[0]:.2f} at fixed D"
    headline = f"The critical batch {grows}: {count_of_words(claims)}."
    tables = {
        "critical batches": [
            {"N": round(each.n), "D of the target": each.tokens, "loss": each.loss, "batches": len(each.batches),
             "S_min, steps": each.s_min, "E_min, tokens": each.e_min, "B_crit, tokens": each.b_crit, "low": each.low,
             "high": each.high}
            for each in found
        ],
        "gradient noise scale at the end of the runs of small batches": noise,
    }  # fmt: skip
    drawings = {
        "trade-off": StudyFigure(
            "Steps to each target against the batch, of the largest size: the least over the rates (marks), and the law"
            " (lines). Left of the critical batch steps fall as 1/B.",
            functools.partial(_trade_off_figure, known),
        ),
        "critical": StudyFigure(
            "The critical batch against the tokens of the target, with 95 % intervals, and the gradient noise scale at"
            " the end of the runs of small batches (crosses).",
            functools.partial(_critical_figure, known, noise),
        ),
    }
    return LossVerdict(headline, claims, tables, _notes(ended, found), drawings if known else {})


def _curves(ended: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = zip(ended[CURVE_TOKENS], ended[CURVE_LOSS], strict=True)
    return [(np.asarray(tokens, float), np.asarray(loss, float)) for tokens, loss in pairs]


def _noise(ended: pd.DataFrame, fitted: Growth | None) -> list[dict[str, Any]]:
    """For each size the noise scale at the end of the shortest runs, at each batch's best rate, and B_crit there.

    The runs of small batches are the shortest, and have one length. They end beyond the longest target, where B_crit is
    that of the fitted fitted.
    """
    if "noise_scale" not in ended.columns or fitted is None:
        return []
    rows = []
    for n, own in ended.loc[ended["D"] == ended["D"].min()].groupby("N"):
        best = own.loc[own.groupby("batch_tokens")["L"].idxmin()]
        scales = best["noise_scale"].dropna().to_numpy(float)
        if len(scales):
            scale, tokens = float(np.exp(np.log(scales).mean())), int(own["D"].iloc[0])
            critical = fitted.b_crit(float(n), tokens)
            rows.append(
                {"N": round(float(n)), "D": tokens, "batches": len(scales), "noise scale, tokens": scale,
                 "B_crit, tokens": critical, "ratio": scale / critical}
            )  # fmt: skip
    return rows


def _claims(known: list[Critical], fitted: Growth | None, noise: list[dict[str, Any]]) -> tuple[JudgedClaim, ...]:
    p, q, more = (NOT_KNOWN if fitted is None else fitted.along(weights) for weights in ((1, 0), (0, 1), (-1, 1)))
    in_d = Measured("the power of D at fixed N", GROWTH_IN_D, SAME_GROWTH, *q)
    in_n = Measured("the power of N at fixed D", GROWTH_IN_N, SAME_GROWTH, *p)
    exceeds = within("the power of D less that of N", MORE, None, *more)
    scatter = within("the scatter of log steps about the law", 0.0, SCATTER, *_scatter(known))
    logs = np.log([row["ratio"] for row in noise])
    ratio = Measured("log of the noise scale over the critical batch", 0.0, math.log(SAME_BATCH), *mean_interval(logs))
    rows = f"{len(known)} targets of {len({each.n for each in known})} sizes"
    judged = (
        ("BN-1", "steps to a loss follow S_min + E_min/B", scatter),
        ("BN-2", "the critical batch grows as D^0.47 at fixed N", in_d),
        ("BN-3", "the critical batch hardly grows with N at fixed D", in_n),
        ("BN-4", "the critical batch grows more with D than with N", exceeds),
        ("BN-5", "the gradient noise scale is the critical batch, to a factor of 3", ratio),
    )
    return tuple(JudgedClaim(id_, claim, each.ruling, rows, (each,), "") for id_, claim, each in judged)


def _scatter(known: list[Critical]) -> Interval95:
    """The standard deviation of log steps about the law with its 95 % interval, two constants fitted for a target."""
    degrees = sum(len(each.batches) - 2 for each in known)
    if degrees < 1:
        return NOT_KNOWN
    squares = sum(float(each.residuals @ each.residuals) for each in known)
    low, high = (math.sqrt(squares / float(chdtri(degrees, share))) for share in (0.025, 0.975))
    return Interval95(math.sqrt(squares / degrees), low, high)


def _notes(ended: pd.DataFrame, found: list[Critical]) -> tuple[str, ...]:
    unknown = sum(not math.isfinite(each.b_crit) for each in found)
    rates = ended.groupby(["N", "batch_tokens"])["lr"]
    at_best = ended.loc[ended.groupby(["N", "batch_tokens"])["L"].idxmin()].set_index(["N", "batch_tokens"])["lr"]
    ends = ((at_best == rates.min()) | (at_best == rates.max())) & (rates.nunique() > 1)
    return (
        f"{len(ended)} finished runs; the batch is in tokens, N without embeddings.",
        f"{unknown} of {len(found)} targets have no critical batch: fewer than {FEWEST_BATCHES} batches reached them,"
        " or the steps do not bound it.",
        "The best of the rates at the end of the runs is the lowest or the highest that was tried for"
        f" {int(ends.sum())} of {len(ends)} sizes and batches.",
    )


def _trade_off_figure(known: list[Critical]) -> "Figure":
    from matplotlib import colormaps

    figure, ((axes,),) = blank_figure(4.6, 3.6)
    largest = [each for each in known if each.n == max(other.n for other in known)]
    colours = colormaps["viridis"](np.linspace(0, 0.85, len(largest)))
    for each, colour in zip(largest, colours, strict=True):
        axes.plot(each.batches, each.steps, "o", ms=4, color=colour, label=f"loss of {each.loss:.2f}")
        at = np.geomspace(each.batches[0], each.batches[-1], 60)
        axes.plot(at, each.s_min + each.e_min / at, lw=1, color=colour)
        axes.plot(each.b_crit, 2 * each.s_min, "D", ms=6, mfc="white", color=colour)
    axes.set(xscale="log", yscale="log", xlabel="batch, tokens", ylabel="steps to the loss")
    label_ticks(axes)
    axes.set_title(f"Steps to a loss, N = {largest[0].n:,.0f}; diamonds: critical batch", loc="left", fontsize=8.5)
    legend_below(figure, axes)
    return figure


def _critical_figure(known: list[Critical], noise: list[dict[str, Any]]) -> "Figure":
    from matplotlib import colormaps

    figure, ((axes,),) = blank_figure(4.6, 3.6)
    sizes = sorted({each.n for each in known})
    colours = dict(zip(sizes, colormaps["viridis"](np.linspace(0, 0.85, len(sizes))), strict=True))
    for place, (n, colour) in enumerate(colours.items()):
        own = [each for each in known if each.n == n]
        at = np.array([each.tokens for each in own]) * 1.05 ** (place - len(sizes) / 2)
        middle = np.array([each.b_crit for each in own])
        ends = np.array([[each.b_crit - each.low, each.high - each.b_crit] for each in own]).T
        axes.errorbar(at, middle, ends, color=colour, marker="o", ms=4, lw=1, label=f"N = {n:,.0f}")
    for row in noise:
        colour = colours[min(sizes, key=lambda n: abs(n - row["N"]))]
        axes.plot(row["D"], row["noise scale, tokens"], "x", ms=7, color=colour)
    at = np.array([min(TARGETS), max(TARGETS)], float)
    middle = float(np.exp(np.mean(np.log([each.b_crit for each in known]))))
    claimed = middle * (at / np.sqrt(at.prod())) ** GROWTH_IN_D
    axes.plot(at, claimed, color=ACCENT, lw=1, ls=(0, (4, 3)), label=f"as D$^{{{GROWTH_IN_D}}}$")
    axes.set(
        xscale="log", yscale="log", xlabel="tokens D at which the loss is reached", ylabel="critical batch, tokens"
    )
    axes.plot([], [], "x", ms=7, color=FAINT, label="gradient noise scale")
    label_ticks(axes)
    axes.set_title("The critical batch by tokens and size", loc="left", fontsize=8.5)
    legend_below(figure, axes)
    return figure


def _world(id_: str, truth: str, in_n: float, in_d: float, noise: float, *words: tuple[Ruling, ...]) -> LossWorld:
    """A world with B_crit = 4000 (N/3e4)^in_n (D/2^19)^in_d tokens, where D are those of small batches.

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

    def measured(runs: pd.DataFrame, errors: np.ndarray) -> dict[str, np.ndarray]:
        scale = noise * critical(runs["N_nonembedding"].to_numpy(float), runs["D"].to_numpy(float))
        return {"noise_scale": scale * np.exp(0.3 * errors)}

    return LossWorld(id_, truth, loss, numbered("BN", words), measured)


_WORLDS = (
    _world("published", "B_crit grows as D^0.47 and N^0.087; the noise scale is 1.5 times it", 0.087, 0.47,
           1.5, (YES,), (YES,), (YES,), (YES,), (YES,)),
    _world("size", "B_crit grows as N^0.5 and not with D; the noise scale is a tenth of it", 0.5, 0.0, 0.1,
           (YES,), (NO,), (NO,), (NO,), (NO,)),
    _world("constant", "B_crit is the same for all; the noise scale is 1.5 times it", 0.0, 0.0, 1.5,
           (YES,), (NO,), (YES,), (NO,), (YES,)),
)  # fmt: skip

BATCH_NOISE = Paper(judge_batch_noise, _WORLDS)
