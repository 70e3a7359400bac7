"""The study of annealing: whether two runs foretell the losses of other schedules of the learning rate.

Tissue et al. 2024 (arXiv 2408.11029) claim that the loss after every step is L0 + A S1^-alpha - C S2, where S1 and S2
are sums over the rates so far (`harness.study.rate_traces`). The rules are those of
`sweeps/studies/annealing/design.md`.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling, together
from harness.study.contrasts import mean_interval
from harness.study.loss_runs import CURVE_LOSS, CURVE_TOKENS, cell_losses, ended_runs, pooled_sd
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure
from harness.study.rate_traces import RATE_SETTINGS, RateSums, rate_sums

# The momentum of S2 keeps this share a step in the paper's main fits; its memory is 1/(1 - decay) steps.
PAPER_DECAY = 0.999
# Where the searches of the memory, in steps, and of alpha begin.
MEMORIES, ALPHAS = np.geomspace(10, 3000, 12), np.geomspace(0.03, 3, 20)
# Schedules are named as in the sweep; these two have further words for the decay in the last 70 % and for twice the
# steps. The law is fitted to the first two, or to all three where the memory is fitted, too.
CONSTANT, COSINE, SUDDEN, TAIL, TWICE = "constant", "cosine", "two_stage", "two_stage, long tail", "cosine, twice"
TWO, THREE = (CONSTANT, COSINE), (CONSTANT, COSINE, SUDDEN)
WSD, UNSEEN = ("wsd", "wsd_exponential"), ("wsd", "wsd_exponential", "linear")
# Curves are fitted and compared from here on, a tenth of the shorter runs and beyond all warm-ups.
FIRST_STEP, FEWEST_POINTS = 410, 8
# A loss is foretold if it is met to 0.5 %. A gain or a surplus is one if it is larger, and none is above 1 in log loss.
MET, MOST = 0.005, 1.0
# Without S2 the errors are to be at least twice as large, and they are never a thousand times as large.
WORSE, WORST = 2.0, 1000.0


class Curve(NamedTuple):
    """One run: its losses after the steps `at`, its final loss, and what makes its rates."""

    at: np.ndarray
    loss: np.ndarray
    last: float
    settings: tuple[Any, ...]

    def sums(self, decay: float) -> RateSums:
        """S1 and S2 after the steps `at`, and after the last step as one more."""
        s1, s2 = rate_sums(self.settings, decay)
        places = np.append(self.at - 1, len(s1) - 1)
        return RateSums(s1[places], s2[places])


class Fitted(NamedTuple):
    """The law as fitted: L = L0 + A S1^-alpha - C S2; `squares` is the sum of squared relative residuals."""

    decay: float
    alpha: float
    constants: np.ndarray
    squares: float

    def errors(self, curve: Curve) -> Float[np.ndarray, "points+1"]:
        """The log of the law's loss less that of the measured one, on the curve, and at last of the final loss."""
        s1, s2 = curve.sums(self.decay)
        found = _terms(s1, s2, self.alpha)[:, : len(self.constants)] @ self.constants
        with np.errstate(invalid="ignore"):
            return np.log(found) - np.log(np.append(curve.loss, curve.last))

    def gain(self, curve: Curve) -> float:
        """What S2 takes off the final loss of a run, as a share of it."""
        return float(self.constants[2] * curve.sums(self.decay).s2[-1] / curve.last)


def fit_annealing(curves: Sequence[Curve], decay: float | None, *, anneals: bool = True) -> Fitted:
    """Least squares of the relative errors. The law is linear in all but alpha and the memory, which are searched.

    Args:
        decay: of the momentum of S2; None to fit it.
        anneals: whether the law has the term of S2. Its constant C may come out below zero.
    """
    if decay is None:
        return _least(lambda memory: fit_annealing(curves, 1 - 1 / memory), MEMORIES)
    sums = [curve.sums(decay) for curve in curves]
    s1, s2 = (np.concatenate([each[which][:-1] for each in sums]) for which in (0, 1))
    loss = np.concatenate([curve.loss for curve in curves])

    def solved(alpha: float) -> Fitted:
        relative = _terms(s1, s2, alpha)[:, : 3 if anneals else 2] / loss[:, None]
        constants = np.linalg.lstsq(relative, np.ones(len(loss)), rcond=None)[0]
        return Fitted(decay, alpha, constants, float(np.sum((relative @ constants - 1) ** 2)))

    return _least(solved, ALPHAS)


