"""Power-law random features by one-pass SGD: the 4 + 3 phases of Paquette et al. 2024 (arXiv 2405.15074).

Data x_j = j^-alpha z_j, z ~ N(0, I_v), targets <x, b> with b_j = j^-beta; the student <W^T x, theta>, W (v x d) with
iid entries N(0, 1/d), is trained from 0 on fresh batches by theta <- theta - gamma mean((prediction - target) W^T x).
The risk is the expected squared error, without a unit. r steps of B samples with d parameters cost f = d r B FLOPs.

Regime: `risk` is the exact expectation over the samples for one draw of W, by the closed recursion of Gaussian data, at
any number of steps. `expected_risk` is its limit of large d, without a draw, and exact at any step size: it is no more
than two standard errors, 1 to 6 %, from the mean of 20 draws at d = 32..512. The exponents of `phase` hold for
d -> infinity and are proven there except for alpha < 1/4. Envelopes of exact risks approach them slowly. At d = 32..512
their loss slopes are off by 4 % (Ia), 6 % (II), 5 % (III) and 8 % (IVa), and by 25 to 60 % in Ib, Ic and IVb; at
d = 10^5 by 0.2 to 1.5 % in Ia, II and III and by 5 to 10 % in IVa. Risks of single draws have a spread of 5 to 10 % at
d = 512. The data are read once, so that training and test data have no gap by construction.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.known_truth import Truth
from harness.theory import resolvent
from harness.theory.random_features import losses
from harness.theory.simulated_runs import check_settings, runs_like
from harness.theory.spectrum import Spectrum, power_law_spectrum
from sweeps.errors import InputError

# Fewest steps for which `expected_risk` is right: only then does its contour of integration fit between the logs of the
# recursion's rates and +-i pi.
LEAST_STEPS = 32
# Sizes large enough for the exponents of phases Ia, II and III to be met to 2 %.
PLRF_SIZES = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072, 262144)


@dataclass(frozen=True)
class Phase:
    """The compute-optimal exponents of a phase.

    Attributes:
        name: Ia, Ib, Ic, II, III, IVa or IVb.
        terms: the two parts of the risk, by the source's names, that are equal at the optimum.
        size, loss: exponents of the best number of parameters, d* ~ f^size, and of its risk, P* ~ f^-loss.
        floor: exponent of the risk after infinitely many steps, F_0 ~ d^-floor.
    """

    name: str
    terms: tuple[str, str]
    size: float
    loss: float
    floor: float


def phase(alpha: float, beta: float) -> Phase | None:
    """The phase of (alpha, beta); None where 2 (alpha + beta) <= 1 (infinite risk at v = infinity). A point on a border
    belongs to the phase of larger alpha, or smaller beta. The exponents are derived from the four terms of the risk in
    arXiv 2405.15074 (F_pp, F_ac, F_0, K_pp/gamma); at the optimum two are equal and larger than the others.
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


def plrf_spectrum(alpha: float, beta: float, v: float) -> Spectrum:
    """The spectrum with variances j^-2alpha and powers j^-(2 alpha + 2 beta)."""
    return power_law_spectrum(v, 2 * alpha, 2 * alpha + 2 * beta)


def stable_rate(alpha: float, v: float) -> float:
    """The learning rate gamma = 1/(2 trace), which converges at every B: see `expected_risk`."""
    return 0.5 / plrf_spectrum(alpha, 1.0, v).trace


@dataclass(frozen=True)
class Instance:
    """One draw of W, in the eigenvectors of W^T diag(j^-2alpha) W.

    Attributes:
        eigenvalue: the eigenvalue of each of the d directions.
        square: (theta_k - theta*_k)^2 before training.
        limit: P_inf, the risk of theta*, the lowest that this W allows.
    """

    eigenvalue: Float[np.ndarray, "d"]
    square: Float[np.ndarray, "d"]
    limit: float


def instance(alpha: float, beta: float, d: int, v: int, seed: int) -> Instance:
    """A draw of W; ValueError if v < d.

    A v many times as large as d stands for infinity; where 2 alpha < 1, v has to be of the size of d.
    """
    if v < d:
        raise ValueError(f"{v} modes for {d} parameters")
    j = np.arange(1.0, v + 1)
    # One random stream per parameter: a draw contains those of smaller d and v, so that their noise is much the same.
    features = np.stack([np.random.default_rng([seed, k]).standard_normal(v) for k in range(d)]) * j**-alpha
    features /= math.sqrt(d)
    eigenvalue, basis = np.linalg.eigh(features @ features.T)
    target = j ** -(alpha + beta)
    correlation = basis.T @ (features @ target)
    limit = float(target @ target - np.sum(correlation**2 / eigenvalue))
    return Instance(eigenvalue, (correlation / eigenvalue) ** 2, limit)


