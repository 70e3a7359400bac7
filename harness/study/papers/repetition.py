"""The study of repetition: what text is worth that is read several times, and what weight decay changes of it.

The claims are those of Muennighoff et al. 2023 (arXiv 2305.16264), whose law is `data_constrained`, that strong weight
decay helps where text is repeated (Kim et al. 2025, arXiv 2509.14786), and that it lowers the coefficient of
`repetition_penalty` (Lovelace et al. 2026, arXiv 2605.01640). The rules are those of
`sweeps/studies/repetition/design.md`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.fit.compare import Comparison, compare
from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling, together
from harness.fit.laws.held import with_held
from harness.fit.laws.registry import get_law
from harness.fit.results.shown import number
from harness.study.contrasts import NOT_KNOWN, Interval95, constants_of, difference, mean_interval, paired
from harness.study.figures import FAINT, MARKS, blank_figure
from harness.study.loss_runs import cell_losses, ended_runs, pooled_sd
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.paper import Paper
from harness.study.plots import legend_below
from sweeps.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The law whose claims are judged, and the laws that compete with it. `chinchilla` counts repeated tokens as new.
REPEATS_LAW = "data_constrained"
RIVAL_LAWS = (REPEATS_LAW, "overfitting", "repetition_penalty", "saturating", "chinchilla")
# Epochs up to which repeated text is claimed to be as good as new, and how far log loss may be from equal: 2 %.
FREE_EPOCHS, AS_GOOD = 4, 0.02
# Two constants of a law agree within this factor.
SAME = 2.0
# Laws are fitted to the cells of fewer epochs, and scored on the others; a law is the best if it is in this share of
# resamplings.
HELD_OUT, SURE = 24, 0.9
# Weight decay is to help where text is read at least so often, by at least so much of the log loss, and at most 1.
REPEATED, HELPS = 16, 0.005
NONE, USUAL, STRONG = 0.0, 0.1, 1.0
# The law with a coefficient of overfitting, P, and the exponents of its penalty; and what strong weight decay leaves of
# P, which it is claimed to lower by about 70 % (abstract of arXiv 2605.01640).
PENALTY_LAW, EXPONENTS, LOWERED = "repetition_penalty", ("delta", "kappa"), 0.3

_COMMON, _OWN = "those of weight decay 0.1", "own"

# Weight decay -> the status of the fit of a law, and its constants.
_Decays = Mapping[float, tuple[str, dict[str, Interval95]]]


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
    decays = {value: constants_of(REPEATS_LAW, _of(cells, value)) for value in known}
    laws = _compared(_of(cells, USUAL))
    repeats, effects = _against_new(cells), _against_usual(cells)
    penalties = _penalties(cells, known)
    claims = (*_claims(cells, decays, laws, repeats, effects), _overfitting_claim(repeats, penalties))
    free = repeats.loc[(repeats["epochs"] == FREE_EPOCHS) & (repeats["weight_decay"] == USUAL), "effect"]
    cost = f"raise the loss by {np.mean(free):.1%}" if len(free) else "were not run"
    headline = f"Four epochs of a text instead of as much new text {cost}: {count_of_words(claims)}."
    tables = {
        "R_D of the data-constrained law, by weight decay": [
            {"weight decay": value, "R_D": each.estimate, "low": each.low, "high": each.high, "status": status}
            for value, (status, found) in decays.items()
            for each in (found.get("R_D", NOT_KNOWN),)
        ],
        f"laws fitted to fewer than {HELD_OUT} epochs and scored on the others, weight decay {USUAL}": _law_rows(laws),
        "log loss of repeated text less that of new text at equal D": _mean_rows(repeats),
        f"log loss less that with weight decay {USUAL}": _mean_rows(effects),
        f"P of {PENALTY_LAW}, by weight decay": [
            {"exponents": name, "weight decay": value, "P": each.estimate, "low": each.low, "high": each.high,
             "status": status}
            for name, fits in penalties.items()
            for value, (status, found) in fits.items()
            for each in (found.get("P", NOT_KNOWN),)
        ],
    }  # fmt: skip
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


def _compared(rows: pd.DataFrame) -> Comparison:
    try:
        return compare(RIVAL_LAWS, rows.assign(holdout=rows["epochs"] >= HELD_OUT))
    except InputError:
        return Comparison(())


def _against_new(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of several epochs with `effect`, their log loss less that of the cell that read as many new tokens."""
    once = cells["epochs"] == 1
    return paired(cells.loc[~once], cells.loc[once], ["width", "depth", "weight_decay", "D"])


