"""The law `routed` of Clark et al. 2022 (arXiv 2202.01169) fitted to many versions of the same losses at once."""

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from harness.fit.compare import aicc_of_squares
from harness.fit.laws.mixtures_of_experts import saturated_experts

# Where X at E = 1 and in the limit of many experts are searched: the ranges of the law `routed`.
_STARTS, _LIMITS = np.geomspace(0.1, 15.0, 41), np.geomspace(20.0, 1e6, 31)
# The law's constants and the variance of its residuals.
_CONSTANTS = 7

_Rows = Float[np.ndarray, "rows"]
_Losses = Float[np.ndarray, "copies rows"]
_Copies = Float[np.ndarray, "copies"]


class RoutedFits(NamedTuple):
    """One fit for every copy.

    Attributes:
        constants: a, b, c, d, E_start and E_max of the law.
        squares: the sums of squared residuals of log10 L.
    """

    constants: Mapping[str, _Copies]
    squares: _Copies

    def log10_loss(self, n: _Rows, experts: _Rows) -> _Losses:
        """log10 L at base sizes n and numbers of experts."""
        p = {name: value[:, None] for name, value in self.constants.items()}
        x, log_n = np.log10(saturated_experts(experts - 1.0, p["E_start"], p["E_max"])), np.log10(n)
        return p["a"] * log_n + p["b"] * x + p["c"] * log_n * x + p["d"]


def fit_routed(n: _Rows, experts: _Rows, logs: _Losses, bilinear: bool = True) -> RoutedFits:
    """The law by least squares of the logs, of every row of `logs`; with c = 0 if not `bilinear`.

    At given E_start and E_max the law is linear in the other constants, so that these are solved on a grid of the two.

    Args:
        n: parameters of the dense base model.
        experts: E, 1 for a dense model.
        logs: natural logs of the losses.
    """
    pairs = np.array(list(itertools.product(_STARTS, _LIMITS)))
    x = np.log10(saturated_experts(experts[None] - 1.0, pairs[:, :1], pairs[:, 1:]))
    log_n = np.broadcast_to(np.log10(n), x.shape)
    columns = np.stack([np.ones_like(x), log_n, x, *([log_n * x] if bilinear else [])], axis=-1)
    q, r = np.linalg.qr(columns)
    y = logs / math.log(10.0)
    along = np.einsum("grk,cr->gck", q, y)
    best = np.sum(along**2, axis=-1).argmax(axis=0)
    solved = np.linalg.solve(r[best], along[best, np.arange(len(logs))][..., None])[..., 0]
    residuals = y - np.einsum("crk,ck->cr", columns[best], solved)
    d, a, b = solved.T[:3]
    constants = {"a": a, "b": b, "c": solved[:, 3] if bilinear else np.zeros_like(a), "d": d}
    constants |= {"E_start": pairs[best, 0], "E_max": pairs[best, 1]}
    return RoutedFits(constants, np.sum(residuals**2, axis=1))


def bilinear_gain(n: _Rows, experts: _Rows, logs: _Losses) -> _Copies:
    """AICc of the law with c = 0 less that of the law."""
    with_c, without = (fit_routed(n, experts, logs, bilinear).squares for bilinear in (True, False))
    return np.array(
        [
            aicc_of_squares(own, _CONSTANTS - 1, len(n)) - aicc_of_squares(best, _CONSTANTS, len(n))
            for own, best in zip(without, with_c, strict=True)
        ]
    )


def left_out_squares(n: _Rows, experts: _Rows, logs: _Losses) -> _Copies:
    """The mean square of the errors, in nats, of losses at an E that the law was fitted without.

    Each E but the least and the largest is left out in turn; nan where there is no other.
    """
    off = []
    for left in np.unique(experts)[1:-1]:
        out = experts == left
        fitted = fit_routed(n[~out], experts[~out], logs[:, ~out])
        off.append(10.0 ** fitted.log10_loss(n[out], experts[out]) - np.exp(logs[:, out]))
    return np.mean(np.concatenate(off, axis=1) ** 2, axis=1) if off else np.full(len(logs), np.nan)


def size_at(logs: _Rows, n: Float[np.ndarray, "sizes"], of_sizes: Float[np.ndarray, "sizes"]) -> _Rows:
    """The log of the size at which a curve has each log loss, between its points; nan beyond them.

    Args:
        n, of_sizes: sizes and their log losses. A loss that is above that of a smaller size counts as that one.
    """
    order = np.argsort(n)
    falling = np.minimum.accumulate(of_sizes[order])
    return np.interp(-logs, -falling, np.log(n[order]), left=np.nan, right=np.nan)
