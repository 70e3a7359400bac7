"""The study of repetition: what text is worth that is read several times, and what weight decay changes of it.

The claims are those of Muennighoff et al. 2023 (arXiv 2305.16264), whose law is `data_constrained`, and that strong
weight decay helps where text is repeated (Kim et al. 2025, arXiv 2509.14786). The rules are those of
`sweeps/studies/repetition/design.md`.
"""

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from harness.fit.compare import Comparison, compare
from harness.fit.fitting import fit
from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling
from harness.fit.laws.registry import get_law
from harness.fit.results.shown import number
from harness.study.figures import FAINT, MARKS, blank_figure
from harness.study.loss_runs import cell_losses, ended_runs, pooled_sd
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from sweeps.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The law whose claims are judged, and the laws that compete with it. `chinchilla` counts repeated tokens as new.
REPEATS_LAW = "data_constrained"
RIVAL_LAWS = (REPEATS_LAW, "overfitting", "repetition_penalty", "saturating", "chinchilla")
# Epochs up to which repeated text is claimed to be as good as new, and how far log loss may be from equal: 2 %.
FREE_EPOCHS, AS_GOOD = 4, 0.02
# Two decay constants agree within this factor.
SAME_DECAY = 2.0
# Laws are fitted to the cells of fewer epochs, and scored on the others; a law is the best if it is in this share of
# resamplings.
HELD_OUT, SURE = 24, 0.9
# Weight decay is to help where text is read at least so often, by at least so much of the log loss, and at most 1.
REPEATED, HELPS, MOST = 16, 0.005, 1.0
NONE, USUAL, STRONG = 0.0, 0.1, 1.0


class Decay(NamedTuple):
    """R_D of the fit to the cells of one weight decay: status, estimate and 95 % interval (None: no limit)."""

    status: str
    estimate: float | None
    low: float | None
    high: float | None

    def logs(self) -> tuple[float | None, float | None, float | None]:
        """The natural logs of the estimate and the limits."""
        first, *ends = (None if value is None else math.log(value) for value in (self.estimate, self.low, self.high))
        return first, ends[0], ends[1]


