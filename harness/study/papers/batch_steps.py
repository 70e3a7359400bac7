"""The study of steps and batches: whether loss follows size and steps by OpenAI's form, corrected for the batch.

Su et al. 2024 (arXiv 2403.06563) fit L(N, S_min) = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S, where S_min = S/(1 +
B_crit/B) are the steps that a batch without bound would need, and B_crit = B_star/L^(1/alpha_B) depends on the loss
alone. They fit it in steps, as is done here: the critical batch from contours of equal loss, then S_min of every point,
then the law of size. The rules are those of `sweeps/studies/batch_steps/design.md`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling, together
from harness.study.contrasts import Interval95, mean_interval
from harness.study.loss_runs import ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld, numbered
from harness.study.methods.stepwise import (
    BatchCurve,
    LossContour,
    StepwiseFit,
    aic_without_floor,
    batch_curves,
    contour_misfits,
    contour_optimum,
    errors_on_largest,
    fit_stepwise,
    jackknife_numbers,
    loss_contours,
)
from harness.study.paper import Paper
from harness.study.plots import REFERENCE, Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The published exponents, which could not be checked against the paper, and how far from them still agrees.
ALPHA_N, ALPHA_S, ALPHA_B = 0.076, 0.67, 0.205
NEAR_N, NEAR_S, NEAR_B = 0.02, 0.15, 0.05
# The power of B_crit/B in steps is 1 to this, log steps scatter about the contour by at most that.
SAME_POWER, SCATTER = 0.15, 0.1
# The power of N in the critical batch of one loss that still counts as none.
NO_POWER = 0.15
# The mean error of the trajectories of the largest size, and by how much AIC may be higher without a floor.
CLOSE, AIC_MARGIN = 0.02, 2.0


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended. Raises InputError if none has."""
    ended = ended_runs(runs)
    curves = batch_curves(ended)
    contours = loss_contours(curves)
    steps = fit_stepwise(curves)
    limits = jackknife_numbers(curves, steps)
    errors = errors_on_largest(curves)
    by_curve = [float(np.abs(error).mean()) for _, error in errors]
    claims = _claims(curves, contours, steps, limits, mean_interval(by_curve).clip(least=0.0))
    missed = (
        f"misses the losses of the largest size by {np.mean(by_curve):.1%} on average"
        if by_curve
        else "was not tried on the largest size"
    )
    headline = f"The law of size and steps, fitted to the smaller sizes, {missed}: {count_of_words(claims)}."
    tables = {
        "critical batches on contours of equal loss": [
            {"N": round(each.n), "loss": each.loss, "batches": len(each.batches), "S_min, steps": s_min,
             "B_crit, tokens": b_crit}
            for each in contours for b_crit, s_min in (contour_optimum(each),)
        ],
        "constants of the law, all sizes": [
            {"E": law.floor, "N_c": law.n_c, "alpha_N": law.alpha_n, "S_c": law.s_c, "alpha_S": law.alpha_s,
             "B_star": steps.b_star, "alpha_B": steps.alpha_b, "misfit": math.sqrt(law.misfit.mean())}
            for law in (steps.plain, steps.floored) if law
        ],
        "error on the curves of the largest size": [
            {"batch, tokens": curve.batch, "points": len(error), "mean": float(np.abs(error).mean()),
             "mean with its sign": float(error.mean())}
            for curve, error in errors
        ],
    }  # fmt: skip
    drawings = {}
    if contours:
        drawings["critical"] = StudyFigure(
            "The critical batch of contours of equal loss, by size, and the fitted law (line), which depends on the"
            " loss alone.",
            functools.partial(_critical_figure, contours, steps),
        )
    if errors:
        drawings["trajectories"] = StudyFigure(
            "The loss that the law of the smaller sizes predicts for the largest size over the measured one, by batch;"
            " in the band it is within 2 %.",
            functools.partial(_trajectories_figure, errors),
        )
    notes = (
        f"{len(ended)} finished runs in {len(curves)} curves, each the least loss over its rates.",
        "The published exponents stand in a secondary source and were not checked against the paper.",
    )
    return LossVerdict(headline, claims, {title: rows for title, rows in tables.items() if rows}, notes, drawings)


