"""Power-law random features by one-pass SGD: the 4 + 3 phases of Paquette et al. 2024 (arXiv 2405.15074).

Data x_j = j^-alpha z_j, z ~ N(0, I_v), targets <x, b> with b_j = j^-beta; the student <W^T x, theta>, W (v x d) with
iid entries N(0, 1/d), is trained from 0 on fresh batches by theta <- theta - gamma mean((prediction - target) W^T x).
The risk is the expected squared error, in no unit. d parameters, r steps of B samples, f = d r B FLOPs.

Regime: `risk` is the exact expectation over the samples for one draw of W, by the closed recursion of Gaussian data, at
any number of steps. `expected_risk` is its limit of large d without a draw, exact in the step too (no limit of small
steps): within 2 to 6 % of the mean over draws at d = 32..512, nearer at larger d. Exponents of `phase` are of
d -> infinity and proven there except for alpha < 1/4; the envelope's own slope is 8 to 14 % flatter at d <= 512. One
pass over the data: no gap between training and test data, by construction.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.interpolate import CubicSpline

from harness.fit.truth import Truth
from harness.theory import resolvent
from harness.theory.oracle import runs_like
from harness.theory.spectrum import Spectrum, power_law
from sweeps.errors import InputError

# The contour of `expected_risk` must fit between the logs of the recursion's rates and +-i pi.
LEAST_STEPS = 32


@dataclass(frozen=True)
class Phase:
    """Compute-optimal exponents.

    Attributes:
        name: Ia, Ib, Ic, II, III, IVa or IVb.
        terms: the two parts of the risk that are equal at the optimum.
        size: of the best number of parameters, d* ~ f^size.
        loss: of its risk, P* ~ f^-loss.
        floor: of the risk after infinitely many steps, F_0 ~ d^-floor.
    """

    name: str
    terms: tuple[str, str]
    size: float
    loss: float
    floor: float


def phase(alpha: float, beta: float) -> Phase | None:
    """The phase of a point, None where 2 (alpha + beta) <= 1 (infinite risk at v = infinity); a point on a border
    belongs to the phase of larger alpha, or smaller beta. Table 2 of arXiv 2405.15074.
    """
    a, b = alpha, beta
    excess = 2 * a + 2 * b - 1
    if excess <= 0 or a <= 0:
        return None
    floor = 2 * a - max(0.0, 1 - 2 * b)
    if 2 * b <= 1:
        if 2 * a >= 1:
            return Phase("Ia", ("F_pp", "F_0"), 1 / (2 * a + 1), excess / (2 * a + 1), floor)
        return Phase("Ib", ("F_pp", "F_0"), 0.5, a + b - 0.5, floor)
    if 2 * a >= 1:
        if b <= a:
            return Phase("II", ("F_pp", "F_ac"), b / (a + b), excess / (2 * (a + b)), floor)
        return Phase("III", ("K_pp", "F_ac"), 0.5, (4 * a - 1) / (4 * a), floor)
    if a >= 1 - math.sqrt(0.5):
        return Phase("IVa", ("K_pp", "F_0"), 0.5, a, floor)
    if a >= 0.25:
        scale = 2 * a * b + a - 2 * b
        return Phase("IVb", ("F_pp", "K_pp"), (a - b) / scale, -(1 - 2 * a) * excess / (2 * scale), floor)
    scale = 3 * a + 2 * b - 1 - 2 * a * b
    return Phase("Ic", ("F_pp", "F_0"), excess / (2 * scale), a * excess / scale, floor)


def spectrum(alpha: float, beta: float, v: float) -> Spectrum:
    """Variances j^-2alpha and powers j^-(2 alpha + 2 beta)."""
    return power_law(v, 2 * alpha, 2 * alpha + 2 * beta)


def stable_rate(alpha: float, v: float) -> float:
    """gamma = 1/2 of 1/trace: half of what diverges at B = 1."""
    modes = spectrum(alpha, 1.0, v)
    return 0.5 / float(np.sum(modes.count * modes.eigenvalue))


@dataclass(frozen=True)
class Instance:
    """One draw of W, in the eigenvectors of W^T diag(j^-2alpha) W.

    Attributes:
        eigenvalue: of the d directions.
        square: (theta_k - theta*_k)^2 before training.
        limit: the risk of theta*.
    """

    eigenvalue: Float[np.ndarray, "d"]
    square: Float[np.ndarray, "d"]
    limit: float


def instance(alpha: float, beta: float, d: int, v: int, seed: int) -> Instance:
    """A draw of W; v of many times d stands for infinity, and is of the size of d only where 2 alpha < 1.

    Raises:
        ValueError: v < d.
    """
    if v < d:
        raise ValueError(f"{v} modes for {d} parameters")
    j = np.arange(1.0, v + 1)
    features = np.random.default_rng(seed).standard_normal((v, d)) * (j**-alpha / math.sqrt(d))[:, None]
    eigenvalue, basis = np.linalg.eigh(features.T @ features)
    target = j ** -(alpha + beta)
    correlation = basis.T @ (features.T @ target)
    limit = float(target @ target - np.sum(correlation**2 / eigenvalue))
    return Instance(eigenvalue, (correlation / eigenvalue) ** 2, limit)


def limit(instance: Instance) -> float:
    """P_inf: the least risk of this W, of gradient descent without noise after infinitely many steps."""
    return instance.limit


def expected_limit(alpha: float, beta: float, d: float, v: float = math.inf) -> float:
    """P_inf of large d: sum_j b_j^2 kappa lambda_j/(lambda_j + kappa) at sum lambda/(lambda + kappa) = d."""
    return resolvent.floor(spectrum(alpha, beta, v), d)


def risk(
    instance: Instance, steps: Float[np.ndarray, "times"], gamma: float, batch: int = 1
) -> Float[np.ndarray, "times"]:
    """Exact expected risk after `steps` updates, which need not be integers.

    The variances S_k of the parameters' errors obey the linear S <- diag(m) S + (gamma^2/B) lambda (lambda . S + P_inf)
    with m = 1 - 2 gamma lambda + gamma^2 lambda^2 (1 + 1/B), for Gaussian data. One symmetric eigendecomposition, of 1
    minus this map so that slow directions keep their digits, makes it a sum of powers.

    Raises:
        ValueError: the risk diverges at this gamma.
    """
    scaled = gamma * instance.eigenvalue
    kick = scaled / math.sqrt(batch)
    rate, basis = np.linalg.eigh(np.diag(2 * scaled - (1 + 1 / batch) * scaled**2) - np.outer(kick, kick))
    if rate[0] <= 0 or rate[-1] >= 1:
        raise ValueError(f"SGD at gamma = {gamma} and B = {batch} diverges or alternates; lower gamma")
    decay = np.asarray(steps, float)[:, None] * np.log1p(-rate)
    start, noise = basis.T @ instance.square, basis.T @ (gamma * kick / math.sqrt(batch)) * instance.limit
    seen = basis.T @ instance.eigenvalue
    return instance.limit + np.exp(decay) @ (seen * start) - np.expm1(decay) @ (seen * noise / rate)


def expected_risk(
    modes: Spectrum, d: float, steps: Float[np.ndarray, "times"], gamma: float, batch: int = 1
) -> Float[np.ndarray, "times"]:
    """`risk` of large d, for any d and any number of modes.

    The Volterra equation P(r) = F(r) + sum_s K(r - 1 - s) P(s) is one of generating functions: at x = e^-p, with m(H)
    of `risk`, P = F/(1 - x K), F = u^T (1 - x m(H))^-1 u, K = (gamma^2/B) tr H^2 (1 - x m(H))^-1. As m is quadratic,
    either is a difference of two resolvents, at the roots of 1 = x m(-s).

    Raises:
        ValueError: fewer than LEAST_STEPS steps, or gamma above 1 / sum lambda, where the risk may diverge.
    """
    steps = np.asarray(steps, float)
    trace = float(np.sum(modes.count * modes.eigenvalue))
    if np.any(steps < LEAST_STEPS) or not 0 < gamma * trace <= 1:
        raise ValueError(f"at least {LEAST_STEPS} steps, and gamma = {gamma} of at most {1 / trace}")
    curve = (1 + 1 / batch) * gamma

    def transform(p):
        x, grown = np.exp(-p), np.expm1(p)
        root = np.sqrt(1 + (1 + 1 / batch) * grown)
        near, far = grown / (gamma * (1 + root)), -(1 + root) / curve
        g_near, g_far = (resolvent.solve(modes, d, s) for s in (near, far))
        scale = -1 / (x * curve * gamma * (far - near))
        start = scale * (resolvent.error(modes, near, g_near) - resolvent.error(modes, far, g_far))
        kernel = scale * (resolvent.heat(modes, near, g_near) - resolvent.heat(modes, far, g_far))
        # A sum over steps stands where an integral over time does.
        return start / (1 - x * kernel * gamma**2 / batch)

    return resolvent.inverse_laplace(transform, steps)