def _against_usual(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of other weight decays with `effect`, their log loss less that of the cell with the usual one."""
    usual = cells["weight_decay"] == USUAL
    return paired(cells.loc[~usual], cells.loc[usual], ["width", "depth", "D", "U"])


def _mean_rows(rows: pd.DataFrame) -> list[dict[str, Any]]:
    told = []
    for _, own in rows.groupby(["weight_decay", "epochs"]):
        mean, low, high = mean_interval(own["effect"])
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
    cells: pd.DataFrame,
    decays: _Decays,
    laws: Comparison,
    repeats: pd.DataFrame,
    effects: pd.DataFrame,
) -> tuple[JudgedClaim, ...]:
    usual = repeats.loc[(repeats["weight_decay"] == USUAL) & (repeats["epochs"] == FREE_EPOCHS), "effect"]
    strong = effects.loc[(effects["weight_decay"] == STRONG) & (effects["epochs"] >= REPEATED), "effect"]
    free = Measured("log loss of four epochs less that of new text", 0.0, AS_GOOD, *mean_interval(usual))
    published = {each.name: each.published for each in get_law(REPEATS_LAW).parameters}["R_D"] or math.nan
    of = {value: found.get("R_D", NOT_KNOWN).map_log() for value, (_, found) in decays.items()}
    name, margin = "log of R_D", math.log(SAME)
    decay = Measured(name, math.log(published), margin, *of.get(USUAL, NOT_KNOWN))
    differs = difference(of.get(STRONG, NOT_KNOWN), of.get(NONE, NOT_KNOWN))
    same = Measured("log of R_D with strong weight decay less that with none", 0.0, margin, *differs)
    helps = within(
        "log loss with strong weight decay less that with the usual one", None, -HELPS, *mean_interval(strong)
    )
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


def _penalties(cells: pd.DataFrame, known: Sequence[float]) -> dict[str, _Decays]:
    """The penalty law by weight decay, with exponents in common (`_COMMON`) and with those of each.

    A coefficient has a meaning only with its exponents, so that those of the cells with the usual weight decay are held
    for all; its interval is without their errors. Where these exponents are not identified there are none to hold.
    """
    own = {value: constants_of(PENALTY_LAW, _of(cells, value)) for value in known}
    _, usual = own.get(USUAL, ("", {}))
    held = {name: each.estimate for name in EXPONENTS if (each := usual.get(name, NOT_KNOWN)).estimate is not None}
    if len(held) < len(EXPONENTS):
        return {_OWN: own}
    law = with_held(PENALTY_LAW, held)
    return {_COMMON: {value: constants_of(law, _of(cells, value)) for value in known}, _OWN: own}


def _overfitting_claim(repeats: pd.DataFrame, penalties: Mapping[str, _Decays]) -> JudgedClaim:
    """Two numbers decide: the coefficient of the law, and what repeats cost without any law."""
    fits = penalties.get(_COMMON, {})
    of = {value: found.get("P", NOT_KNOWN).map_log() for value, (_, found) in fits.items()}
    lowered, logs = difference(of.get(STRONG, NOT_KNOWN), of.get(USUAL, NOT_KNOWN)), _log_costs(repeats)
    than = "with strong weight decay less that with the usual one"
    parts = tuple(
        Measured(f"log of {name} {than}", math.log(LOWERED), math.log(SAME), *found)
        for name, found in (("the coefficient", lowered), ("the cost of repeats", mean_interval(logs)))
    )
    are = f"those of weight decay {USUAL}" if fits else f"not identified with weight decay {USUAL}"
    return JudgedClaim(
        "RP-6", f"strong weight decay lowers the coefficient of overfitting by {1 - LOWERED:.0%}",
        together([part.ruling for part in parts]),
        f"cells with weight decay {USUAL} and {STRONG}, and {len(logs)} pairs of them of {REPEATED} epochs and more",
        parts, f"The exponents of {PENALTY_LAW} are {are}.",
    )  # fmt: skip


def _log_costs(repeats: pd.DataFrame) -> list[float]:
    """The log of what repeats cost with strong weight decay (nats above new text) over that with the usual one.

    Pairs in which either cost is not positive have no log and are left out.
    """
    cost = repeats.assign(cost=repeats["L"] - repeats["other"]).drop(columns=["other", "effect"])
    cost = cost.loc[(cost["epochs"] >= REPEATED) & (cost["cost"] > 0)]
    strong, usual = (cost.loc[cost["weight_decay"] == value] for value in (STRONG, USUAL))
    return [float(each) for each in paired(strong, usual, ["width", "depth", "D", "U"], "cost")["effect"]]


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
            axes.plot(at["epochs"], 100 * np.expm1(at["effect"]), marker=mark, ms=4, lw=1, color=colour, label=label)
    axes.set(xscale="log", xlabel="epochs D/U", ylabel="loss above that of new text, %")
    axes.set_xticks([4, 16, 64], ["4", "16", "64"])
    axes.minorticks_off()
    axes.set_title("What it costs to read text again instead of new text", loc="left", fontsize=8.5)
    legend_below(figure, axes)
    return figure


def _decay_figure(effects: pd.DataFrame) -> "Figure":
    figure, ((axes,),) = blank_figure(4.6, 3.6)
    axes.axhline(0, color=FAINT, lw=0.8)
    for n, own, colour in _colours(effects):
        for weight_decay, dashes in ((STRONG, "-"), (NONE, (0, (4, 3)))):
            mean = own.loc[own["weight_decay"] == weight_decay].groupby("epochs")["effect"].mean()
            label = f"N = {n:,.0f}" if weight_decay == STRONG else None
            axes.plot(mean.index, 100 * np.expm1(mean), marker="o", ms=3, lw=1.2, ls=dashes, color=colour, label=label)
    axes.set(xscale="log", xlabel="epochs D/U", ylabel="loss above that with weight decay 0.1, %")
    axes.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
    axes.minorticks_off()
    axes.set_title(f"Weight decay {STRONG:g} (solid) and {NONE:g} (dashed)", loc="left", fontsize=8.5)
    legend_below(figure, axes)
    return figure


def _world(
    id_: str, truth: str, constant: float, overfits: Mapping[float, float], *words: tuple[Ruling, ...]
) -> LossWorld:
    """A world with a value of repeats and a cost of overfitting.

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

    return LossWorld(id_, truth, loss, numbered("RP", words))


_WORLDS = (
    _world(
        "published", "a repeat's value decays with R_D = 15.4 epochs, whatever the weight decay",
        15.39, {0.0: 0.0, 0.1: 0.0, 1.0: 0.0}, (YES,), (YES,), (YES, OPEN), (NO,), (YES,), (NO,),
    ),
    _world(
        "worthless", "a repeat's value decays with R_D = 2 epochs, whatever the weight decay",
        2.0, {0.0: 0.0, 0.1: 0.0, 1.0: 0.0}, (NO,), (NO,), (YES, OPEN), (NO,), (YES,), (NO,),
    ),
    _world(
        "overfitting", "repeats are worth new text but cost overfitting, which strong weight decay nearly prevents",
        math.inf, {0.0: 0.03, 0.1: 0.02, 1.0: 0.002}, (YES, NO, OPEN), (NO, OPEN), (NO,), (YES,), (NO, OPEN),
        (NO, OPEN),
    ),
    _world(
        "lowered", "repeats are worth new text but cost overfitting, of which strong weight decay leaves three tenths",
        math.inf, {0.0: 0.025, 0.1: 0.02, 1.0: 0.006}, (YES, NO, OPEN), (NO, OPEN), (NO,), (YES,), (NO, OPEN), (YES,),
    ),
)  # fmt: skip

REPETITION = Paper(judge_repetition, _WORLDS)
