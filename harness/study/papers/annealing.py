"""The study of annealing: whether two runs foretell the losses of other schedules of the learning rate.

Tissue et al. 2024 (arXiv 2408.11029) claim that the loss after every step is L0 + A S1^-alpha - C S2, where S1 and S2
are sums over the rates so far (`harness.study.methods.rate_traces`). The rules are those of
`sweeps/studies/annealing/design.md`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling, together
from harness.study.contrasts import mean_interval
from harness.study.loss_runs import CURVE_LOSS, CURVE_TOKENS, cell_losses, ended_runs, pooled_sd
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.methods.annealed_curves import AnnealedCurve, AnnealingFit, fit_annealing
from harness.study.methods.rate_traces import RATE_SETTINGS, rate_sums
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

# The momentum of S2 keeps this share a step in the paper's main fits; its memory is 1/(1 - decay) steps.
_PAPER_DECAY = 0.999
# Schedules are named as in the sweep; these two have further words for the decay in the last 70 % and for twice the
# steps. The law is fitted to the first two, or to all three where the memory is fitted, too.
_CONSTANT, _COSINE, _SUDDEN, _TAIL, _TWICE = "constant", "cosine", "two_stage", "two_stage, long tail", "cosine, twice"
_TWO, _THREE = (_CONSTANT, _COSINE), (_CONSTANT, _COSINE, _SUDDEN)
_WSD, _UNSEEN = ("wsd", "wsd_exponential"), ("wsd", "wsd_exponential", "linear")
# Curves are fitted and compared from here on, a tenth of the shorter runs and beyond all warm-ups.
_FIRST_STEP, _FEWEST_POINTS = 410, 8
# A loss is foretold if it is met to 0.5 %. A gain or a surplus is one if it is larger.
_MET = 0.005
# Without S2 the errors are to be at least twice as large.
_WORSE = 2.0


class _OfDraw(NamedTuple):
    """The runs of one draw, by schedule, and the laws fitted to them; None where a run that they need is missing."""

    curves: Mapping[str, AnnealedCurve]
    paper: AnnealingFit | None
    memory: AnnealingFit | None
    plain: AnnealingFit | None


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended.

    Raises:
        InputError: no finished run.
    """
    ended = ended_runs(runs)
    draws = [_of_draw(own) for _, own in ended.groupby("draw")]
    claims = _claims(draws)
    finals = _final_errors(draws)
    wsd = mean_interval([row for each in draws for row in _last(each, "paper", _WSD[0])])
    met = "an unknown distance from"
    if wsd.estimate is not None:
        met = f"{abs(wsd.estimate):.1%} {'above' if wsd.estimate > 0 else 'below'}"
    headline = f"Under the schedule wsd the law's final loss is {met} the measured one: {count_of_words(claims)}."
    tables = {
        "log of the law's final loss over the measured one": finals,
        "the fitted laws, mean over draws": [row for name in ("paper", "memory", "plain") for row in _law(draws, name)],
    }
    drawings = {}
    if finals:
        drawings["errors"] = StudyFigure(
            "How far the law's final losses are from the measured ones, by schedule: with the paper's memory of 1000"
            " steps, fitted to the constant rate and the cosine, and with a fitted memory, fitted to the two-stage"
            " schedule, too. The band is what counts as met. Intervals are over draws of text.",
            functools.partial(_errors_figure, finals),
        )
    shown = next((each for each in draws if each.memory and each.curves.keys() >= {_TAIL, *_WSD}), None)
    if shown is not None:
        drawings["curves"] = StudyFigure(
            "Losses of one draw of text against steps (marks), and the law with the fitted memory (lines).",
            functools.partial(_curves_figure, shown),
        )
    sd, degrees = pooled_sd(cell_losses(ended.assign(block=_kinds(ended))))
    spread = f"vary by {sd:.1%} ({degrees} degrees of freedom)" if degrees else "are single"
    note = f"{len(ended)} finished runs in {len(draws)} draws of text; the final losses of a schedule {spread}."
    return LossVerdict(headline, claims, {title: rows for title, rows in tables.items() if rows}, (note,), drawings)


def _kinds(runs: pd.DataFrame) -> list[str]:
    """The name of every run's schedule, with what is added for long tails and for twice the steps."""
    tail = (runs["schedule"] == _SUDDEN) & (runs["decay_fraction"].astype(float) > 0.5)
    names = runs["schedule"].where(~tail, _TAIL)
    return list(names.where(runs["block"] != "steps_8192", names + ", twice"))


