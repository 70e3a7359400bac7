"""The study of compute-optimal sizes: the exponent a of N* ~ C^a in three recipes, by three approaches and two counts.

The recipes differ in what Porian et al. 2024 (arXiv 2406.19146) found to turn Kaplan's exponent into Chinchilla's: the
warm-up, and the learning rate. Each has the same sizes at the same budgets C = 6 N D. The embedding is also the head
(the last layer), so that N with the head is N_total, and without it N_nonembedding; the same runs are read both ways.
The rules are those of `sweeps/studies/compute_optimal/design.md`.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.interpolate import make_interp_spline

from harness.fit.allocation.isoflop import isoflop_optima
from harness.fit.allocation.lines import FEWEST_BUDGETS, BudgetOptima, limits, regress, runs_to_allocate
from harness.fit.allocation.lower_edge import lower_edge
from harness.fit.allocation.minima import FEWEST_SIZES, polynomial_minimum, shared_skew
from harness.fit.certainty.intervals import percentiles
from harness.fit.fitting import fit
from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling
from harness.fit.problem.sizes import FLOPS_PER_PARAMETER_TOKEN
from harness.study.figures import ACCENT, FAINT, MARKS, blank_figure
from harness.study.loss_runs import CURVE_LOSS, CURVE_TOKENS, cell_losses, ended_runs, pooled_sd
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from sweeps.errors import InputError

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
# A correction lowers the exponent if it does so by at least `FALLS`; no exponent can fall by more than `MOST`.
FALLS, MOST = 0.03, 0.5
# The exponent of Chinchilla, and how far from it still agrees; how far apart two approaches still agree.
CHINCHILLA, SAME_EXPONENT, SAME_APPROACH = 0.5, 0.05, 0.1
# Runs whose budgets differ by less than this, in logs, have one budget.
ONE_BUDGET = 0.05
REPLICATES = 300


class Exponent95(NamedTuple):
    """An exponent with its 95 % interval; nan where the runs give none."""

    estimate: float
    low: float
    high: float


NO_EXPONENT = Exponent95(math.nan, math.nan, math.nan)


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
    exponents: dict[tuple[int, bool], Exponent95]
    head: Exponent95
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
    exponent = last.exponents[3, True] if last else NO_EXPONENT
    known = "is not known" if math.isnan(exponent.estimate) else f"is {exponent.estimate:.2f}"
    headline = (
        f"The compute-optimal size grows as C^a, and with all corrections a, by the fitted loss, {known}:"
        f" {count_of_words(claims)}."
    )
    lines = {
        f"a in N* ~ C^a, {title}": [_line(arm, of, head) for arm, of in arms.items()] for head, title in HEAD.items()
    }
    drawings = {}
    if any(math.isfinite(found.estimate) for arm in arms.values() for found in arm.exponents.values()):
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
        exponents[1, head] = _approach_1(ended, head)
        exponents[3, head] = _approach_3(counted[head])
    return Arm(cells, exponents, difference, optima, dict(zip(cells["budget"], cells["sd"], strict=True)))


def cells_on_budgets(ended: pd.DataFrame) -> pd.DataFrame:
    """The cells of one recipe's finished runs, as `Arm.cells` has them, and `sd`, that of one run's log L."""
    cells = cell_losses(ended)
    flops = np.log(FLOPS_PER_PARAMETER_TOKEN * cells["N_total"].to_numpy(float) * cells["D"].to_numpy(float))
    order = np.argsort(flops, kind="stable")
    number = np.cumsum(np.diff(flops[order], prepend=flops[order[0]]) > ONE_BUDGET)
    budget = np.empty(len(flops))
    for each in np.unique(number):
        budget[order[number == each]] = np.exp(flops[order[number == each]].mean())
    cells = cells.assign(budget=budget).sort_values(["budget", "N_total"]).reset_index(drop=True)
    # The noise falls as the budget grows, and there are few runs a cell: each budget is pooled with two smaller ones.
    budgets = np.unique(cells["budget"])
    place = np.searchsorted(budgets, cells["budget"].to_numpy(float))
    of_budget = [pooled_sd(cells.loc[(place <= k) & (place >= k - 2)])[0] for k in range(len(budgets))]
    sd = np.array(of_budget)[place]
    return cells.assign(sd=sd, log_sd=sd / np.sqrt(cells["runs"].to_numpy(float)))


def counted_cells(cells: pd.DataFrame, head: bool) -> pd.DataFrame:
    """The cells in roles, with or without the head in N and in C = 6 N D."""
    n = cells["N_total" if head else "N_nonembedding"].astype(float)
    flops = FLOPS_PER_PARAMETER_TOKEN * n * cells["D"]
    table = pd.DataFrame({"N": n, "D": cells["D"].astype(float), "L": cells["L"], "flops": flops})
    return table.assign(L_se=table["L"] * cells["log_sd"])


def _approach_1(ended: pd.DataFrame, head: bool) -> Exponent95:
    """The lower edge of the curves of loss against compute of all runs."""
    n = ended["N_total" if head else "N_nonembedding"].to_numpy(float)
    counts = [len(curve) for curve in ended[CURVE_TOKENS]]
    sizes, tokens = np.repeat(n, counts), np.concatenate([*ended[CURVE_TOKENS], []]).astype(float)
    loss = np.concatenate([*ended[CURVE_LOSS], []]).astype(float)
    table = pd.DataFrame({"N": sizes, "D": tokens, "L": loss, "run": np.repeat(ended["run_id"].to_numpy(), counts)})
    try:
        edge = lower_edge(runs_to_allocate(table.assign(flops=FLOPS_PER_PARAMETER_TOKEN * sizes * tokens)))
    except InputError:
        return NO_EXPONENT
    return _found(edge)


def exponent_of_profiles(table: pd.DataFrame) -> tuple[BudgetOptima | None, Exponent95]:
    """Approach 2: the minima of the profiles, parabolas with a shared cubic term, with the noise of repeated runs."""
    sd = table["L_se"].to_numpy(float)
    try:
        optima = isoflop_optima(runs_to_allocate(table), sd if np.isfinite(sd).all() else None, "cubic")
    except InputError:
        return None, NO_EXPONENT
    return optima, _found(optima)


def _approach_3(table: pd.DataFrame) -> Exponent95:
    """beta/(alpha + beta) of L = E + A/N^alpha + B/D^beta."""
    try:
        fitted = fit("chinchilla", table.drop(columns=["flops", "L_se"]), bootstrap=0, sensitivity=False)
    except InputError:
        return NO_EXPONENT
    share = fitted.combinations.get("beta/(alpha + beta)")
    if share is None or share.ci_low is None or share.ci_high is None:
        return NO_EXPONENT
    return Exponent95(share.estimate, share.ci_low, share.ci_high)


def _found(optima: BudgetOptima) -> Exponent95:
    (low,), (high,) = limits(optima.n.draws[:, 1:])
    return Exponent95(optima.n.exponent, float(low), float(high))


def effect_of_head(cells: pd.DataFrame) -> tuple[Exponent95, Exponent95]:
    """a without the head, and a without it minus a with it, from the same noisy copies of the losses."""
    rng, logs = np.random.default_rng(0), np.log(cells["L"].to_numpy(float))
    noise = cells["log_sd"].fillna(0.0).to_numpy(float)
    copies = np.vstack([logs, logs + noise * rng.standard_normal((REPLICATES, len(logs)))])
    exponents = {head: _between_budgets(cells, copies, head) for head in HEAD}
    without, difference = exponents[False], exponents[False] - exponents[True]
    if not np.isfinite(cells["log_sd"].to_numpy(float)).all():
        return Exponent95(without[0], math.nan, math.nan), Exponent95(difference[0], math.nan, math.nan)
    return _of_copies(without), _of_copies(difference)


def _of_copies(values: Float[np.ndarray, "copies"]) -> Exponent95:
    """The first value with the 95 % interval of the others; unknown unless nearly all copies have one."""
    copies = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or len(copies) < 0.975 * REPLICATES:
        return NO_EXPONENT
    low, high = percentiles(copies)
    return Exponent95(float(values[0]), float(low), float(high))


def _between_budgets(cells: pd.DataFrame, copies: Float[np.ndarray, "copies cells"], head: bool) -> np.ndarray:
    """The exponent a of every copy of the log losses by approach 2, at budgets between those of the runs.

    Runs that spent one budget with the head spent different ones without it. So each size's log L is interpolated in
    its log C, by a spline, at the geometric means of neighbouring budgets as a size of the middle counts them. With the
    head this gives the exponent of the runs' own budgets by the same steps.
    """
    table = counted_cells(cells, head)
    log_c = np.log(table["flops"].to_numpy(float))
    budget = cells["budget"].to_numpy(float)
    middle = np.array([log_c[budget == value].mean() for value in np.unique(budget)])
    levels = (middle[1:] + middle[:-1]) / 2
    parts = []
    for size in np.unique(table["N"]):
        rows = np.flatnonzero(table["N"] == size)
        inside = levels[(levels >= log_c[rows[0]]) & (levels <= log_c[rows[-1]])]
        if len(rows) > 1 and len(inside):
            spline = make_interp_spline(log_c[rows], copies[:, rows], k=min(3, len(rows) - 1), axis=1)
            parts.append((np.full(len(inside), size), inside, spline(inside)))
    if not parts:
        return np.full(len(copies), np.nan)
    n, at, logs = (np.concatenate(each, axis=-1) for each in zip(*parts, strict=True))
    shared = [np.flatnonzero(at == level) for level in levels]
    on_budgets = [(np.log(n[rows]), logs[:, rows].T) for rows in shared if len(rows) > FEWEST_SIZES]
    if len(on_budgets) < FEWEST_BUDGETS:
        return np.full(len(copies), np.nan)
    skew = shared_skew(on_budgets)
    best = np.stack([polynomial_minimum(*profile, skew.value)[0] for profile in on_budgets], axis=-1)
    log_c = np.array([at[rows[0]] for rows in shared if len(rows) > FEWEST_SIZES])
    found = np.isfinite(best).sum(axis=1) >= FEWEST_BUDGETS
    return np.where(found, regress(log_c - log_c.mean(), best, np.ones(len(log_c)))[1], np.nan)


def _minus(first: Exponent95, second: Exponent95) -> Exponent95:
    """The difference of two independent exponents; the halves of their intervals add in squares."""
    value = first.estimate - second.estimate
    low = math.hypot(first.estimate - first.low, second.high - second.estimate)
    high = math.hypot(first.high - first.estimate, second.estimate - second.low)
    return Exponent95(value, value - low, value + high)


def _claims(arms: dict[str, Arm]) -> tuple[JudgedClaim, ...]:
    def of(name: str, approach: int) -> Exponent95:
        return arms[name].exponents[approach, True] if name in arms else NO_EXPONENT

    def falls(of_approach: Callable[[int], Exponent95]) -> tuple[Measured, ...]:
        return tuple(
            within(f"by how much a falls, approach {k}", FALLS, MOST, by.estimate, by[1:])
            for k in (2, 3)
            for by in [of_approach(k)]
        )

    def head(approach: int) -> Exponent95:
        if "fixed_warmup" not in arms:
            return NO_EXPONENT
        arm = arms["fixed_warmup"]
        return arm.head if approach == 2 else _minus(arm.exponents[3, False], arm.exponents[3, True])

    exponents = tuple(
        Measured(f"a with all corrections, approach {k}", CHINCHILLA, SAME_EXPONENT, *_limits(of("tuned_rate", k)))
        for k in (2, 3)
    )
    apart = _minus(of("tuned_rate", 3), of("tuned_rate", 2))
    agree = (Measured("a of approach 3 minus that of approach 2", 0.0, SAME_APPROACH, *_limits(apart)),)
    judged = (
        ("CO-1", "counting the head lowers the exponent", falls(head)),
        ("CO-2", "a warm-up in proportion to the run lowers the exponent",
         falls(lambda k: _minus(of("fixed_warmup", k), of("fixed_rate", k)))),
        ("CO-3", "rates tuned to the size lower the exponent",
         falls(lambda k: _minus(of("fixed_rate", k), of("tuned_rate", k)))),
        ("CO-4", "with all corrections a is Chinchilla's 1/2", exponents),
        ("CO-5", "isoFLOP profiles and the fitted loss agree", agree),
    )  # fmt: skip
    rows = f"{sum(len(arm.cells) for arm in arms.values())} cells in {len(arms)} recipes"
    return tuple(JudgedClaim(id_, claim, *_decided(found, rows)) for id_, claim, found in judged)


def _limits(found: Exponent95) -> tuple[float | None, float | None, float | None]:
    estimate, low, high = (float(value) if math.isfinite(value) else None for value in found)
    return estimate, low, high


def _decided(evidence: tuple[Measured, ...], rows: str) -> tuple[Ruling, str, tuple[Measured, ...], str]:
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
    for (budget, rows), colour in zip(budgets, colormaps["viridis"](np.linspace(0, 0.85, len(budgets))), strict=True):
        axes.plot(rows["N_total"], rows["L"], marker="o", ms=4, lw=1, color=colour, label=f"{budget:.1e} FLOPs")
    if arm.optima is not None:
        axes.plot(np.exp(arm.optima.log_n), arm.optima.loss, "D", color=ACCENT, ms=6, lw=0)
    axes.set(xscale="log", xlabel="N, parameters with the head", ylabel="loss, nats per token")
    axes.legend(fontsize=7, frameon=False)
    return figure


def _exponents_figure(arms: dict[str, Arm]) -> "Figure":
    figure, ((axes,),) = blank_figure(4.6, 3.6)
    for approach, mark, colour in zip((1, 2, 3), MARKS[:3], ("#2b6f77", ACCENT, "#55508f"), strict=True):
        for head in HEAD:
            for place, arm in enumerate(arms.values()):
                found = arm.exponents[approach, head]
                if not math.isfinite(found.estimate):
                    continue
                at = place + 0.13 * (2 * approach - 4 + (0 if head else 0.9))
                if math.isfinite(found.low):
                    axes.plot([at, at], [found.low, found.high], color=colour, lw=1.5)
                face = {"markerfacecolor": colour if head else "white", "color": colour}
                axes.plot(at, found.estimate, mark, ms=5, **face)
        axes.plot([], [], mark, ms=5, color=colour, label=f"approach {approach}")
    for value, name in ((0.73, "Kaplan"), (0.5, "Chinchilla")):
        axes.axhline(value, color=FAINT, lw=0.8, ls=(0, (4, 3)))
        axes.text(len(arms) - 0.07, value, name, fontsize=7, color=FAINT, va="bottom", ha="right")
    axes.set_xticks(range(len(arms)), [SHORT[name] for name in arms], fontsize=7)
    axes.set(xlim=(-0.5, len(arms) - 0.05), ylabel="a in N* ~ C$^a$")
    axes.legend(fontsize=7, frameon=False)
    return figure
