"""The exponents of N* ~ C^a and D* ~ C^b from curves of training at a constant rate.

At a constant rate the loss after D tokens does not depend on how much longer a run goes on. So one run a size gives its
loss at every budget that it passes, and the sizes have a profile at each. Errors along a curve go together, which is
why copies with new errors give all points of a curve one of its runs' deviations.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.special import fdtrc, stdtrit

from harness.fit.allocation.lines import regress, student_factor
from harness.fit.allocation.minima import polynomial_minimum, shared_skew
from harness.fit.problem.sizes import FLOPS_PER_PARAMETER_TOKEN
from harness.study.contrasts import Interval95, symmetric
from harness.study.loss_runs import CURVE_TOKENS
from harness.study.methods.many_fits import fit_many, starts_of_sums, sums_of_powers

# The fewest sizes of a profile, budgets of a line, and draws of a size; the share of the copies whose profile has its
# minimum between the sizes, at a budget that is used; and how improbable a misfit is that widens the intervals.
FEWEST_SIZES, FEWEST_LEVELS, FEWEST_DRAWS, INSIDE, MISSED = 4, 3, 2, 0.95, 0.05
COPIES = 300
METHODS = ("profiles", "law")
# Where searches of the law begin (shares of the floor, and powers), the constants that losses of sizes at equal tokens
# fix, and the points between the sizes at which the least loss is searched.
_STARTS, _OF_SIZES, _GRID = ((0.1, 0.2), (0.6, 0.5), (0.95, 0.5), (0.95, 1.0)), 3, 1000


class Readings(NamedTuple):
    """Losses of the sizes at common budgets.

    Attributes:
        flops: the budgets, FLOPs.
        n: the sizes, parameters.
        tokens: those that a size has read at each budget.
        logs: log losses, nats per token, without what all runs of a draw have in common; nan where a size has no
            reading, or lacks a draw.
    """

    flops: Float[np.ndarray, "levels"]
    n: Float[np.ndarray, "sizes"]
    tokens: Float[np.ndarray, "sizes levels"]
    logs: Float[np.ndarray, "sizes draws levels"]

    @property
    def mean(self) -> Float[np.ndarray, "sizes levels"]:
        """The mean log loss over draws; nan where a size has no reading."""
        return _mean(self.logs, 1)


class Optima(NamedTuple):
    """The best sizes at the budgets that have one.

    Attributes:
        flops: those budgets, FLOPs.
        log_n, log_d: logs of the best N and of the D that it has read, as measured and then in every copy with new
            errors; nan in a copy without a minimum between the sizes.
        degrees: the degrees of freedom of the errors.
        wider: the factor by which intervals are wider than the scatter of draws says.
    """

    flops: Float[np.ndarray, "levels"]
    log_n: Float[np.ndarray, "copies levels"]
    log_d: Float[np.ndarray, "copies levels"]
    degrees: int
    wider: float

    def power_of(self, u: float, v: float) -> Interval95:
        """The power of C in N*^u D*^v with its 95 % interval: a for (1, 0), b for (0, 1), a + b for (1, 1)."""
        logs, log_c = u * self.log_n + v * self.log_d, np.log(self.flops)
        _, slopes = regress(log_c - log_c.mean(), logs, np.ones(len(log_c)))
        copies = slopes[1:][np.isfinite(logs[1:]).sum(axis=1) >= FEWEST_LEVELS]
        half = float(stdtrit(self.degrees, 0.975)) * self.wider * float(np.std(copies, ddof=1))
        return symmetric(float(slopes[0]), half)


def read_curves(runs: pd.DataFrame, curve: str, flops: Float[np.ndarray, "levels"], first: float) -> Readings:
    """The losses of runs of one recipe, interpolated in log tokens, at the budgets that their curves pass.

    Args:
        runs: a row a size and draw, with N, D, `draw`, `curve_tokens` and the curve of losses, and, unless C is 6 N D,
            the FLOPs of a token as `per_token`. The curves of a size end at the same tokens.
        curve: the column of the losses, nats per token.
        flops: the budgets.
        first: the tokens from which on curves are read, beyond the warm-up and the first plateau.
    """
    n = np.unique(runs["N"].to_numpy(float))
    draws = np.unique(runs["draw"].to_numpy(int))
    logs = np.full((len(n), len(draws), len(flops)), np.nan)
    tokens = np.full((len(n), len(flops)), np.nan)
    of_token = runs["per_token"] if "per_token" in runs.columns else FLOPS_PER_PARAMETER_TOKEN * runs["N"]
    columns = (runs["N"], runs["draw"], runs["D"], of_token, runs[CURVE_TOKENS], runs[curve])
    for each, draw, whole, per_token, at, losses in zip(*columns, strict=True):
        row, column = np.searchsorted(n, float(each)), np.searchsorted(draws, draw)
        tokens[row] = flops / float(per_token)
        inside = (tokens[row] >= first) & (tokens[row] <= float(whole))
        x, y = np.log(np.asarray(at, float)), np.log(np.asarray(losses, float))
        logs[row, column, inside] = np.interp(np.log(tokens[row, inside]), x, y)
    apart = _mean(logs - _mean(logs, 1)[:, None], (0, 2))
    return Readings(flops, n, tokens, logs - apart[:, None])


def copies_of(readings: Readings, copies: int = COPIES, seed: int = 0) -> Float[np.ndarray, "copies sizes levels"]:
    """The mean log losses, and then copies of them with new errors: a wild bootstrap of whole curves (Wu 1986).

    A copy adds to the mean of a size the deviations of its draws, each times a normal number, scaled to the variance of
    a mean. What runs of a draw have in common has been taken off, which makes deviations of S sizes smaller by the root
    of 1 - 1/S. A size of one draw has no errors of its own.
    """
    counts = _draws(readings)
    off = np.nan_to_num(readings.logs - readings.mean[:, None])
    own = off / np.sqrt(np.maximum(counts * (counts - 1), 1) * (1 - 1 / max(len(counts), 2)))[:, None, None]
    normal = np.random.default_rng(seed).standard_normal((copies, *readings.logs.shape[:2]))
    errors = np.einsum("ksd,sdl->ksl", normal, own)
    return readings.mean + np.concatenate([np.zeros((1, *readings.mean.shape)), errors])


def optima_of_curves(readings: Readings, noisy: Float[np.ndarray, "copies sizes levels"]) -> dict[str, Optima]:
    """The best sizes by `profiles` and by a `law`; without those methods that find too few.

    `profiles` are parabolas of log loss in log N near the lowest loss, with a cubic term that all budgets share. The
    `law` is L = E + A/N^alpha + B/D^beta, fitted to all readings; its least loss at a budget is searched between the
    smallest and the largest size.

    A size that is better or worse than its neighbours in all draws moves the line without any scatter of draws. So
    intervals are wider if sizes miss the fitted law by more than their errors allow (F test at 5 %): by the root of the
    ratio of both variances, and by Student's t for the degrees of freedom of the misfit.

    Args:
        noisy: the log losses and copies of them, as `copies_of` returns them.
    """
    draws = _draws(readings)
    levels = np.isfinite(noisy[0]).sum(axis=0) >= FEWEST_SIZES
    if len(draws) <= FEWEST_SIZES or (draws < FEWEST_DRAWS).any() or levels.sum() < FEWEST_LEVELS:
        return {}
    theta, missed = _fitted_law(readings, noisy)
    offsets = _mean(readings.logs - readings.mean[:, None], 2)
    degrees = int(np.sum(draws - 1)) - readings.logs.shape[1] + 1
    own = float(np.nansum(offsets**2) / degrees * np.mean(1 / draws))
    ratio, of_misfit = missed / own if own > 0 else 0.0, len(draws) - _OF_SIZES
    wide = fdtrc(of_misfit, degrees, ratio) < MISSED
    wider = math.sqrt(ratio) * student_factor(of_misfit) if wide else 1.0
    found = {"profiles": _of_profiles(readings, noisy, levels), "law": _of_law(readings, theta, levels)}
    optima = {}
    for method, (log_n, log_d) in found.items():
        kept = np.isfinite(log_n[0]) & (np.isfinite(log_n).mean(axis=0) >= INSIDE)
        if kept.sum() >= FEWEST_LEVELS:
            optima[method] = Optima(readings.flops[levels][kept], log_n[:, kept], log_d[:, kept], degrees, wider)
    return optima


def _fitted_law(
    readings: Readings, noisy: Float[np.ndarray, "copies sizes levels"]
) -> tuple[Float[np.ndarray, "copies 5"], float]:
    """The law's coordinates for each copy, and the variance of the mean residual of a size."""
    sizes, levels = np.nonzero(np.isfinite(noisy[0]))
    model = sums_of_powers({"n": readings.n[sizes], "d": readings.tokens[sizes, levels]})
    logs = noisy[:, sizes, levels]
    theta = fit_many(model, starts_of_sums(logs[0], 2, _STARTS), logs[:1])
    theta = np.concatenate([theta, fit_many(model, theta.tolist(), logs[1:])])
    left = np.full(noisy[0].shape, np.nan)
    left[sizes, levels] = logs[0] - model(theta[:1])[0]
    return theta, float(np.sum(_mean(left, 1) ** 2)) / (len(readings.n) - _OF_SIZES)