def _least(fitted: Callable[[float], Fitted], values: np.ndarray) -> Fitted:
    """The best fit over a constant: the best of some rising values, and then about it, to 2 %."""
    best = int(np.argmin([fitted(value).squares for value in values]))
    ends = (math.log(values[max(best - 1, 0)]), math.log(values[min(best + 1, len(values) - 1)]))
    found = minimize_scalar(
        lambda log: fitted(math.exp(log)).squares, bounds=ends, method="bounded", options={"xatol": 0.02}
    )
    return fitted(math.exp(float(found.x)))


def _terms(s1: np.ndarray, s2: np.ndarray, alpha: float) -> np.ndarray:
    return np.stack([np.ones_like(s1), s1**-alpha, -s2], axis=1)


class OfDraw(NamedTuple):
    """The runs of one draw, by schedule, and the laws fitted to them; None where a run that they need is missing."""

    curves: Mapping[str, Curve]
    paper: Fitted | None
    memory: Fitted | None
    plain: Fitted | None


def judge_annealing(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended.

    Raises:
        InputError: no finished run.
    """
    ended = ended_runs(runs)
    draws = [_of_draw(own) for _, own in ended.groupby("draw")]
    claims = _claims(draws)
    finals = _final_errors(draws)
    wsd = mean_interval([row for each in draws for row in _last(each, "paper", WSD[0])])
    met = "is not known" if wsd.estimate is None else f"is {wsd.estimate:+.1%}"
    headline = f"The law's error of the final loss under the schedule wsd {met}: {count_of_words(claims)}."
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
    shown = next((each for each in draws if each.memory and each.curves.keys() >= {TAIL, *WSD}), None)
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
    tail = (runs["schedule"] == SUDDEN) & (runs["decay_fraction"].astype(float) > 0.5)
    names = runs["schedule"].where(~tail, TAIL)
    return list(names.where(runs["block"] != "steps_8192", names + ", twice"))


def _of_draw(own: pd.DataFrame) -> OfDraw:
    curves = {}
    for kind, (_, run) in zip(_kinds(own), own.iterrows(), strict=True):
        steps = np.round(np.asarray(run[CURVE_TOKENS], float) / float(run["batch_tokens"])).astype(int)
        kept = steps >= FIRST_STEP
        if kept.sum() >= FEWEST_POINTS:
            losses = np.asarray(run[CURVE_LOSS], float)[kept]
            curves[kind] = Curve(steps[kept], losses, float(run["L"]), tuple(run[name] for name in RATE_SETTINGS))
    two, three = ([curves[kind] for kind in kinds if kind in curves] for kinds in (TWO, THREE))
    complete = len(two) == len(TWO)
    return OfDraw(
        curves,
        fit_annealing(two, PAPER_DECAY) if complete else None,
        fit_annealing(three, None) if len(three) == len(THREE) else None,
        fit_annealing(three, PAPER_DECAY, anneals=False) if len(three) == len(THREE) else None,
    )


def _last(draw: OfDraw, law: str, kind: str) -> list[float]:
    """The error of the final loss of a schedule in a draw, as a list of one; of none where it is not known."""
    fitted, curve = getattr(draw, law), draw.curves.get(kind)
    return [] if fitted is None or curve is None else [float(fitted.errors(curve)[-1])]


def _mean_size(draw: OfDraw, law: str, kinds: Sequence[str], *, final: bool) -> list[float]:
    """The mean absolute error over schedules, of final losses or of curves, as a list of one, or of none."""
    fitted = getattr(draw, law)
    if fitted is None or not draw.curves.keys() >= set(kinds):
        return []
    errors = [np.abs(fitted.errors(draw.curves[kind])) for kind in kinds]
    return [float(np.mean([each[-1] if final else each[:-1].mean() for each in errors]))]


def _final_errors(draws: Sequence[OfDraw]) -> list[dict[str, Any]]:
    rows = []
    for law, fitted in (("paper", TWO), ("memory", THREE)):
        for kind in (*THREE, *UNSEEN, TAIL, TWICE):
            errors = [error for draw in draws for error in _last(draw, law, kind)]
            if errors:
                mean, low, high = mean_interval(errors)
                row = {"memory": "1000 steps" if law == "paper" else "fitted", "schedule": kind}
                row |= {"fitted to it": "yes" if kind in fitted else "no", "draws": len(errors)}
                rows.append(row | {"error": mean, "low": low, "high": high})
    return rows


def _law(draws: Sequence[OfDraw], name: str) -> list[dict[str, Any]]:
    fits = [getattr(draw, name) for draw in draws if getattr(draw, name) is not None]
    if not fits:
        return []
    constants = np.array([np.append(each.constants, [math.nan])[:3] for each in fits])
    words = {"paper": "memory 1000 steps", "memory": "memory fitted", "plain": "without S2"}
    row: dict[str, Any] = {"law": words[name], "alpha": float(np.mean([each.alpha for each in fits]))}
    row |= dict(zip(("L0", "A", "C"), map(float, constants.mean(axis=0)), strict=True))
    memories = [float(1 / (1 - each.decay)) for each in fits]
    return [row | {"least memory, steps": min(memories), "most": max(memories)}]


def _claims(draws: Sequence[OfDraw]) -> tuple[JudgedClaim, ...]:
    def met(law: str, kind: str) -> Measured:
        errors = [error for draw in draws for error in _last(draw, law, kind)]
        return Measured(f"the log error of the final loss under {kind}", 0.0, MET, *mean_interval(errors))

    gains = [each.memory.gain(each.curves[COSINE]) for each in draws if each.memory]
    gain = within("what S2 takes off the loss at the end of the cosine, a share", MET, MOST, *_parts(gains))
    sizes = [
        math.log(without / with_)
        for each in draws
        for without, with_ in zip(
            _mean_size(each, "plain", UNSEEN, final=True), _mean_size(each, "memory", UNSEEN, final=True), strict=True
        )
    ]
    name = "the log of the errors without S2 over those with it"
    worse = within(name, math.log(WORSE), math.log(WORST), *_parts(sizes))
    curve_errors = [error for each in draws for error in _mean_size(each, "memory", UNSEEN, final=False)]
    curve = within("the mean absolute log error of curves", 0.0, MET, *_parts(curve_errors))
    over = [-error for each in draws for error in _last(each, "memory", TAIL)]
    tail = within("log of the measured final loss over the law's", MET, MOST, *_parts(over))
    found = (
        ("AN-1", "fitted to a constant rate and a cosine, the law meets final losses of unseen wsd schedules to 0.5 %",
         tuple(met("paper", kind) for kind in WSD), "memory of 1000 steps"),
        ("AN-2", "with a fitted memory, and fitted to a two-stage schedule too, it meets all unseen ones to 0.5 %",
         tuple(met("memory", kind) for kind in UNSEEN), "memory fitted"),
        ("AN-3", "it meets the curves of unseen schedules to 0.5 % on average", (curve,), "memory fitted"),
        ("AN-4", "it meets the final loss of a run of twice the steps to 0.5 %", (met("memory", TWICE),),
         "memory fitted"),
        ("AN-5", "annealing takes off loss in proportion to S2, and without S2 the law errs twice as much",
         (gain, worse), "memory fitted"),
        ("AN-6", "it promises too much on a long constant tail after a decay", (tail,), "memory fitted"),
    )  # fmt: skip
    return tuple(
        JudgedClaim(
            id_, claim, together([each.ruling for each in evidence]), f"{len(draws)} draws, {law}", evidence, ""
        )
        for id_, claim, evidence, law in found
    )


def _parts(values: Sequence[float]) -> tuple[float | None, tuple[float | None, float | None]]:
    value, *ends = mean_interval(values)
    return value, (ends[0], ends[1])


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
        series, "schedule", "law over measured final loss, %", band=(-100 * MET, 100 * MET), ticks=ticks
    )
    figure.axes[0].tick_params(axis="x", labelsize=6)
    return figure


def _curves_figure(draw: OfDraw) -> Any:
    series = {}
    for kind in (CONSTANT, COSINE, WSD[0], TAIL):
        curve = draw.curves[kind]
        law = curve.loss * np.exp(draw.memory.errors(curve)[:-1]) if draw.memory else curve.loss
        series[kind] = Series(curve.at, curve.loss, line="")
        series[f"{kind}, law"] = Series(curve.at, law, mark="")
    return series_figure(series, "step", "held-out loss, nats per token", log_x=True)


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
        for settings, rows in runs.groupby(list(RATE_SETTINGS)).indices.items():
            s1, s2 = rate_sums(settings, 1 - 1 / memory)
            if math.isfinite(lasts):
                gone = rate_sums(settings, 1 - 1 / lasts).s2
                s2 = s2 / (1 - memory / lasts) - gone * memory / lasts / (1 - memory / lasts)
            found[rows] = (2.0 + 0.95 * s1**-0.45 - gain / memory * s2)[steps[rows] - 1]
        return found

    claims = {f"AN-{number}": word for number, word in enumerate(words, 1)}
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

ANNEALING = Paper(judge_annealing, _WORLDS)
