"""Steps and batches at one loss: how they trade off, the critical batch, and how it grows with N and D.

At one loss the steps S at a batch of B tokens follow S = S_min + E_min/B, and B_crit = E_min/S_min is the batch at
which tokens and steps are both twice their least (McCandlish et al. 2018, arXiv 1812.06162).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import fminbound
from scipy.special import stdtrit

from harness.study.contrasts import Interval95, symmetric

# Evaluations from here on make the curve of a run, a cubic of log loss in log tokens; before, it is no power law.
FIRST, FEWEST_POINTS = 2**15, 8


class Critical(NamedTuple):
    """The trade-off at one target.

    Attributes:
        n, tokens: parameters without embeddings, and the tokens that define the target.
        loss: the target, nats per token.
        batches, steps: the batches that reached it, and their least steps over the rates, in the order of batches.
        s_min, e_min: the constants of the law; b_crit with its 95 % interval is e_min/s_min. nan where unknown.
    """

    n: float
    tokens: int
    loss: float
    batches: Float[np.ndarray, "batches"]
    steps: Float[np.ndarray, "batches"]
    s_min: float
    e_min: float
    b_crit: float
    low: float
    high: float

    @property
    def residuals(self) -> Float[np.ndarray, "batches"]:
        """Log steps less the log of the law's."""
        return np.log(self.steps) - np.log(self.s_min + self.e_min / self.batches)


class Growth(NamedTuple):
    """The fit log B_crit = c + p log N + q log D: the powers (p, q), their covariance, and its degrees of freedom.

    `level` is log B_crit at the means `middle` of log N and log D.
    """

    level: float
    middle: Float[np.ndarray, "2"]
    powers: Float[np.ndarray, "2"]
    covariance: Float[np.ndarray, "2 2"]
    degrees: int

    def along(self, weights: tuple[float, float]) -> Interval95:
        """A combination of p and q with its 95 % interval."""
        at = np.asarray(weights)
        value, half = float(at @ self.powers), math.sqrt(float(at @ self.covariance @ at))
        half *= float(stdtrit(self.degrees, 0.975))
        return symmetric(value, half)

    def b_crit(self, n: float, tokens: float) -> float:
        """The critical batch of the fit, in tokens."""
        return math.exp(self.level + float(self.powers @ (np.log([n, tokens]) - self.middle)))


def smooth_curve(
    tokens: Float[np.ndarray, "points"], loss: Float[np.ndarray, "points"], first: float = FIRST
) -> np.polynomial.Polynomial | None:
    """Log loss as a cubic in log tokens, from `first` tokens on; None for a run of too few evaluations there."""
    kept = tokens >= first
    if kept.sum() < FEWEST_POINTS:
        return None
    return np.polynomial.Polynomial.fit(np.log(tokens[kept]), np.log(loss[kept]), 3)


def tokens_to(curve: np.polynomial.Polynomial, end: float, target: float) -> float:
    """The tokens at which a smoothed curve first falls to a log loss; infinite if it does not."""
    at = np.linspace(float(curve.domain[0]), math.log(end), 400)  # the polynomial's domain begins where it was fitted
    below = curve(at) <= target
    if not below.any() or below[0]:
        return math.inf
    place = int(below.argmax())
    before, after = curve(at[place - 1]), curve(at[place])
    share = (before - target) / (before - after)
    return math.exp(at[place - 1] + share * (at[place] - at[place - 1]))


def trade_offs(own: pd.DataFrame, targets: Sequence[int], fewest: int) -> list[Critical]:
    """The trade-offs of one size at the targets that its smallest batch reached in every draw.

    A target is the loss that the smallest batch reaches after so many tokens, at the rate that is best there. A batch's
    steps are the least over the rates, and the geometric mean over the draws; all of them must have reached the target.

    Args:
        own: the runs of a size, with `curve` as of `smooth_curve`.
        fewest: a target that fewer batches reached has no critical batch.
    """
    own = own.loc[own["curve"].notna()]
    found = []
    for tokens in targets:
        losses, logs = [], []
        for _, draw in own.groupby("draw"):
            target, steps = _steps_to(draw, tokens)
            losses.append(target)
            logs.append({batch: math.log(least) for batch, least in steps.items()})
        if not losses or not all(map(math.isfinite, losses)):
            continue
        batches = sorted(set.intersection(*map(set, logs)))
        steps = np.exp([np.mean([each[batch] for each in logs]) for batch in batches])
        loss = math.exp(float(np.mean(losses)))
        found.append(_fitted(float(own["N"].iloc[0]), tokens, loss, np.array(batches, float), steps, fewest))
    return found