def _claims(
    curves: Sequence[BatchCurve],
    contours: Sequence[LossContour],
    steps: StepwiseFit,
    limits: Sequence[Interval95],
    error: Interval95,
) -> tuple[JudgedClaim, ...]:
    power, alpha_b, in_n, alpha_n, alpha_s = limits
    scatters = [
        math.sqrt(
            sum(contour_misfits(each, np.ones(1)).min() for each in own) / sum(len(each.batches) - 2 for each in own)
        )
        for n in sorted({each.n for each in contours})
        for own in ([each for each in contours if each.n == n],)
    ]
    scatter = mean_interval(scatters).clip(least=0.0)
    contour = (
        within("the scatter of log steps about the contours", 0.0, SCATTER, *scatter),
        Measured("the power of B_crit/B in steps", 1.0, SAME_POWER, *power),
    )
    aic = aic_without_floor(steps)
    rows = f"{len(contours)} contours of {len({each.n for each in contours})} sizes"
    each_curve = f"{len(curves)} curves"
    judged = (
        ("BS-1", "contours of equal loss follow (S/S_min - 1)(E/E_min - 1) = 1", rows, contour),
        ("BS-2", "the critical batch falls with the loss with alpha_B = 0.205", rows,
         (Measured("the exponent alpha_B", ALPHA_B, NEAR_B, *alpha_b),)),
        ("BS-3", "the critical batch depends on the loss alone", rows,
         (Measured("the power of N in B_crit at one loss", 0.0, NO_POWER, *in_n),)),
        ("BS-4", "loss falls with size with alpha_N = 0.076", each_curve,
         (Measured("the exponent alpha_N", ALPHA_N, NEAR_N, *alpha_n),)),
        ("BS-5", "loss falls with steps with alpha_S = 0.67", each_curve,
         (Measured("the exponent alpha_S", ALPHA_S, NEAR_S, *alpha_s),)),
        ("BS-6", "fitted to the smaller sizes the law predicts the curves of the largest", "curves of the largest size",
         (within("mean error of the predicted log loss", 0.0, CLOSE, *error),)),
        ("BS-7", "the law needs no floor", each_curve,
         (within("AIC without a floor less that with one", None, AIC_MARGIN, *aic),)),
    )  # fmt: skip
    return tuple(
        JudgedClaim(id_, text, together([each.ruling for each in found]), of, found, "")
        for id_, text, of, found in judged
    )


def _critical_figure(contours: Sequence[LossContour], steps: StepwiseFit) -> "Figure":
    series = {}
    for n in sorted({each.n for each in contours}):
        own = [each for each in contours if each.n == n]
        series[f"N = {n:,.0f}"] = Series([each.loss for each in own], [contour_optimum(each)[0] for each in own])
    if math.isfinite(steps.alpha_b):
        at = np.linspace(min(each.loss for each in contours), max(each.loss for each in contours), 40)
        label = f"law, alpha_B = {steps.alpha_b:.2f}"
        series[label] = Series(at, steps.b_star * at ** (-1 / steps.alpha_b), line="--", mark="", of=REFERENCE)
    return series_figure(
        series, "loss of the contour, nats per token", "critical batch, tokens",
        title="The critical batch by the loss that is reached",
    )  # fmt: skip


def _trajectories_figure(errors: Sequence[tuple[BatchCurve, np.ndarray]]) -> "Figure":
    series = {
        f"batch of {curve.batch:,.0f}": Series(curve.tokens, 100 * np.expm1(error), mark="") for curve, error in errors
    }
    band = (-100 * CLOSE, 100 * CLOSE)
    return series_figure(
        series, "tokens read", "predicted loss above measured, %", log_x=True, band=band,
        title="Curves of the largest size, foretold from smaller ones",
    )  # fmt: skip


def _world(
    id_: str, truth: str, constants: Mapping[str, float], words: Sequence[tuple[Ruling, ...]], *,
    floor: float = 0.0, power: float = 1.0, in_n: float = 0.0,
) -> LossWorld:  # fmt: skip
    """A world of the law with a floor, a power of B_crit/B, and a power of N/3e4 in B_crit."""
    c = constants

    def loss(runs: pd.DataFrame, tokens: np.ndarray) -> np.ndarray:
        n, batch = runs["N_nonembedding"].to_numpy(float), runs["batch_tokens"].to_numpy(float)
        found = np.full(len(n), 3.0)
        for _ in range(80):
            critical = c["B_star"] * found ** (-1 / c["alpha_B"]) * (n / 3e4) ** in_n
            least = tokens / batch / (1 + (critical / batch) ** power)
            new = floor + (c["N_c"] / n) ** c["alpha_N"] + (c["S_c"] / least) ** c["alpha_S"]
            found = np.sqrt(found * new)
        # The best rate grows as the root of the batch up to the critical one.
        best = 0.006 * 32 / runs["width"].to_numpy(float) * np.sqrt(np.minimum(batch, critical) / 512)
        return found * np.exp(0.01 * np.log(runs["lr"].to_numpy(float) / best) ** 2)

    return LossWorld(id_, truth, loss, numbered("BS", words))


_PUBLISHED = {"N_c": 1.5e7, "alpha_N": 0.076, "S_c": 85.0, "alpha_S": 0.67, "B_star": 2.4e5, "alpha_B": 0.205}
_FLOORED = {"N_c": 3600.0, "alpha_N": 0.6, "S_c": 59.0, "alpha_S": 0.4, "B_star": 1.8e4, "alpha_B": 0.5}

_ANY = (YES, NO, OPEN)
_WORLDS = (
    _world("published", "the law with the published exponents", _PUBLISHED,
           [(YES,), (YES,), (YES,), (YES,), (YES,), (YES,), (YES,)]),
    _world("floor", "the law with a floor of 1.2 nats, alpha_N 0.6, alpha_S 0.4 and alpha_B 0.5", _FLOORED,
           [(YES,), (NO,), (YES,), (NO,), (NO,), _ANY, (NO,)], floor=1.2),
    _world("size", "the published law, but that B_crit grows with N at one loss as N^0.5", _PUBLISHED,
           [(YES,), _ANY, (NO,), _ANY, _ANY, _ANY, _ANY], in_n=0.5),
    _world("blunt", "the published law, but that steps follow S_min (1 + (B_crit/B)^0.6)", _PUBLISHED,
           [(NO,), _ANY, _ANY, _ANY, _ANY, _ANY, _ANY], power=0.6),
)  # fmt: skip

BATCH_STEPS = Paper(_judge, _WORLDS)
