"""The study of compute-optimal sizes: the exponent a of N* ~ C^a in three recipes, by three approaches and two counts.

The recipes differ in what Porian et al. 2024 (arXiv 2406.19146) found to turn Kaplan's exponent into Chinchilla's: the
warm-up, and the learning rate. Each has the same sizes at the same budgets C = 6 N D. The embedding is also the head
(the last layer), so that N with the head is N_total, and without it N_nonembedding; the same runs are read both ways.
The rules are those of `sweeps/studies/compute_optimal/design.md`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.allocation.lines import BudgetOptima
from harness.fit.gap_law.rulings import DecidingNumber, JudgedClaim, Measured, Ruling
from harness.study.contrasts import NOT_KNOWN, Interval95, difference
from harness.study.figures import ACCENT, FAINT, MARKS, blank_figure
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, YES, LossWorld
from harness.study.methods.budget_exponents import (
    cells_on_budgets,
    counted_cells,
    effect_of_head,
    exponent_of_edge,
    exponent_of_law,
    exponent_of_profiles,
)
from harness.study.paper import Paper
from harness.study.plots import as_power_of_ten, label_ticks, legend_below

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The recipes, from Kaplan's to Chinchilla's, and what they are called.
ARMS = {
    "fixed_warmup": "fixed long warm-up, one rate",
    "fixed_rate": "warm-up of 5 % of the run, one rate",
    "tuned_rate": "warm-up of 5 % of the run, rate by width",
}
SHORT = {
    "fixed_warmup": "long warm-up,\none rate",
    "fixed_rate": "5 % warm-up,\none rate",
    "tuned_rate": "5 % warm-up,\nrate by width",
}
HEAD = {True: "with the head", False: "without the head"}
# A correction lowers the exponent if it does so by at least this.
FALLS = 0.03
# The exponent of Chinchilla, and how far from it still agrees; how far apart two approaches still agree.
CHINCHILLA, SAME_EXPONENT, SAME_APPROACH = 0.5, 0.05, 0.1


@dataclass(frozen=True)
class Arm:
    """What the runs of one recipe say.

    Attributes:
        cells: a row a size and budget: N_total, N_nonembedding, D, L (nats per token), `budget` (FLOPs, 6 N_total D)
            and `log_sd`, the standard deviation of log L from run to run, over the root of the number of runs.
        exponents: (approach, head counted) -> a.
        head: a without the head minus a with it, by approach 2 at the same budgets between the runs' own.
        optima: the optima of approach 2 with the head counted; None if there are none.
        sd: budget -> the standard deviation of log L of one run.
    """

    cells: pd.DataFrame
    exponents: dict[tuple[int, bool], Interval95]
    head: Interval95
    optima: BudgetOptima | None
    sd: dict[float, float]


def judge_compute_optimal(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended.

    Raises:
        InputError: no finished run.
    """
    ended = ended_runs(runs)
    arms = {str(name): arm_of(own) for name, own in ended.groupby("block") if name in ARMS}
    arms = {name: arms[name] for name in ARMS if name in arms}
    claims = _claims(arms)
    last = arms.get("tuned_rate")
    exponent = last.exponents[3, True] if last else NOT_KNOWN
    known = "is not known" if exponent.estimate is None else f"is {exponent.estimate:.2f}"
    headline = (
        f"With all corrections the exponent a of the compute-optimal size, C^a, {known} by the fitted loss:"
        f" {count_of_words(claims)}."
    )
    lines = {
        f"a in N* ~ C^a, {title}": [_line(arm, of, head) for arm, of in arms.items()] for head, title in HEAD.items()
    }
    drawings = {}
    if any(found.estimate is not None for arm in arms.values() for found in arm.exponents.values()):
        drawings["exponents"] = StudyFigure(
            "The exponent a of N* in C by approach and recipe, with 95 % intervals; filled marks count the head, hollow"
            " ones do not. The lines are Kaplan's 0.73 and Chinchilla's 0.5.",
            functools.partial(_exponents_figure, arms),
        )
    if last:
        drawings["profiles"] = StudyFigure(
            "Loss against size at each budget with all corrections: every cell, and the measured optima (diamonds).",
            functools.partial(_profiles_figure, last),
        )
    optima = {f"measured optima, {ARMS[name]}": _optima_rows(arm.optima) for name, arm in arms.items()}
    return LossVerdict(headline, claims, lines | optima, _notes(ended, arms), drawings)


def arm_of(ended: pd.DataFrame) -> Arm:
    """Read one recipe's finished runs in all ways."""
    cells = cells_on_budgets(ended)
    counted = {head: counted_cells(cells, head) for head in HEAD}
    exponents = {}
    optima, exponents[2, True] = exponent_of_profiles(counted[True])
    without, difference = effect_of_head(cells)
    exponents[2, False] = without
    for head in HEAD:
        exponents[1, head] = exponent_of_edge(ended, head)
        exponents[3, head] = exponent_of_law(counted[head])
    return Arm(cells, exponents, difference, optima, dict(zip(cells["budget"], cells["sd"], strict=True)))


