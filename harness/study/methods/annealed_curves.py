"""The law of annealing of Tissue et al. 2024 (arXiv 2408.11029), fitted to the curves of runs by least squares.

`lr_anneal` of the table of laws is the same law, for series whose rates are known at their rows. Here the sums are
those over every step, C may be negative, and a fit takes milliseconds.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from harness.study.methods.rate_traces import RateSums, rate_sums

# Where the searches of the memory, in steps, and of alpha begin.
_MEMORIES, _ALPHAS = np.geomspace(10, 3000, 12), np.geomspace(0.03, 3, 20)


class AnnealedCurve(NamedTuple):
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


class AnnealingFit(NamedTuple):
    """The law as fitted: L = L0 + A S1^-alpha - C S2; `squares` is the sum of squared relative residuals."""

    decay: float
    alpha: float
    constants: np.ndarray
    squares: float

    def errors(self, curve: AnnealedCurve) -> Float[np.ndarray, "points+1"]:
        """The log of the law's loss less that of the measured one, on the curve, and at last of the final loss."""
        s1, s2 = curve.sums(self.decay)
        found = _terms(s1, s2, self.alpha)[:, : len(self.constants)] @ self.constants
        with np.errstate(invalid="ignore"):
            return np.log(found) - np.log(np.append(curve.loss, curve.last))

    def gain(self, curve: AnnealedCurve) -> float:
        """What S2 takes off the final loss of a run, as a share of it."""
        return float(self.constants[2] * curve.sums(self.decay).s2[-1] / curve.last)


def fit_annealing(curves: Sequence[AnnealedCurve], decay: float | None, *, anneals: bool = True) -> AnnealingFit:
    """Least squares of the relative errors. The law is linear in all but alpha and the memory, which are searched.

    Args:
        decay: of the momentum of S2; None to fit it.
        anneals: whether the law has the term of S2. Its constant C may come out below zero.
    """
    if decay is None:
        return _least(lambda memory: fit_annealing(curves, 1 - 1 / memory), _MEMORIES)
    sums = [curve.sums(decay) for curve in curves]
    s1, s2 = (np.concatenate([each[which][:-1] for each in sums]) for which in (0, 1))
    loss = np.concatenate([curve.loss for curve in curves])

    def solved(alpha: float) -> AnnealingFit:
        relative = _terms(s1, s2, alpha)[:, : 3 if anneals else 2] / loss[:, None]
        constants = np.linalg.lstsq(relative, np.ones(len(loss)), rcond=None)[0]
        return AnnealingFit(decay, alpha, constants, float(np.sum((relative @ constants - 1) ** 2)))

    return _least(solved, _ALPHAS)


def _least(fitted: Callable[[float], AnnealingFit], values: np.ndarray) -> AnnealingFit:
    """The best fit over a constant: the best of some rising values, and then about it, to 2 %."""
    best = int(np.argmin([fitted(value).squares for value in values]))
    ends = (math.log(values[max(best - 1, 0)]), math.log(values[min(best + 1, len(values) - 1)]))
    found: Any = minimize_scalar(
        lambda log: fitted(math.exp(log)).squares, bounds=ends, method="bounded", options={"xatol": 0.02}
    )
    return fitted(math.exp(float(found.x)))


def _terms(s1: np.ndarray, s2: np.ndarray, alpha: float) -> np.ndarray:
    return np.stack([np.ones_like(s1), s1**-alpha, -s2], axis=1)
