"""Bound on the loss of the best learner of given width on given data, and the best split of compute between the two.

Jeon and Van Roy, Information-Theoretic Foundations for Neural Scaling Laws (arXiv 2407.01456). X ~ N(0, I_d),
P(Y = 1 | X) = sigmoid F(X), where F is a two-layer ReLU network of infinite width (`harness.theory.teacher`); K says
how many neurons matter. The learner's network has n neurons, p = d n parameters; training on T samples costs
C = d n T. The excess log-loss, averaged over the stream, is at most (by theorem 3.1, I/T + KL)

    [1 + K ln(1 + (n-1)/K)] [ln(2n) + (d/2) ln(9/eps^2)] / T + K/(8n) + (eps^2/4) (1 + (K+1)/n),  eps^2 = min(1, K/n)

nats: what the learner must find out, per sample, and what its width cannot express. The structure is the paper's, the
constants are of our own derivation. First bracket: the mean number of distinct neurons among n draws from the teacher,
at most n. Second bracket: nats that tell a neuron's sign, multiplicity and place in an eps-net of the sphere, which
has (3/eps)^d points. The other terms: the KL of two Bernoullis is at most (difference of logits)^2/8; drawing n neurons
costs K/(2n) of squared logit, rounding them to the net at most eps^2 (1 + (K+1)/n), and (a + b)^2 <= 2a^2 + 2b^2.

Regime: an upper bound for every n, T >= 1, exact as a formula; not a claim that a learner attains it. At the optimum p
and T are of order sqrt(C) up to logarithms only: the slope of ln T* on ln p* tends to 1 from above (1.39 at
C = 1e10..1e12, 1.09 at 1e24..1e30 with d = 10, K = 100).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.known_truth import Truth
from harness.theory.minimum import argmin
from harness.theory.simulated_runs import check_settings, runs_like
from sweeps.errors import InputError

_Numbers = Float[np.ndarray, "*rows"] | float

# Points of the grid in ln n on [0, ln(C/d)]. The bound has a single minimum there, in a valley much wider than a step.
_WIDTHS_TRIED = 400


@dataclass(frozen=True)
class BestSplit:
    """The best split of each budget; every field has the shape of the budgets.

    Attributes:
        n, T, p: width, samples, and parameters d n; all continuous.
        L: the bound at the best split, nats per sample.
    """

    n: Float[np.ndarray, "*budgets"]
    T: Float[np.ndarray, "*budgets"]
    p: Float[np.ndarray, "*budgets"]
    L: Float[np.ndarray, "*budgets"]


def estimation(n: _Numbers, T: _Numbers, d: int, K: float) -> Float[np.ndarray, "*rows"]:
    """First term of the module's bound, nats per sample: what the data leave unknown. n and T broadcast."""
    n = np.asarray(n, float)
    atoms = np.minimum(1.0 + K * np.log1p((n - 1.0) / K), n)
    nats = np.log(2.0 * n) + d / 2 * np.log(9.0 / _squared_eps(n, K))
    return atoms * nats / np.asarray(T)


def misspecification(n: _Numbers, K: float) -> Float[np.ndarray, "*rows"]:
    """The other terms of the module's bound, nats per sample, the same for every d: what the width cannot express."""
    n = np.asarray(n, float)
    return K / (8.0 * n) + _squared_eps(n, K) / 4.0 * (1.0 + (K + 1.0) / n)


def bound(n: _Numbers, T: _Numbers, d: int, K: float) -> Float[np.ndarray, "*rows"]:
    """The module's bound, nats per sample, for widths n >= 1, T samples (the two broadcast) and d inputs."""
    return estimation(n, T, d, K) + misspecification(n, K)


def _squared_eps(n: Float[np.ndarray, "*rows"], K: float) -> Float[np.ndarray, "*rows"]:
    return np.minimum(1.0, K / n)