def _of_draw(own: pd.DataFrame) -> _OfDraw:
    curves = {}
    for kind, run in zip(_kinds(own), own.to_dict("records"), strict=True):
        steps = np.round(np.asarray(run[CURVE_TOKENS], float) / float(run["batch_tokens"])).astype(int)
        kept = steps >= _FIRST_STEP
        if kept.sum() >= _FEWEST_POINTS:
            losses = np.asarray(run[CURVE_LOSS], float)[kept]
            curves[kind] = AnnealedCurve(
                steps[kept], losses, float(run["L"]), tuple(run[name] for name in RATE_SETTINGS)
            )
    two, three = ([curves[kind] for kind in kinds if kind in curves] for kinds in (_TWO, _THREE))
    complete = len(two) == len(_TWO)
    return _OfDraw(
        curves,
        fit_annealing(two, _PAPER_DECAY) if complete else None,
        fit_annealing(three, None) if len(three) == len(_THREE) else None,
        fit_annealing(three, _PAPER_DECAY, anneals=False) if len(three) == len(_THREE) else None,
    )


def _last(draw: _OfDraw, law: str, kind: str) -> list[float]:
    """The error of the final loss of a schedule in a draw, as a list of one; of none where it is not known."""
    fitted, curve = getattr(draw, law), draw.curves.get(kind)
    return [] if fitted is None or curve is None else [float(fitted.errors(curve)[-1])]


def _mean_size(draw: _OfDraw, law: str, kinds: Sequence[str], *, final: bool) -> list[float]:
    """The mean absolute error over schedules, of final losses or of curves, as a list of one, or of none."""
    fitted = getattr(draw, law)
    if fitted is None or not draw.curves.keys() >= set(kinds):
        return []
    errors = [np.abs(fitted.errors(draw.curves[kind])) for kind in kinds]
    return [float(np.mean([each[-1] if final else each[:-1].mean() for each in errors]))]


def _final_errors(draws: Sequence[_OfDraw]) -> list[dict[str, Any]]:
    rows = []
    for law, fitted in (("paper", _TWO), ("memory", _THREE)):
        for kind in (*_THREE, *_UNSEEN, _TAIL, _TWICE):
            errors = [error for draw in draws for error in _last(draw, law, kind)]
            if errors:
                mean, low, high = mean_interval(errors)
                row = {"memory": "1000 steps" if law == "paper" else "fitted", "schedule": kind}
                row |= {"fitted to it": "yes" if kind in fitted else "no", "draws": len(errors)}
                rows.append(row | {"error": mean, "low": low, "high": high})
    return rows


def _law(draws: Sequence[_OfDraw], name: str) -> list[dict[str, Any]]:
    fits = [getattr(draw, name) for draw in draws if getattr(draw, name) is not None]
    if not fits:
        return []
    constants = np.array([np.append(each.constants, [math.nan])[:3] for each in fits])
    words = {"paper": "memory 1000 steps", "memory": "memory fitted", "plain": "without S2"}
    row: dict[str, Any] = {"law": words[name], "alpha": float(np.mean([each.alpha for each in fits]))}
    row |= dict(zip(("L0", "A", "C"), map(float, constants.mean(axis=0)), strict=True))
    memories = [float(1 / (1 - each.decay)) for each in fits]
    return [row | {"least memory, steps": min(memories), "most": max(memories)}]


def _claims(draws: Sequence[_OfDraw]) -> tuple[JudgedClaim, ...]:
    def met(law: str, kind: str) -> Measured:
        errors = [error for draw in draws for error in _last(draw, law, kind)]
        return Measured(f"the log error of the final loss under {kind}", 0.0, _MET, *mean_interval(errors))

    gains = [each.memory.gain(each.curves[_COSINE]) for each in draws if each.memory]
    gain = within("the share of the loss that S2 takes off at the end of the cosine", _MET, None, *mean_interval(gains))
    sizes = [
        math.log(without / with_)
        for each in draws
        for without, with_ in zip(
            _mean_size(each, "plain", _UNSEEN, final=True), _mean_size(each, "memory", _UNSEEN, final=True), strict=True
        )
    ]
    name = "the log of the errors without S2 over those with it"
    worse = within(name, math.log(_WORSE), None, *mean_interval(sizes))
    curve_errors = [error for each in draws for error in _mean_size(each, "memory", _UNSEEN, final=False)]
    curve = within("the mean absolute log error of curves", 0.0, _MET, *mean_interval(curve_errors).clip(least=0.0))
    over = [-error for each in draws for error in _last(each, "memory", _TAIL)]
    tail = within("log of the measured final loss over the law's", _MET, None, *mean_interval(over))
    found = (
        ("AN-1", "fitted to a constant rate and a cosine, the law meets final losses of unseen wsd schedules to 0.5 %",
         tuple(met("paper", kind) for kind in _WSD), "memory of 1000 steps"),
        ("AN-2", "with a fitted memory, and fitted to a two-stage schedule too, the law meets all unseen ones to 0.5 %",
         tuple(met("memory", kind) for kind in _UNSEEN), "memory fitted"),
        ("AN-3", "the law meets the curves of unseen schedules to 0.5 % on average", (curve,), "memory fitted"),
        ("AN-4", "the law meets the final loss of a run of twice the steps to 0.5 %", (met("memory", _TWICE),),
         "memory fitted"),
        ("AN-5", "annealing takes off loss in proportion to S2, and without S2 the law errs twice as much",
         (gain, worse), "memory fitted"),
        ("AN-6", "the law foretells too low a loss on a long constant tail after a decay", (tail,), "memory fitted"),
    )  # fmt: skip
    return tuple(
        JudgedClaim(
            id_, claim, together([each.ruling for each in evidence]), f"{len(draws)} draws, {law}", evidence, ""
        )
        for id_, claim, evidence, law in found
    )