def _claims(arms: dict[str, Arm]) -> tuple[JudgedClaim, ...]:
    def of(name: str, approach: int) -> Interval95:
        return arms[name].exponents[approach, True] if name in arms else NOT_KNOWN

    def falls(of_approach: Callable[[int], Interval95]) -> tuple[DecidingNumber, ...]:
        return tuple(
            within(f"the fall of the exponent a, approach {k}", FALLS, None, *by)
            for k in (2, 3)
            for by in [of_approach(k)]
        )

    def head(approach: int) -> Interval95:
        if "fixed_warmup" not in arms:
            return NOT_KNOWN
        arm = arms["fixed_warmup"]
        return arm.head if approach == 2 else difference(arm.exponents[3, False], arm.exponents[3, True])

    exponents = tuple(
        Measured(f"the exponent a with all corrections, approach {k}", CHINCHILLA, SAME_EXPONENT, *of("tuned_rate", k))
        for k in (2, 3)
    )
    apart = difference(of("tuned_rate", 3), of("tuned_rate", 2))
    agree = (Measured("the exponent a of approach 3 minus that of approach 2", 0.0, SAME_APPROACH, *apart),)
    judged = (
        ("CO-1", "counting the head lowers the exponent", falls(head)),
        ("CO-2", "a warm-up in proportion to the run lowers the exponent",
         falls(lambda k: difference(of("fixed_warmup", k), of("fixed_rate", k)))),
        ("CO-3", "rates tuned to the size lower the exponent",
         falls(lambda k: difference(of("fixed_rate", k), of("tuned_rate", k)))),
        ("CO-4", "with all corrections a is Chinchilla's 1/2", exponents),
        ("CO-5", "isoFLOP profiles and the fitted loss agree", agree),
    )  # fmt: skip
    rows = f"{sum(len(arm.cells) for arm in arms.values())} cells in {len(arms)} recipes"
    return tuple(JudgedClaim(id_, claim, *_decided(found, rows)) for id_, claim, found in judged)


def _decided(evidence: tuple[DecidingNumber, ...], rows: str) -> tuple[Ruling, str, tuple[DecidingNumber, ...], str]:
    """The word of the narrower interval; where intervals do not overlap, the word that all give, or not resolved."""
    known = [(each.low, each.high, each.ruling) for each in evidence if each.low is not None and each.high is not None]
    if not known:
        return Ruling.NOT_RESOLVED, rows, evidence, ""
    apart = max(low for low, _, _ in known) > min(high for _, high, _ in known)
    if apart and len({ruling for *_, ruling in known}) > 1:
        return Ruling.NOT_RESOLVED, rows, evidence, "The approaches contradict each other."
    *_, ruling = min(known, key=lambda each: each[1] - each[0])
    return ruling, rows, evidence, ""


def _line(name: str, arm: Arm, head: bool) -> dict[str, object]:
    row: dict[str, object] = {"recipe": ARMS[name]}
    for approach in (1, 2, 3):
        found = arm.exponents[approach, head]
        row |= {f"approach {approach}": found.estimate, f"low {approach}": found.low, f"high {approach}": found.high}
    return row


def _optima_rows(optima: BudgetOptima | None) -> list[dict[str, object]]:
    if optima is None:
        return []
    n, d = np.exp(optima.log_n), np.exp(optima.log_d)
    return [
        {"C, FLOPs": float(c), "N*": round(float(a)), "D*": round(float(b)), "D*/N*": float(b / a), "loss": float(loss)}
        for c, a, b, loss in zip(optima.flops, n, d, optima.loss, strict=True)
    ]


def _notes(ended: pd.DataFrame, arms: dict[str, Arm]) -> tuple[str, ...]:
    notes = [f"{len(ended)} finished runs; C is 6 N D, without attention, with N as each line counts it."]
    for name, arm in arms.items():
        sd = [value for value in arm.sd.values() if math.isfinite(value)]
        text = f"{min(sd):.2%} to {max(sd):.2%}" if sd else "not known, since no cell has two runs"
        notes.append(f"{ARMS[name]}: the loss of one run varies with the seed by {text}.")
        if arm.optima is not None:
            notes += [f"{ARMS[name]}: {warning.message}." for warning in arm.optima.warnings]
    return tuple(notes)