def judge_repetition(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended.

    Raises:
        InputError: no finished run.
    """
    ended = ended_runs(runs)
    cells = cell_losses(ended)
    epochs = np.maximum(np.round(cells["D"].to_numpy(float) / cells["U"].to_numpy(float)), 1).astype(int)
    cells = cells.assign(N=cells["N_nonembedding"].astype(float), epochs=epochs)
    known = [value for value in (NONE, USUAL, STRONG) if value in set(cells["weight_decay"])]
    decays = {value: _decay(_of(cells, value)) for value in known}
    laws = _compared(_of(cells, USUAL))
    repeats, effects = _against_new(cells), _against_usual(cells)
    claims = _claims(cells, decays, laws, repeats, effects)
    free = repeats.loc[(repeats["epochs"] == FREE_EPOCHS) & (repeats["weight_decay"] == USUAL), "excess"]
    cost = f"cost {np.mean(free):.1%} of the loss" if len(free) else "were not run"
    headline = f"Four epochs instead of new text {cost}: {count_of_words(claims)}."
    tables = {
        "R_D of the data-constrained law, by weight decay": [
            {"weight decay": value, "R_D": each.estimate, "low": each.low, "high": each.high, "status": each.status}
            for value, each in decays.items()
        ],
        f"laws fitted to fewer than {HELD_OUT} epochs and scored on the others, weight decay {USUAL}": _law_rows(laws),
        "log loss of repeated text less that of new text at equal D": _mean_rows(repeats, "excess"),
        f"log loss less that with weight decay {USUAL}": _mean_rows(effects, "effect"),
    }
    drawings = {}
    if len(shown := repeats.loc[repeats["weight_decay"] == USUAL]):
        drawings["epochs"] = StudyFigure(
            "How much higher the loss of repeated text is than that of as many new tokens, by epochs, with the usual"
            " weight decay. A line joins the cells of one number of tokens, the band is what counts as equal.",
            functools.partial(_epochs_figure, shown),
        )
    if len(effects):
        drawings["decay"] = StudyFigure(
            "What strong (full lines) and no weight decay (dashed) change of the loss, against the usual one, by"
            " epochs; the mean over the numbers of unique tokens.",
            functools.partial(_decay_figure, effects),
        )
    sd, degrees = pooled_sd(cells)
    spread = f"vary by {sd:.2%} ({degrees} degrees of freedom)" if degrees else "are single"
    notes = (f"{len(ended)} finished runs in {len(cells)} cells; the runs of a cell read other text and {spread}.",)
    return LossVerdict(headline, claims, tables, notes, drawings)


def _of(cells: pd.DataFrame, weight_decay: float) -> pd.DataFrame:
    own = cells.loc[cells["weight_decay"] == weight_decay]
    return own[["N", "D", "U", "L", "epochs"]].astype(float).reset_index(drop=True)


def _decay(rows: pd.DataFrame) -> Decay:
    try:
        found = fit(REPEATS_LAW, rows, bootstrap=0, sensitivity=False)
    except InputError:
        return Decay("too few cells", None, None, None)
    constant = found.parameters["R_D"]
    if not constant.identified:
        return Decay(str(found.status), None, None, None)
    return Decay(str(found.status), constant.estimate, constant.ci_low, constant.ci_high)


def _compared(rows: pd.DataFrame) -> Comparison:
    try:
        return compare(RIVAL_LAWS, rows.assign(holdout=rows["epochs"] >= HELD_OUT))
    except InputError:
        return Comparison(())


def _against_new(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of several epochs with `excess`, their log loss less that of the cell that read as many new tokens."""
    keys = ["width", "depth", "weight_decay", "D"]
    once = cells.loc[cells["epochs"] == 1, [*keys, "L"]].rename(columns={"L": "new"})
    both = cells.loc[cells["epochs"] > 1].merge(once, on=keys)
    return both.assign(excess=np.log(both["L"] / both["new"]))


def _against_usual(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of other weight decays with `effect`, their log loss less that of the cell with the usual one."""
    keys = ["width", "depth", "D", "U"]
    usual = cells.loc[cells["weight_decay"] == USUAL, [*keys, "L"]].rename(columns={"L": "usual"})
    both = cells.loc[cells["weight_decay"] != USUAL].merge(usual, on=keys)
    return both.assign(effect=np.log(both["L"] / both["usual"]))


def _mean(values: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """The mean over cells and its 95 % interval, by Student's t; no interval for one cell."""
    if len(values) == 0:
        return None, None, None
    mean = float(values.mean())
    if len(values) == 1:
        return mean, None, None
    half = float(values.std(ddof=1) / math.sqrt(len(values)) * stdtrit(len(values) - 1, 0.975))
    return mean, mean - half, mean + half


def _mean_rows(rows: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    told = []
    for _, own in rows.groupby(["weight_decay", "epochs"]):
        mean, low, high = _mean(own[name].to_numpy(float))
        group = {"weight decay": float(own["weight_decay"].iloc[0]), "epochs": int(own["epochs"].iloc[0])}
        told.append(group | {"cells": len(own), "mean": mean, "low": low, "high": high})
    return told


def _law_rows(laws: Comparison) -> list[dict[str, Any]]:
    return [
        {"law": law.law, "error on most epochs": law.heldout_error, "share of resamplings best": law.p_best,
         "AICc above best": law.delta_aicc, "status": law.status}
        for law in laws
    ]  # fmt: skip


def _claims(
    cells: pd.DataFrame, decays: dict[float, Decay], laws: Comparison, repeats: pd.DataFrame, effects: pd.DataFrame
) -> tuple[JudgedClaim, ...]:
    usual = repeats.loc[(repeats["weight_decay"] == USUAL) & (repeats["epochs"] == FREE_EPOCHS), "excess"]
    strong = effects.loc[(effects["weight_decay"] == STRONG) & (effects["epochs"] >= REPEATED), "effect"]
    free = Measured("log loss of four epochs less that of new text", 0.0, AS_GOOD, *_mean(usual.to_numpy(float)))
    published = {each.name: each.published for each in get_law(REPEATS_LAW).parameters}["R_D"] or math.nan
    unknown = Decay("not run", None, None, None)
    name, margin = "log of R_D", math.log(SAME_DECAY)
    decay = Measured(name, math.log(published), margin, *decays.get(USUAL, unknown).logs())
    differs = _difference(decays.get(STRONG, unknown), decays.get(NONE, unknown))
    same = Measured("log of R_D with strong weight decay less that with none", 0.0, margin, *differs)
    value, *ends = _mean(strong.to_numpy(float))
    helps = within("log loss with strong weight decay less that with the usual one", -MOST, -HELPS, value, ends)
    said = f"{len(cells)} cells"
    word, reason = _best(laws)
    return (
        JudgedClaim("RP-1", "up to four epochs, repeated text is as good as new", free.ruling,
                    f"{len(usual)} pairs of cells at equal N and D", (free,), "The interval is over pairs."),
        JudgedClaim("RP-2", f"the value of a repeat decays with R_D = {number(published)} epochs", decay.ruling,
                    f"cells with weight decay {USUAL}", (decay,), ""),
        JudgedClaim("RP-3", "the data-constrained law predicts the most repeated text best", word,
                    f"cells with weight decay {USUAL}", (), reason),
        JudgedClaim("RP-4", "strong weight decay helps where text is repeated", helps.ruling,
                    f"{len(strong)} pairs of cells of {REPEATED} epochs and more", (helps,), ""),
        JudgedClaim("RP-5", "the decay of a repeat's value does not depend on weight decay", same.ruling, said, (same,),
                    ""),
    )  # fmt: skip


def _difference(first: Decay, second: Decay) -> tuple[float | None, float | None, float | None]:
    """The difference of two independent logs; the halves of their intervals add in squares."""
    (one, one_low, one_high), (two, two_low, two_high) = first.logs(), second.logs()
    if one is None or two is None:
        return None, None, None
    value = one - two
    low = None if one_low is None or two_high is None else value - math.hypot(one - one_low, two_high - two)
    high = None if one_high is None or two_low is None else value + math.hypot(one_high - one, two - two_low)
    return value, low, high


def _best(laws: Comparison) -> tuple[Ruling, str]:
    """Whether the law is the best on the held-out cells in nearly all resamplings, in nearly none, or in between."""
    own = next((law for law in laws if law.law == REPEATS_LAW), None)
    if own is None or own.p_best is None:
        return Ruling.NOT_RESOLVED, "The laws were not compared."
    first = laws[0]
    errors = "" if own.heldout_error is None else f" It misses them by {own.heldout_error:.1%} on average"
    errors += "" if first is own or first.heldout_error is None else f", {first.law} by {first.heldout_error:.1%}"
    text = f"It predicts the cells of {HELD_OUT} and more epochs best in {own.p_best:.0%} of resamplings.{errors}."
    if own.p_best >= SURE:
        return Ruling.SUPPORTED, text
    return (Ruling.NOT_SUPPORTED if own.p_best <= 1 - SURE else Ruling.NOT_RESOLVED), text


def _colours(rows: pd.DataFrame) -> list[tuple[float, pd.DataFrame, Any]]:
    from matplotlib import colormaps

    sizes = list(rows.groupby("N"))
    colours = colormaps["viridis"](np.linspace(0, 0.85, len(sizes)))
    return [(float(own["N"].iloc[0]), own, colour) for (_, own), colour in zip(sizes, colours, strict=True)]


def _epochs_figure(repeats: pd.DataFrame) -> "Figure":
    figure, ((axes,),) = blank_figure(4.6, 3.6)
    axes.axhspan(-100 * AS_GOOD, 100 * AS_GOOD, color="#e9e6df", zorder=0)
    lengths = sorted(repeats["D"].unique())
    for n, own, colour in _colours(repeats):
        for tokens, mark in zip(lengths, MARKS, strict=False):
            at = own.loc[own["D"] == tokens].sort_values("epochs")
            label = f"N = {n:,.0f}" if tokens == lengths[-1] else None
            axes.plot(at["epochs"], 100 * np.expm1(at["excess"]), marker=mark, ms=4, lw=1, color=colour, label=label)
    axes.set(xscale="log", xlabel="epochs D/U", ylabel="loss above that of new text, %")
    axes.set_xticks([4, 16, 64], ["4", "16", "64"])
    axes.minorticks_off()
    axes.legend(fontsize=7, frameon=False)
    return figure


def _decay_figure(effects: pd.DataFrame) -> "Figure":
    figure, ((axes,),) = blank_figure(4.6, 3.6)
    axes.axhline(0, color=FAINT, lw=0.8)
    for n, own, colour in _colours(effects):
        for weight_decay, dashes in ((STRONG, "-"), (NONE, (0, (4, 3)))):
            mean = own.loc[own["weight_decay"] == weight_decay].groupby("epochs")["effect"].mean()
            label = f"N = {n:,.0f}" if weight_decay == STRONG else None
            axes.plot(mean.index, 100 * np.expm1(mean), marker="o", ms=3, lw=1.2, ls=dashes, color=colour, label=label)
    axes.set(xscale="log", xlabel="epochs D/U", ylabel="change of the loss, %")
    axes.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
    axes.minorticks_off()
    axes.legend(fontsize=7, frameon=False)
    return figure