def expected_limit(alpha: float, beta: float, d: float, v: float = math.inf) -> float:
    """P_inf at large d: sum_j b_j^2 kappa lambda_j/(lambda_j + kappa), where sum lambda/(lambda + kappa) = d."""
    return float(losses(plrf_spectrum(alpha, beta, v), np.asarray(d), np.asarray(math.inf), 0.0).test)


def risk(draw: Instance, steps: Float[np.ndarray, "times"], gamma: float, batch: int = 1) -> Float[np.ndarray, "times"]:
    """Exact expected risk after `steps` updates, which need not be integers.

    For Gaussian data the variances S_k of the parameters' errors obey the linear recursion
    S <- diag(m) S + (gamma^2/B) lambda (lambda . S + P_inf), m = 1 - 2 gamma lambda + gamma^2 lambda^2 (1 + 1/B). One
    symmetric eigendecomposition makes the risk a sum of powers. It is taken of 1 minus this map, so that slow
    directions keep their digits. Raises ValueError where the risk diverges at this gamma.
    """
    scaled = gamma * draw.eigenvalue
    kick = scaled / math.sqrt(batch)
    rate, basis = np.linalg.eigh(np.diag(2 * scaled - (1 + 1 / batch) * scaled**2) - np.outer(kick, kick))
    if rate[0] <= 0 or rate[-1] >= 1:
        raise ValueError(f"SGD at gamma = {gamma} and B = {batch} diverges or alternates; lower gamma")
    decay = np.asarray(steps, float)[:, None] * np.log1p(-rate)
    start, noise = basis.T @ draw.square, basis.T @ (gamma * kick / math.sqrt(batch)) * draw.limit
    weight = basis.T @ draw.eigenvalue
    # In place: 30,000 steps at d = 512 are 123 MB, and filling new memory took as long as the exponentials.
    return draw.limit + weight @ start + np.expm1(decay, out=decay) @ (weight * (start - noise / rate))


def expected_risk(
    modes: Spectrum, d: float, steps: Float[np.ndarray, "times"], gamma: float, batch: int = 1
) -> Float[np.ndarray, "times"]:
    """The limit of `risk` at large d, for any d and any number of modes.

    The risk P(r) after r steps obeys the Volterra equation P(r) = F(r) + sum_s K(r - 1 - s) P(s). The generating
    functions of P, F and K at x = e^-p are P = F/(1 - x K), F = u^T (1 - x m(H))^-1 u and
    K = (gamma^2/B) tr H^2 (1 - x m(H))^-1, with u and H of `resolvent` and m of `risk`. As m is quadratic, F and K are
    each a difference of two resolvents, at the roots s of 1 = x m(-s). Raises ValueError for fewer than LEAST_STEPS
    steps, or for gamma sum lambda of 2B/(B + 2) or more, where the risk may diverge.
    """
    steps = np.asarray(steps, float)
    most = 2 * batch / (batch + 2) / modes.trace
    if np.any(steps < LEAST_STEPS) or not 0 < gamma < most:
        raise ValueError(f"at least {LEAST_STEPS} steps, and gamma = {gamma} below {most}")
    curve = (1 + 1 / batch) * gamma

    def transform(p):
        x, grown = np.exp(-p), np.expm1(p)
        root = np.sqrt(1 + (1 + 1 / batch) * grown)
        near, far = grown / (gamma * (1 + root)), -(1 + root) / curve
        g_near, g_far = (resolvent.solve_resolvent(modes, d, s) for s in (near, far))
        scale = -1 / (x * curve * gamma * (far - near))
        start = scale * (resolvent.error(modes, near, g_near) - resolvent.error(modes, far, g_far))
        kernel = scale * (resolvent.heat(modes, near, g_near) - resolvent.heat(modes, far, g_far))
        return start / (1 - x * kernel * gamma**2 / batch)

    return resolvent.inverse_laplace(transform, steps)


