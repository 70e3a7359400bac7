"""OpenAI's law of loss by size, steps and batch, fitted in steps: contours of equal loss, critical batches, the law.

The procedure is that of Kaplan et al. 2020 (arXiv 2001.08361) and Su et al. 2024 (arXiv 2403.06563): first the critical
batch at each loss, then the steps that a batch without bound would need, then the law of size.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.special import expit, stdtrit

from harness.fit.laws.registry import get_law
from harness.study.contrasts import NOT_KNOWN, Interval95, log_ratio, symmetric
from harness.study.loss_runs import CURVE_LOSS, CURVE_TOKENS
from harness.study.methods.trade_offs import smooth_curve, tokens_to

# A curve begins after so many tokens and so many steps; before, it is no power law.
FIRST_TOKENS, FIRST_STEPS = 2**16, 16
# Contours are at these losses (nats per token), where at least so many batches reach them.
LEVELS = tuple(3.4 * 0.95**step for step in range(16))
FEWEST_BATCHES, FEWEST_CONTOURS, FEWEST_SIZES = 6, 4, 3
# The powers of B_crit/B that are tried, and the critical batches in tokens.
POWERS, BATCHES = np.linspace(0.4, 1.8, 29), np.geomspace(20, 4e5, 161)
# The range of the exponents of the law of size; one at an end is not known.
LEAST_EXPONENT, MOST_EXPONENT = 0.005, 3.0


class BatchCurve(NamedTuple):
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


class LossContour(NamedTuple):
    """Steps to one loss by batch, for one size."""

    n: float
    loss: float
    batches: Float[np.ndarray, "batches"]
    steps: Float[np.ndarray, "batches"]


class SizeLaw(NamedTuple):
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


class StepwiseFit(NamedTuple):
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
    plain: SizeLaw | None
    floored: SizeLaw | None

    def numbers(self) -> Float[np.ndarray, "5"]:
        """The power of the contours, alpha_B, the power of N, alpha_N, alpha_S."""
        found = (self.plain.alpha_n, self.plain.alpha_s) if self.plain else (math.nan, math.nan)
        exponents = (value if LEAST_EXPONENT + 1e-3 < value < MOST_EXPONENT else math.nan for value in found)
        return np.array([self.power, self.alpha_b, self.in_n, *exponents])


_UNKNOWN = StepwiseFit(math.nan, math.nan, math.nan, math.nan, math.nan, None, None)


def batch_curves(ended: pd.DataFrame) -> list[BatchCurve]:
    """The curve of every size and batch whose evaluations suffice: at each of them the least loss over the rates."""
    found = []
    for _, own in ended.groupby(["N_nonembedding", "batch_tokens"]):
        n, batch = float(own["N_nonembedding"].iloc[0]), float(own["batch_tokens"].iloc[0])
        longest = max(own[CURVE_TOKENS], key=len)
        whole = [loss for tokens, loss in zip(own[CURVE_TOKENS], own[CURVE_LOSS], strict=True)
                 if np.array_equal(tokens, longest)]  # fmt: skip
        tokens, loss = np.asarray(longest, float), np.min([np.asarray(each, float) for each in whole], axis=0)
        first = max(FIRST_TOKENS, FIRST_STEPS * batch)
        curve = smooth_curve(tokens, loss, first)
        if curve is not None:
            steps = np.array([tokens_to(curve, tokens[-1], level) for level in np.log(LEVELS)]) / batch
            found.append(BatchCurve(n, batch, tokens[tokens >= first], loss[tokens >= first], steps))
    return found


def loss_contours(curves: Sequence[BatchCurve]) -> list[LossContour]:
    """The contours that at least FEWEST_BATCHES batches of a size reach."""
    found = []
    for n in sorted({curve.n for curve in curves}):
        own = [curve for curve in curves if curve.n == n]
        batches, steps = np.array([curve.batch for curve in own]), np.array([curve.steps for curve in own])
        for loss, of_batch in zip(LEVELS, steps.T, strict=True):
            reached = np.isfinite(of_batch)
            if reached.sum() >= FEWEST_BATCHES:
                found.append(LossContour(n, loss, batches[reached], of_batch[reached]))
    return found


def contour_misfits(contour: LossContour, powers: Float[np.ndarray, "powers"]) -> Float[np.ndarray, "powers batches"]:
    """The sum of squares of log S about log S_min + log(1 + (b/B)^power), by power and b; S_min is the best."""
    shape = np.log1p((BATCHES[:, None] / contour.batches) ** powers[:, None, None])
    residuals = np.log(contour.steps) - shape
    return np.sum((residuals - residuals.mean(axis=-1, keepdims=True)) ** 2, axis=-1)


def contour_optimum(contour: LossContour) -> tuple[float, float]:
    """The critical batch of a contour of power 1, and its S_min."""
    (squares,) = contour_misfits(contour, np.ones(1))
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


def fit_stepwise(curves: Sequence[BatchCurve], near: StepwiseFit | None = None) -> StepwiseFit:
    """The stepwise procedure: contours, the critical batch by loss, S_min, the law of size.

    Near the result for other curves the law of size is searched from there, and only without a floor.
    """
    contours = loss_contours(curves)
    sizes = {contour.n for contour in contours}
    if len(contours) < FEWEST_CONTOURS or len(sizes) < FEWEST_SIZES:
        return _UNKNOWN
    squares = np.sum([contour_misfits(each, POWERS).min(axis=1) for each in contours], axis=0)
    place = int(squares.argmin())
    power = POWERS[place] + _vertex(squares, place) * (POWERS[1] - POWERS[0])
    critical = np.array([contour_optimum(each)[0] for each in contours])
    degrees = sum(len(each.batches) - 2 for each in contours)
    residuals = sum(contour_misfits(each, np.ones(1)).min() for each in contours)
    loss, n = (np.log([getattr(each, name) for each in contours]) for name in ("loss", "n"))
    ones = np.ones(len(loss))
    level, slope = np.linalg.lstsq(np.column_stack([ones, loss]), np.log(critical), rcond=None)[0]
    in_n = np.linalg.lstsq(np.column_stack([ones, loss, n]), np.log(critical), rcond=None)[0][2]
    plain = _law_of_size(curves, math.exp(level), -slope, False, near.plain if near else None)
    floored = None if near else _law_of_size(curves, math.exp(level), -slope, True)
    return StepwiseFit(
        float(power), math.sqrt(residuals / degrees), math.exp(level), -1 / slope, float(in_n), plain, floored
    )


def _law_of_size(
    curves: Sequence[BatchCurve], b_star: float, in_loss: float, floor: bool, near: SizeLaw | None = None
) -> SizeLaw:
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
    return SizeLaw(
        float(np.exp(x[4])) if floor else 0.0, float(at_n * np.exp(x[0] / alpha_n)), float(alpha_n),
        float(at_s * np.exp(x[2] / alpha_s)), float(alpha_s), misfit, x,
    )  # fmt: skip


def _exponent(x: float) -> float:
    """An exponent from its coordinate in the search, which keeps it in its range."""
    return LEAST_EXPONENT + (MOST_EXPONENT - LEAST_EXPONENT) * float(expit(x))


def jackknife_numbers(curves: Sequence[BatchCurve], steps: StepwiseFit) -> list[Interval95]:
    """The numbers of `StepwiseFit.numbers` with intervals from the procedure without each curve in turn."""
    values = steps.numbers()
    if steps.plain is None:
        return [NOT_KNOWN] * len(values)
    count = len(curves)
    without = np.array([fit_stepwise([*curves[:k], *curves[k + 1 :]], steps).numbers() for k in range(count)])
    errors = np.sqrt((count - 1) / count * np.sum((without - without.mean(axis=0)) ** 2, axis=0))
    halves = errors * float(stdtrit(count - 1, 0.975))
    return [
        symmetric(value, half) if math.isfinite(value + half) else NOT_KNOWN
        for value, half in zip(values, halves, strict=True)
    ]


def errors_on_largest(curves: Sequence[BatchCurve]) -> list[tuple[BatchCurve, Float[np.ndarray, "points"]]]:
    """Log of predicted over measured loss on the curves of the largest size, by the procedure on all smaller ones."""
    sizes = sorted({curve.n for curve in curves})
    smaller = [curve for curve in curves if curve.n < sizes[-1]] if sizes else []
    steps = fit_stepwise(smaller)
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


def aic_without_floor(steps: StepwiseFit) -> Interval95:
    """AIC without the floor less AIC with it, every curve as one independent row; the interval is over curves."""
    if steps.plain is None or steps.floored is None:
        return NOT_KNOWN
    plain, floored = steps.plain.misfit, steps.floored.misfit
    return Interval95(*(None if each is None else len(plain) * each - 2.0 for each in log_ratio(plain, floored)))