def _steps_to(runs: pd.DataFrame, tokens: int) -> tuple[float, dict[int, float]]:
    """The log loss of the smallest batch after so many tokens, nan if it has none, and batch -> least steps to it."""
    smallest = runs["batch_tokens"] == runs["batch_tokens"].min()
    long = runs.loc[smallest & (runs["D"] >= tokens), "curve"]
    target = min((float(curve(math.log(tokens))) for curve in long), default=math.nan)
    best: dict[int, float] = {}
    for curve, end, batch in zip(runs["curve"], runs["D"], runs["batch_tokens"], strict=True):
        if math.isfinite(steps := tokens_to(curve, end, target) / batch):
            best[batch] = min(best.get(batch, math.inf), steps)
    return target, best


def _fitted(
    n: float,
    tokens: int,
    loss: float,
    batches: Float[np.ndarray, "batches"],
    steps: Float[np.ndarray, "batches"],
    fewest: int,
) -> Critical:
    """Fit log steps by least squares: of one constant, b_crit, since the level of log steps at each is a mean."""
    unknown = Critical(n, tokens, loss, batches, steps, *[math.nan] * 5)
    degrees = len(batches) - 2
    if len(batches) < fewest or degrees < 1:
        return unknown
    logs = np.log(steps)

    def residuals(log_ratio: float) -> Float[np.ndarray, "batches"]:
        left = logs - np.log1p(math.exp(log_ratio) / batches)
        return left - left.mean()

    def squares(log_ratio: float) -> float:
        return float(np.sum(residuals(log_ratio) ** 2))

    least, most = math.log(batches[0]) - 5, math.log(batches[-1]) + 5
    best = float(np.asarray(fminbound(squares, least, most, xtol=1e-9)))
    ratio = math.exp(best)
    slope = (ratio / batches) / (1 + ratio / batches)
    error = math.sqrt(squares(best) / degrees / float(np.sum((slope - slope.mean()) ** 2)))
    half = float(stdtrit(degrees, 0.975)) * error * ratio
    if half >= ratio:
        return unknown
    s_min = math.exp(float(np.mean(logs - np.log1p(ratio / batches))))
    return Critical(n, tokens, loss, batches, steps, s_min, s_min * ratio, ratio, ratio - half, ratio + half)


def fit_growth(
    sizes: Float[np.ndarray, "targets"], tokens: Float[np.ndarray, "targets"], batches: Float[np.ndarray, "targets"]
) -> Growth | None:
    """Least squares of log B_crit in log N and log D; errors from the scatter. None for too few targets.

    Targets of one size are points of the same curves, so that their errors go together: the covariance has a part that
    a size's points share, estimated from the residuals' means over sizes, and never counts as less than their scatter.
    """
    n, d = np.log(sizes), np.log(tokens)
    if len(n) < 6 or len(np.unique(n)) < 3 or len(np.unique(d)) < 2:
        return None
    design = np.column_stack([np.ones(len(n)), n - n.mean(), d - d.mean()])
    logs = np.log(batches)
    inverse = np.linalg.inv(design.T @ design)
    residuals = logs - design @ (inverse @ design.T @ logs)
    groups = np.unique(n, return_inverse=True)[1]
    counts = np.bincount(groups)
    degrees = len(logs) - 3
    variance = float(residuals @ residuals) / degrees
    means = np.bincount(groups, residuals) / counts
    between = max(0.0, float(np.sum(means**2)) / max(len(counts) - 2, 1) - variance / float(counts.mean()))
    covariance = variance * np.eye(len(logs)) + between * (groups[:, None] == groups[None, :])
    spread = inverse @ design.T @ covariance @ design @ inverse
    spare = len(counts) - 2 if between > 0 else degrees
    level, *powers = inverse @ design.T @ logs
    return Growth(float(level), np.array([n.mean(), d.mean()]), np.array(powers), spread[1:, 1:], spare)