def best_split(C: _Numbers, d: int = 10, K: float = 100.0) -> BestSplit:
    """The width with the lowest bound at d n T = C.

    Raises InputError for d below 1, K not positive, or a budget below 100 d, too small for one sample of 100 neurons.
    """
    budgets = np.asarray(C, float)
    check_teacher("simulate jeon_van_roy", d, K)
    if budgets.size == 0 or not np.all((budgets >= 100.0 * d) & np.isfinite(budgets)):
        raise InputError("simulate jeon_van_roy", "--budgets", budgets.tolist(), f"FLOPs of at least 100 d = {100 * d}")
    most = np.log(budgets / d)

    def at(log_n: Float[np.ndarray, "*budgets"]) -> Float[np.ndarray, "*budgets"]:
        return bound(np.exp(log_n), budgets / (d * np.exp(log_n)), d, K)

    n = np.exp(argmin(at, np.zeros_like(most), most, _WIDTHS_TRIED))
    T = budgets / (d * n)
    return BestSplit(n, T, d * n, bound(n, T, d, K))


def check_teacher(command: str, d: int, K: float, most: float = 1e9) -> None:
    """Raise InputError for a teacher without inputs, or with a scale K that is not positive or above `most`."""
    check_settings(
        command,
        ("--d", d, d >= 1, "a dimension of at least 1"),
        ("--K", K, 0.0 < K <= most, f"a scale above 0, of {most:g} at most"),
    )


def local_slope(x: Float[np.ndarray, "rows"], y: Float[np.ndarray, "rows"]) -> Float[np.ndarray, "rows-1"]:
    """The slopes d ln y/d ln x between neighbouring points."""
    return np.diff(np.log(y)) / np.diff(np.log(x))


def simulate_bound(
    budgets: Sequence[float] = (1e6, 1e8, 1e10, 1e12, 1e14, 1e16, 1e18, 1e20),
    widths: int = 25,
    d: int = 10,
    K: float = 100.0,
) -> tuple[pd.DataFrame, Truth]:
    """Curves of equal compute and their optima.

    Args:
        budgets: d n T of each curve, in increasing order.
        widths: points per curve, spaced evenly in ln n from a 30th of the best width to 30 times it, where that leaves
            at least one neuron and one sample.

    Returns:
        table: one row per point, `kind` "curve" or "optimum"; N = d n, D = T, flops = d n T; the loss is the bound,
            nats per sample; n, T, and the bound's two parts `estimation` and `misspecification`.
        truth: E = 0 and exponents of 1 up to logarithms (see the module).

    Raises:
        InputError: see `best_split`; budgets that do not increase; fewer than 3 widths.
    """
    C = np.asarray(budgets, float)
    best = best_split(C, d, K)
    check_settings(
        "simulate jeon_van_roy",
        ("--budgets", list(budgets), bool(np.all(np.diff(C) > 0.0)), "budgets in increasing order"),
        ("widths", widths, widths >= 3, "at least 3 points a curve"),
    )
    low, high = np.maximum(best.n / 30.0, 1.0), np.minimum(best.n * 30.0, C / d)
    curves = np.exp(np.linspace(np.log(low), np.log(high), widths, axis=1))
    n = np.concatenate([curves.ravel(), best.n])
    flops = np.concatenate([np.repeat(C, widths), C])
    T = flops / (d * n)
    unknown, inexpressible = estimation(n, T, d, K), misspecification(n, K)
    kind = ["curve"] * curves.size + ["optimum"] * len(C)
    more = {"n": n, "T": T, "kind": kind, "estimation": unknown, "misspecification": inexpressible}
    table = runs_like("jeon_van_roy", d * n, T, flops=flops, loss=unknown + inexpressible, **more)
    slopes = ", ".join(f"{slope:.3f}" for slope in local_slope(best.p, best.T))
    return table, Truth(
        oracle="jeon_van_roy",
        regime="An upper bound of the best learner's excess log-loss, nats a sample, averaged over the stream; exact "
        "as a formula. Its exponents are 1 up to logarithms only: at the optima the slope of ln T* on ln p* tends to 1 "
        f"from above, between the budgets of this table {slopes or '(one budget)'}.",
        law="chinchilla",
        parameters={"E": 0.0, "alpha": 1.0, "beta": 1.0},
        settings={"d": d, "K": K, "widths": widths, "budgets": " ".join(f"{budget:g}" for budget in C)},
        cost="under 0.1 s on a CPU: a formula",
    )
