"""The study of steps and batches: whether loss follows size and steps by OpenAI's form, corrected for the batch.

Su et al. 2024 (arXiv 2403.06563) fit L(N, S_min) = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S, where S_min = S/(1 +
B_crit/B) are the steps that a batch without bound would need, and B_crit = B_star/L^(1/alpha_B) depends on the loss
alone. They fit it in steps, as is done here: the critical batch from contours of equal loss, then S_min of every point,
then the law of size. The rules are those of `sweeps/studies/batch_steps/design.md`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.special import expit, stdtrit

from harness.fit.gap_law.rulings import JudgedClaim, Measured, Ruling
from harness.fit.laws.registry import get_law
from harness.study.contrasts import NOT_KNOWN, Interval95, mean_interval
from harness.study.loss_runs import CURVE_LOSS, CURVE_TOKENS, ended_runs
from harness.study.loss_verdict import LossVerdict, StudyFigure, count_of_words, within
from harness.study.loss_worlds import NO, OPEN, YES, LossWorld
from harness.study.paper import Paper
from harness.study.plots import Series, series_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A curve begins after so many tokens and so many steps; before, it is no power law.
FIRST_TOKENS, FIRST_STEPS, FEWEST_POINTS = 2**16, 16, 8
# Contours are at these losses (nats per token), where at least so many batches reach them.
LEVELS = tuple(3.4 * 0.95**step for step in range(16))
FEWEST_BATCHES, FEWEST_CONTOURS, FEWEST_SIZES = 6, 4, 3
# The powers of B_crit/B that are tried, and the critical batches in tokens.
POWERS, BATCHES = np.linspace(0.4, 1.8, 29), np.geomspace(20, 4e5, 161)
# The range of the exponents of the law of size; one at an end is not known.
LEAST_EXPONENT, MOST_EXPONENT = 0.005, 3.0
# The published exponents, which could not be checked against the paper, and how far from them still agrees.
ALPHA_N, ALPHA_S, ALPHA_B = 0.076, 0.67, 0.205
NEAR_N, NEAR_S, NEAR_B = 0.02, 0.15, 0.05
# The power of B_crit/B in steps is 1 to this, log steps scatter about the contour by at most that.
SAME_POWER, SCATTER = 0.15, 0.1
# The power of N in the critical batch of one loss that still counts as none.
NO_POWER = 0.15
# The mean error of the trajectories of the largest size, and by how much AIC may be higher without a floor.
CLOSE, AIC_MARGIN, AIC_MOST = 0.02, 2.0, 1000.0


class _Curve(NamedTuple):
    """The least loss over the rates of one size and batch.

    Attributes:
        steps: to each of LEVELS, of the curve as smoothed by a cubic of log loss in log tokens; infinite where it
            begins below that loss or does not reach it.
    """

    n: float
    batch: float
    tokens: Float[np.ndarray, "points"]
    loss: Float[np.ndarray, "points"]
    steps: Float[np.ndarray, "levels"]


class _Contour(NamedTuple):
    """Steps to one loss by batch, for one size."""

    n: float
    loss: float
    batches: Float[np.ndarray, "batches"]
    steps: Float[np.ndarray, "batches"]


class _Law(NamedTuple):
    """L = E + (N_c/N)^alpha_N + (S_c/S_min)^alpha_S.

    Attributes:
        misfit: the mean squared log residual of each curve.
        start: the solution in the coordinates of the search.
    """

    floor: float
    n_c: float
    alpha_n: float
    s_c: float
    alpha_s: float
    misfit: Float[np.ndarray, "curves"]
    start: Float[np.ndarray, "constants"]


class _Steps(NamedTuple):
    """All constants of the procedure; nan where the curves do not tell them.

    Attributes:
        power: of B_crit/B in the contours, shared by all; scatter: of log steps about contours of power 1.
        b_star, alpha_b: of the critical batch; in_n: the power of N in it at one loss.
        plain, floored: the law of size without and with a floor; None where there are too few sizes.
    """

    power: float
    scatter: float
    b_star: float
    alpha_b: float
    in_n: float
    plain: _Law | None
    floored: _Law | None

    def numbers(self) -> Float[np.ndarray, "5"]:
        """The power of the contours, alpha_B, the power of N, alpha_N, alpha_S."""
        found = (self.plain.alpha_n, self.plain.alpha_s) if self.plain else (math.nan, math.nan)
        exponents = (value if LEAST_EXPONENT + 1e-3 < value < MOST_EXPONENT else math.nan for value in found)
        return np.array([self.power, self.alpha_b, self.in_n, *exponents])


_UNKNOWN = _Steps(math.nan, math.nan, math.nan, math.nan, math.nan, None, None)


def _judge(runs: pd.DataFrame) -> LossVerdict:
    """Judge the runs of the study, all of them or those that have ended. Raises InputError if none has."""
    ended = ended_runs(runs)
    curves = _curves(ended)
    contours = _contours(curves)
    steps = _steps(curves)
    limits = _jackknife(curves, steps)
    errors = _forecast_errors(curves)
    by_curve = [float(np.abs(error).mean()) for _, error in errors]
    claims = _claims(curves, contours, steps, limits, mean_interval(by_curve))
    missed = f"misses the largest size by {np.mean(by_curve):.1%}" if by_curve else "was not tried on the largest size"
    headline = f"The law of size and steps, fitted to the smaller sizes, {missed}: {count_of_words(claims)}."
    tables = {
        "critical batches on contours of equal loss": [
            {"N": round(each.n), "loss": each.loss, "batches": len(each.batches), "S_min, steps": s_min,
             "B_crit, tokens": b_crit}
            for each in contours for b_crit, s_min in (_trade_off(each),)
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


def _curves(ended: pd.DataFrame) -> list[_Curve]:
    found = []
    for _, own in ended.groupby(["N_nonembedding", "batch_tokens"]):
        n, batch = float(own["N_nonembedding"].iloc[0]), float(own["batch_tokens"].iloc[0])
        longest = max(own[CURVE_TOKENS], key=len)
        whole = [loss for tokens, loss in zip(own[CURVE_TOKENS], own[CURVE_LOSS], strict=True)
                 if np.array_equal(tokens, longest)]  # fmt: skip
        tokens, loss = np.asarray(longest, float), np.min([np.asarray(each, float) for each in whole], axis=0)
        kept = (tokens >= FIRST_TOKENS) & (tokens >= FIRST_STEPS * batch)
        if kept.sum() >= FEWEST_POINTS:
            tokens, loss = tokens[kept], loss[kept]
            steps = _tokens_to_levels(tokens, loss) / batch
            found.append(_Curve(n, batch, tokens, loss, steps))
    return found


def _tokens_to_levels(tokens: Float[np.ndarray, "points"], loss: Float[np.ndarray, "points"]) -> np.ndarray:
    smooth = np.polynomial.Polynomial.fit(np.log(tokens), np.log(loss), 3)
    at = np.linspace(math.log(tokens[0]), math.log(tokens[-1]), 400)
    value, found = smooth(at), []
    for level in np.log(LEVELS):
        place = int((value <= level).argmax())  # 0 also where none is
        if place == 0:
            found.append(math.inf)
            continue
        share = (value[place - 1] - level) / (value[place - 1] - value[place])
        found.append(math.exp(at[place - 1] + share * (at[1] - at[0])))
    return np.array(found)


def _contours(curves: Sequence[_Curve]) -> list[_Contour]:
    found = []
    for n in sorted({curve.n for curve in curves}):
        own = [curve for curve in curves if curve.n == n]
        batches, steps = np.array([curve.batch for curve in own]), np.array([curve.steps for curve in own])
        for loss, of_batch in zip(LEVELS, steps.T, strict=True):
            reached = np.isfinite(of_batch)
            if reached.sum() >= FEWEST_BATCHES:
                found.append(_Contour(n, loss, batches[reached], of_batch[reached]))
    return found


def _misfits(contour: _Contour, powers: Float[np.ndarray, "powers"]) -> Float[np.ndarray, "powers batches"]:
    """The sum of squares of log S about log S_min + log(1 + (b/B)^power), by power and b; S_min is the best."""
    shape = np.log1p((BATCHES[:, None] / contour.batches) ** powers[:, None, None])
    residuals = np.log(contour.steps) - shape
    return np.sum((residuals - residuals.mean(axis=-1, keepdims=True)) ** 2, axis=-1)


def _trade_off(contour: _Contour) -> tuple[float, float]:
    """The critical batch of a contour of power 1, and its S_min."""
    (squares,) = _misfits(contour, np.ones(1))
    place = int(squares.argmin())
    b_crit = BATCHES[place] * (BATCHES[1] / BATCHES[0]) ** _vertex(squares, place)
    s_min = np.exp(np.mean(np.log(contour.steps) - np.log1p(b_crit / contour.batches)))
    return float(b_crit), float(s_min)


def _vertex(values: Float[np.ndarray, "grid"], place: int) -> float:
    """Where the parabola through a least value and its neighbours is least, in spacings; 0 at an end of the grid."""
    if not 0 < place < len(values) - 1:
        return 0.0
    before, at, after = values[place - 1 : place + 2]
    curvature = before - 2 * at + after
    return float((before - after) / (2 * curvature)) if curvature > 0 else 0.0


def _steps(curves: Sequence[_Curve], near: _Steps | None = None) -> _Steps:
    """The stepwise procedure: contours, the critical batch by loss, S_min, the law of size.

    Near the result for other curves the law of size is searched from there, and only without a floor.
    """
    contours = _contours(curves)
    sizes = {contour.n for contour in contours}
    if len(contours) < FEWEST_CONTOURS or len(sizes) < FEWEST_SIZES:
        return _UNKNOWN
    squares = np.sum([_misfits(each, POWERS).min(axis=1) for each in contours], axis=0)
    place = int(squares.argmin())
    power = POWERS[place] + _vertex(squares, place) * (POWERS[1] - POWERS[0])
    critical = np.array([_trade_off(each)[0] for each in contours])
    degrees = sum(len(each.batches) - 2 for each in contours)
    residuals = sum(_misfits(each, np.ones(1)).min() for each in contours)
    loss, n = (np.log([getattr(each, name) for each in contours]) for name in ("loss", "n"))
    ones = np.ones(len(loss))
    level, slope = np.linalg.lstsq(np.column_stack([ones, loss]), np.log(critical), rcond=None)[0]
    in_n = np.linalg.lstsq(np.column_stack([ones, loss, n]), np.log(critical), rcond=None)[0][2]
    plain = _law_of_size(curves, math.exp(level), -slope, False, near.plain if near else None)
    floored = None if near else _law_of_size(curves, math.exp(level), -slope, True)
    return _Steps(
        float(power), math.sqrt(residuals / degrees), math.exp(level), -1 / slope, float(in_n), plain, floored
    )


def _law_of_size(
    curves: Sequence[_Curve], b_star: float, in_loss: float, floor: bool, near: _Law | None = None
) -> _Law:
    """Fit the law by squares of log residuals, every curve with the same weight.

    Args:
        in_loss: 1/alpha_B.
        near: a law from which to search; by default the search has two starts of its own.
    """
    counts = [len(curve.loss) for curve in curves]
    n, batch = (np.repeat([getattr(curve, name) for curve in curves], counts) for name in ("n", "batch"))
    loss, tokens = (np.concatenate([getattr(curve, name) for curve in curves]) for name in ("loss", "tokens"))
    least = tokens / batch / (1 + b_star * loss**-in_loss / batch)
    at_n, at_s = (np.exp(np.log(each).mean()) for each in (n, least))
    weight = np.repeat(1 / np.sqrt(counts), counts)

    def terms(x: np.ndarray) -> np.ndarray:
        size = np.exp(x[0]) * (n / at_n) ** -_exponent(x[1])
        return size + np.exp(x[2]) * (least / at_s) ** -_exponent(x[3]) + (np.exp(x[4]) if floor else 0.0)

    def residuals(x: np.ndarray) -> np.ndarray:
        return weight * (np.log(terms(x)) - np.log(loss))

    size, steps, least_loss = np.log(float(np.exp(np.log(loss).mean())) * np.array([0.45, 0.3, 0.25]))
    own = [[size, of_n, steps, -1.5, *[least_loss] * floor] for of_n in (-3.0, -1.5)]
    starts = [near.start] if near else own
    found = min((least_squares(residuals, start, method="lm") for start in starts), key=lambda each: each.cost)
    x, squares = found.x, residuals(found.x) ** 2
    alpha_n, alpha_s = _exponent(x[1]), _exponent(x[3])
    misfit = np.add.reduceat(squares, np.cumsum([0, *counts[:-1]]))
    return _Law(
        float(np.exp(x[4])) if floor else 0.0, float(at_n * np.exp(x[0] / alpha_n)), float(alpha_n),
        float(at_s * np.exp(x[2] / alpha_s)), float(alpha_s), misfit, x,
    )  # fmt: skip


def _exponent(x: float) -> float:
    """An exponent from its coordinate in the search, which keeps it in its range."""
    return LEAST_EXPONENT + (MOST_EXPONENT - LEAST_EXPONENT) * float(expit(x))


def _jackknife(curves: Sequence[_Curve], steps: _Steps) -> list[Interval95]:
    """The numbers of `_Steps.numbers` with intervals from the procedure without each curve in turn."""
    values = steps.numbers()
    if steps.plain is None:
        return [NOT_KNOWN] * len(values)
    count = len(curves)
    without = np.array([_steps([*curves[:k], *curves[k + 1 :]], steps).numbers() for k in range(count)])
    errors = np.sqrt((count - 1) / count * np.sum((without - without.mean(axis=0)) ** 2, axis=0))
    halves = errors * float(stdtrit(count - 1, 0.975))
    return [
        Interval95(float(value), float(value - half), float(value + half)) if math.isfinite(value + half) else NOT_KNOWN
        for value, half in zip(values, halves, strict=True)
    ]


def _forecast_errors(curves: Sequence[_Curve]) -> list[tuple[_Curve, Float[np.ndarray, "points"]]]:
    """Log of predicted over measured loss on the curves of the largest size, by the procedure on all smaller ones."""
    sizes = sorted({curve.n for curve in curves})
    smaller = [curve for curve in curves if curve.n < sizes[-1]] if sizes else []
    steps = _steps(smaller)
    if steps.plain is None or not np.isfinite(steps.numbers()).all():
        return []
    law, found = get_law("openai_sb"), steps.plain
    constants = {
        "N_c": found.n_c, "alpha_N": found.alpha_n, "S_c": found.s_c, "alpha_S": found.alpha_s,
        "B_star": steps.b_star, "alpha_B": steps.alpha_b,
    }  # fmt: skip
    errors = []
    for curve in curves:
        if curve.n == sizes[-1]:
            like = np.ones(len(curve.tokens))
            columns = {"N": curve.n * like, "B": curve.batch * like, "step": curve.tokens / curve.batch}
            errors.append((curve, np.log(np.asarray(law.predict(constants, columns)) / curve.loss)))
    return errors


def _aic_without_floor(steps: _Steps) -> Interval95:
    """AIC without the floor less AIC with it, every curve as one independent row; the interval is over curves."""
    if steps.plain is None or steps.floored is None:
        return NOT_KNOWN
    plain, floored = steps.plain.misfit, steps.floored.misfit
    count = len(plain)
    value = count * math.log(plain.mean() / floored.mean()) - 2.0
    spread = plain / plain.mean() - floored / floored.mean()
    half = math.sqrt(count) * float(spread.std(ddof=1)) * float(stdtrit(count - 1, 0.975))
    return Interval95(value, value - half, value + half)


def _claims(
    curves: Sequence[_Curve],
    contours: Sequence[_Contour],
    steps: _Steps,
    limits: Sequence[Interval95],
    error: Interval95,
) -> tuple[JudgedClaim, ...]:
    power, alpha_b, in_n, alpha_n, alpha_s = limits
    scatters = [
        math.sqrt(sum(_misfits(each, np.ones(1)).min() for each in own) / sum(len(each.batches) - 2 for each in own))
        for n in sorted({each.n for each in contours})
        for own in ([each for each in contours if each.n == n],)
    ]
    scatter = mean_interval(scatters)
    contour = (
        within("the scatter of log steps about the contours", 0.0, SCATTER, scatter.estimate, scatter[1:]),
        Measured("the power of B_crit/B in steps", 1.0, SAME_POWER, *power),
    )
    aic = _aic_without_floor(steps)
    rows = f"{len(contours)} contours of {len({each.n for each in contours})} sizes"
    each_curve = f"{len(curves)} curves"
    judged = (
        ("BS-1", "contours of equal loss follow (S/S_min - 1)(E/E_min - 1) = 1", rows, contour),
        ("BS-2", "the critical batch falls with the loss with alpha_B = 0.205", rows,
         (Measured("alpha_B", ALPHA_B, NEAR_B, *alpha_b),)),
        ("BS-3", "the critical batch depends on the loss alone", rows,
         (Measured("the power of N in B_crit at one loss", 0.0, NO_POWER, *in_n),)),
        ("BS-4", "loss falls with size with alpha_N = 0.076", each_curve,
         (Measured("alpha_N", ALPHA_N, NEAR_N, *alpha_n),)),
        ("BS-5", "loss falls with steps with alpha_S = 0.67", each_curve,
         (Measured("alpha_S", ALPHA_S, NEAR_S, *alpha_s),)),
        ("BS-6", "fitted to the smaller sizes it predicts the curves of the largest", "curves of the largest size",
         (within("mean error of the predicted loss", 0.0, CLOSE, error.estimate, error[1:]),)),
        ("BS-7", "the law needs no floor", each_curve,
         (within("AIC without a floor less that with one", -AIC_MOST, AIC_MARGIN, aic.estimate, aic[1:]),)),
    )  # fmt: skip
    return tuple(JudgedClaim(id_, text, _joint(found), of, found, "") for id_, text, of, found in judged)


def _joint(evidence: Sequence[Measured]) -> Ruling:
    """Agreed with if every number agrees, contradicted if one does."""
    words = {each.ruling for each in evidence}
    return NO if NO in words else YES if words == {YES} else OPEN


def _critical_figure(contours: Sequence[_Contour], steps: _Steps) -> "Figure":
    series = {}
    for n in sorted({each.n for each in contours}):
        own = [each for each in contours if each.n == n]
        series[f"N = {n:,.0f}"] = Series([each.loss for each in own], [_trade_off(each)[0] for each in own])
    if math.isfinite(steps.alpha_b):
        at = np.linspace(min(each.loss for each in contours), max(each.loss for each in contours), 40)
        label = f"$B_*/L^{{1/\\alpha_B}}$, $\\alpha_B$ = {steps.alpha_b:.2f}"
        series[label] = Series(at, steps.b_star * at ** (-1 / steps.alpha_b), line="--", mark="")
    return series_figure(series, "loss of the contour, nats per token", "critical batch, tokens")


def _trajectories_figure(errors: Sequence[tuple[_Curve, np.ndarray]]) -> "Figure":
    series = {
        f"B = {curve.batch:,.0f}": Series(curve.tokens, 100 * np.expm1(error), mark="") for curve, error in errors
    }
    band = (-100 * CLOSE, 100 * CLOSE)
    return series_figure(series, "tokens", "predicted loss above the measured one, %", log_x=True, band=band)


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

    return LossWorld(id_, truth, loss, {f"BS-{number}": word for number, word in enumerate(words, 1)})


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