def _profiles_figure(arm: Arm) -> "Figure":
    from matplotlib import colormaps

    figure, ((axes,),) = blank_figure(4.6, 3.6)
    budgets = list(arm.cells.groupby("budget"))
    for (_, rows), colour in zip(budgets, colormaps["viridis"](np.linspace(0, 0.85, len(budgets))), strict=True):
        axes.plot(
            rows["N_total"],
            rows["L"],
            marker="o",
            ms=4,
            lw=1,
            color=colour,
            label=f"{as_power_of_ten(rows['budget'].iloc[0])} FLOPs",
        )
    if arm.optima is not None:
        axes.plot(np.exp(arm.optima.log_n), arm.optima.loss, "D", color=ACCENT, ms=6, lw=0, label="best size")
    axes.set(xscale="log", xlabel="N, parameters with the head", ylabel="loss, nats per token")
    label_ticks(axes)
    axes.set_title("Losses of sizes at equal compute, and the best ones", loc="left", fontsize=8.5)
    legend_below(figure, axes)
    return figure


def _exponents_figure(arms: dict[str, Arm]) -> "Figure":
    figure, ((axes,),) = blank_figure(4.6, 3.6)
    for approach, mark, colour in zip((1, 2, 3), MARKS[:3], ("#2b6f77", ACCENT, "#55508f"), strict=True):
        for head in HEAD:
            for place, arm in enumerate(arms.values()):
                found = arm.exponents[approach, head]
                if found.estimate is None:
                    continue
                at = place + 0.13 * (2 * approach - 4 + (0 if head else 0.9))
                if found.low is not None:
                    axes.plot([at, at], [found.low, found.high], color=colour, lw=1.5)
                face = {"markerfacecolor": colour if head else "white", "color": colour}
                axes.plot(at, found.estimate, mark, ms=5, **face)
        axes.plot([], [], mark, ms=5, color=colour, label=f"approach {approach}")
    for value, name in ((0.73, "Kaplan"), (0.5, "Chinchilla")):
        axes.axhline(value, color=FAINT, lw=0.8, ls=(0, (4, 3)))
        axes.annotate(name, (1, value), (3, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                      fontsize=7, color=FAINT, va="center", annotation_clip=False)  # fmt: skip
    axes.set_xticks(range(len(arms)), [SHORT[name] for name in arms], fontsize=7)
    axes.set(xlim=(-0.5, len(arms) - 0.05), ylabel="exponent a of the best size, N* ~ C$^a$")
    axes.plot([], [], "o", ms=5, mfc="white", color=FAINT, label="without the head")
    axes.set_title("How the best size grows with compute C, by recipe", loc="left", fontsize=8.5)
    legend_below(figure, axes)
    return figure


def _shared_power(share: Float[np.ndarray, "rows"] | float, n: np.ndarray, d: np.ndarray) -> Float[np.ndarray, "rows"]:
    """A loss whose compute-optimal N grows as C^share, from N 1e4 and D 1e6; alpha + beta = 0.7, as far as is known."""
    alpha, beta = 0.7 * (1 - np.asarray(share)), 0.7 * np.asarray(share)
    return 1.0 + 1.3 * beta / 0.7 * (n / 1e4) ** -alpha + 1.3 * alpha / 0.7 * (d / 1e6) ** -beta


def _world(id_: str, truth: str, shares: Mapping[str, float], **words: tuple[Ruling, ...]) -> LossWorld:
    """A world: the exponent a of each recipe, with the head counted in N and in C."""

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        share = np.array([shares[block] for block in runs["block"]])
        # Before the rate has fallen the loss is higher than that of a run that ends there.
        before = np.exp(0.03 * (1 - tokens / runs["D"].to_numpy(float)))
        return _shared_power(share, runs["N_total"].to_numpy(float), tokens) * before

    return LossWorld(id_, truth, loss, {f"CO-{name[1:]}": word for name, word in words.items()})


_WORLDS = (
    _world(
        "corrected", "a = 0.5 in every recipe",
        {"fixed_warmup": 0.5, "fixed_rate": 0.5, "tuned_rate": 0.5},
        _1=(YES,), _2=(NO,), _3=(NO,), _4=(YES,), _5=(YES,),
    ),
    _world(
        "kaplan", "a = 0.7, 0.6 and 0.5: each correction lowers it",
        {"fixed_warmup": 0.7, "fixed_rate": 0.6, "tuned_rate": 0.5},
        _1=(YES,), _2=(YES,), _3=(YES,), _4=(YES,), _5=(YES,),
    ),
    _world(
        "steep", "a = 0.65 in every recipe",
        {"fixed_warmup": 0.65, "fixed_rate": 0.65, "tuned_rate": 0.65},
        _1=(YES,), _2=(NO,), _3=(NO,), _4=(NO,), _5=(YES,),
    ),
)  # fmt: skip

COMPUTE_OPTIMAL = Paper(judge_compute_optimal, _WORLDS)