def isoflops(
    alpha: float,
    beta: float,
    sizes: Sequence[float] | Float[np.ndarray, "sizes"],
    flops: Float[np.ndarray, "flops"],
    *,
    ratio: float = 10.0,
    batch: int = 1,
    seeds: int = 20,
) -> Float[np.ndarray, "sizes flops"]:
    """Risks of each size after the f/(d B) steps that f FLOPs pay for; nan where these are fewer than LEAST_STEPS.

    The learning rate is `stable_rate`.

    Args:
        ratio: v/d; math.inf is allowed where 2 alpha > 1, without draws.
        seeds: number of draws of W over which the risk is averaged; 0 for `expected_risk`.
    """
    risks = np.full((len(sizes), len(flops)), np.nan)
    for row, d in zip(risks, sizes, strict=True):
        steps = flops / (d * batch)
        enough, v = steps >= LEAST_STEPS, ratio * d
        gamma = stable_rate(alpha, v)
        if seeds:
            draws = (instance(alpha, beta, int(d), int(v), seed) for seed in range(seeds))
            row[enough] = np.mean([risk(draw, steps[enough], gamma, batch) for draw in draws], axis=0)
        else:
            row[enough] = expected_risk(plrf_spectrum(alpha, beta, v), d, steps[enough], gamma, batch)
    return risks


def simulate_plrf(
    *,
    alpha: float = 0.75,
    beta: float = 0.25,
    sizes: Sequence[float] = PLRF_SIZES,
    flops: Sequence[float] | None = None,
    ratio: float = 10.0,
    batch: int = 1,
    seeds: int = 0,
) -> tuple[pd.DataFrame, Truth]:
    """Runs of every size at every number of FLOPs; `compute_power` is the law of the rows with `frontier`.

    Args:
        sizes: values of d, rising, four or more.
        flops: by default a grid so wide that in each phase some of its best sizes are within `sizes`.
        ratio, batch, seeds: as in `isoflops`.

    Returns:
        rows: N = d, D = r B samples, read once, flops = d r B, loss = risk, the same on training data (no gap); steps;
        frontier, whether no other size has less risk at these FLOPs, and it is neither the first size nor the last.
        Runs of fewer than LEAST_STEPS steps are left out.
        truth: the loss exponent of the phase. Settings that are not usable raise InputError.
    """
    started, name = time.perf_counter(), "simulate plrf"
    point = phase(alpha, beta) if alpha <= 10 and beta <= 10 else None
    if point is None:
        raise InputError(name, "--alpha, --beta", (alpha, beta), "alpha > 0 and 2 (alpha + beta) > 1, 10 at most")
    rising = len(sizes) >= 4 and sizes[0] >= 2 and bool(np.all(np.diff(sizes) > 0))
    check_settings(
        name,
        ("--sizes", list(sizes), rising, "four or more rising whole numbers from 2"),
        ("--batch", batch, batch >= 1, "at least 1"),
        ("--seeds", seeds, seeds >= 0, "at least 0"),
        ("ratio", ratio, ratio >= 1.1, "1.1 or more"),
        ("ratio", ratio, math.isfinite(ratio) or (seeds == 0 and 2 * alpha > 1), "finite with seeds or 2 alpha <= 1"),
    )
    grid = np.geomspace(100 * sizes[0], sizes[-1] ** 3.5, 61) if flops is None else np.asarray(flops, float)
    check_settings(name, ("flops", list(grid), bool(np.all(grid > 0)), "positive numbers"))
    risks = isoflops(alpha, beta, sizes, grid, ratio=ratio, batch=batch, seeds=seeds)
    best = np.where(np.isfinite(risks), risks, np.inf).argmin(axis=0)
    frontier = (np.arange(len(sizes))[:, None] == best) & (best > 0) & (best < len(sizes) - 1)
    row, column = np.nonzero(np.isfinite(risks))
    d, f, loss = np.asarray(sizes, float)[row], grid[column], risks[row, column]
    more = {"steps": f / (d * batch), "frontier": frontier[row, column]}
    table = runs_like("plrf", d, f / d, flops=f, loss=loss, train_loss=loss, gap=np.zeros(len(d)), **more)
    if np.sum(table["frontier"].to_numpy()) < 3:
        span = float(grid.min()), float(grid.max())
        raise InputError(name, "flops", span, "such that the best size is within `sizes`, not an end of them")
    return table, Truth(
        oracle="plrf",
        regime=(
            f"phase {point.name}, {point.terms[0]} = {point.terms[1]} at the optimum; expected risk, exact"
            f"{', the mean of draws of the features' if seeds else ' at large d'}. The exponent is that of d -> "
            "infinity; the frontier's own slope at d <= 512 is 4 to 8 % off it in Ia, II, III and IVa, more elsewhere, "
            "and at d = 10^5, without seeds, 0.2 to 1.5 % in Ia, II and III"
        ),
        law="compute_power",
        parameters={"alpha": point.loss},
        settings={"alpha": alpha, "beta": beta, "ratio": ratio, "batch": batch, "seeds": seeds},
        cost=f"{time.perf_counter() - started:.2f} s for {len(table)} runs",
        where="frontier",
    )