def _errors_figure(finals: Sequence[Mapping[str, Any]]) -> Any:
    kinds = list(dict.fromkeys(row["schedule"] for row in finals))
    series = {}
    for shift, memory in ((-0.1, "1000 steps"), (0.1, "fitted")):
        own = [row for row in finals if row["memory"] == memory]
        if own:
            value, low, high = (
                [100 * (math.nan if row[name] is None else row[name]) for row in own]
                for name in ("error", "low", "high")
            )
            places = [kinds.index(row["schedule"]) + shift for row in own]
            series[f"memory {memory}"] = Series(places, value, low, high, line="")
    ticks = {float(place): kind.replace("_", "\n").replace(", ", ",\n") for place, kind in enumerate(kinds)}
    figure = series_figure(
        series, "schedule", "law's final loss above measured, %", band=(-100 * _MET, 100 * _MET), ticks=ticks,
        title="How far the law misses final losses", kinds=True,
    )  # fmt: skip
    figure.axes[0].tick_params(axis="x", labelsize=6)
    return figure


def _curves_figure(draw: _OfDraw) -> Any:
    series = {}
    for kind in (_CONSTANT, _COSINE, _WSD[0], _TAIL):
        curve = draw.curves[kind]
        law = curve.loss * np.exp(draw.memory.errors(curve)[:-1]) if draw.memory else curve.loss
        series[kind] = Series(curve.at, curve.loss, line="", of=kind)
        series[f"{kind}, law"] = Series(curve.at, law, mark="", of=kind)
    ticks = {float(step): f"{step:,}" for step in (500, 1000, 2000, 4000)}
    return series_figure(
        series, "step", "held-out loss, nats per token", log_x=True, ticks=ticks, kinds=True,
        title="Losses of one draw (marks), and the law (lines)",
    )  # fmt: skip


def _world(id_: str, truth: str, memory: float, gain: float, lasts: float, *words: tuple[Ruling, ...]) -> LossWorld:
    """A world in which the law holds, with a gain that fades.

    Args:
        memory: of the momentum of S2, steps.
        gain: what an annealing by one unit of the rate takes off the loss in the end, nats: C times the memory.
        lasts: the steps after which 1/e of a gain is left; infinite in the law.
    """

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        steps = np.maximum(np.round(tokens / runs["batch_tokens"].to_numpy(float)).astype(int), 1)
        found = np.zeros(len(runs))
        for rows in runs.groupby(list(RATE_SETTINGS)).indices.values():
            settings = [runs[name].iloc[rows[0]] for name in RATE_SETTINGS]
            s1, s2 = rate_sums(settings, 1 - 1 / memory)
            if math.isfinite(lasts):
                gone = rate_sums(settings, 1 - 1 / lasts).s2
                s2 = s2 / (1 - memory / lasts) - gone * memory / lasts / (1 - memory / lasts)
            found[rows] = (2.0 + 0.95 * s1**-0.45 - gain / memory * s2)[steps[rows] - 1]
        return found

    claims = numbered("AN", words)
    return LossWorld(id_, truth, loss, claims, errors=0.3)


_WORLDS = (
    _world("published", "the law holds, with a memory of 1000 steps", 1000, 40, math.inf,
           (YES,), (YES,), (YES,), (YES,), (YES,), (NO,)),
    _world("short", "the law holds, with a memory of 100 steps", 100, 30, math.inf,
           (NO,), (YES,), (YES,), (YES,), (YES,), (NO,)),
    _world("fading", "as the second, but what annealing gains fades in 4000 steps", 100, 30, 4000,
           (NO,), (NO, OPEN), (YES, OPEN), (NO, OPEN), (YES,), (YES,)),
    _world("no gain", "the loss follows the sum of the rates alone", 1000, 0, math.inf,
           (YES,), (YES,), (YES,), (YES,), (NO,), (NO,)),
)  # fmt: skip

ANNEALING = Paper(_judge, _WORLDS)