def _of_profiles(
    readings: Readings, noisy: Float[np.ndarray, "copies sizes levels"], levels: Bool[np.ndarray, "levels"]
) -> tuple[Float[np.ndarray, "copies some"], Float[np.ndarray, "copies some"]]:
    """Log N and log D of the minima of the profiles at some levels; nan where there is none between the sizes."""
    rows = [np.flatnonzero(known) for known in np.isfinite(noisy[0]).T[levels]]
    places = zip(rows, np.flatnonzero(levels), strict=True)
    profiles = [(np.log(readings.n[own]), noisy[:, own, level].T) for own, level in places]
    skew = shared_skew(profiles)
    log_n = np.stack([polynomial_minimum(*profile, skew.value)[0] for profile in profiles], axis=1)
    return log_n, _tokens_at(readings, levels, log_n)


def _of_law(
    readings: Readings, theta: Float[np.ndarray, "copies 5"], levels: Bool[np.ndarray, "levels"]
) -> tuple[Float[np.ndarray, "copies some"], Float[np.ndarray, "copies some"]]:
    """Log N and log D of the least loss of the law at some levels; nan where it is at an end of the sizes."""
    sizes, at = np.nonzero(np.isfinite(readings.mean))
    middle_n, middle_d = np.log(readings.n[sizes]).mean(), np.log(readings.tokens[sizes, at]).mean()
    log_n = np.linspace(np.log(readings.n[0]), np.log(readings.n[-1]), _GRID)
    best = np.full((len(theta), int(levels.sum())), np.nan)
    log_a, alpha, log_b, beta = theta[:, 1:2], np.exp(theta[:, 2:3]), theta[:, 3:4], np.exp(theta[:, 4:5])
    for place, level in enumerate(np.flatnonzero(levels)):
        log_d = np.interp(log_n, np.log(readings.n), np.log(readings.tokens[:, level]))
        above = np.exp(log_a - alpha * (log_n - middle_n)) + np.exp(log_b - beta * (log_d - middle_d))
        least = above.argmin(axis=1)
        best[:, place] = np.where((least > 0) & (least < _GRID - 1), log_n[least], np.nan)
    return best, _tokens_at(readings, levels, best)


def _tokens_at(
    readings: Readings, levels: Bool[np.ndarray, "levels"], log_n: Float[np.ndarray, "copies some"]
) -> Float[np.ndarray, "copies some"]:
    """Log D of sizes at some levels: the FLOPs of a token are interpolated between the sizes."""
    sizes = np.log(readings.n)
    of_levels = np.log(readings.tokens[:, levels]).T
    return np.stack([np.interp(own, sizes, log_d) for own, log_d in zip(log_n.T, of_levels, strict=True)], axis=1)


def _draws(readings: Readings) -> Int[np.ndarray, "sizes"]:
    """How many draws each size has."""
    return np.isfinite(readings.logs).any(axis=2).sum(axis=1)


def _mean(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """The mean of what is known along axes; nan where nothing is."""
    known = np.isfinite(values)
    counts = known.sum(axis=axis)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, np.where(known, values, 0.0).sum(axis=axis) / np.maximum(counts, 1), np.nan)
