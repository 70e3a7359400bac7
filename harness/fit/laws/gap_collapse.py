"""Laws G = A N^-alpha f(u) of the gap (nats per token), where f depends on N and D (counts) only through u = D/N^z."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.gap_rivals import degrees_of_freedom_gap
from harness.fit.laws.law import Columns, Combination, Parameter, Parameters, PositiveColumn, law, law_of_gaps
from sweeps.published_gap import PUBLISHED_GAP

_A, _ALPHA, _Z, _BETA, _U_STAR = PUBLISHED_GAP


def _log_ratio(N: PositiveColumn, D: PositiveColumn, z, u_star) -> Float[Array, "rows"]:
    """The log of u/u_star, with u = D/N^z."""
    return D.log - z * N.log - jnp.log(u_star)


def _regimes(parameters: Parameters, columns: Columns) -> dict[str, Float[Array, "rows"]]:
    u = columns["D"] / columns["N"] ** parameters["z"]
    return {"u <= u_star": u <= parameters["u_star"], "u > u_star": u > parameters["u_star"]}


@law_of_gaps(
    "G = A N^-alpha f(u), u = D/N^z, f = 1 for u <= u_star, (u/u_star)^-beta above",
    parameters=(
        Parameter("A", "log", 1e-8, 1e8, (1.0,), published=_A, unit="G N^alpha"),
        Parameter("alpha", "identity", -4.0, 4.0, (0.0, 0.4), published=_ALPHA),
        Parameter("z", "identity", -3.0, 5.0, (0.4, 0.8, 1.4), published=_Z),
        Parameter("beta", "identity", -2.0, 5.0, (0.3, 1.0), published=_BETA),
        Parameter("u_star", "log", 1e-9, 1e9, (3e-3, 5e-2, 1.0, 20.0, 300.0), published=_U_STAR, unit="D N^-z"),
    ),
    source="clawRxiv 2604.02022 (N, D taken as raw counts, G in nats per token)",
    combinations=(
        Combination("beta", lambda p: p["beta"], _BETA),
        Combination("alpha - z*beta", lambda p: p["alpha"] - p["z"] * p["beta"], _ALPHA - _Z * _BETA),
        Combination(
            "log A + beta*log u_star",
            lambda p: jnp.log(p["A"]) + p["beta"] * jnp.log(p["u_star"]),
            round(math.log(_A) + _BETA * math.log(_U_STAR), 5),
        ),
        Combination("z - beta - alpha", lambda p: p["z"] - p["beta"] - p["alpha"], _Z - _BETA - _ALPHA),
    ),
    regimes=_regimes,
    alternatives=("gap_smooth",),
)
def gap(N, D, *, A, alpha, z, beta, u_star):
    """The law under test: a plateau in D whose height falls with N, then a power of D; a kink at u = D/N^z = u*."""
    above = jnp.maximum(_log_ratio(N, D, z, u_star), 0.0)
    return jnp.exp(jnp.log(A) - alpha * N.log - beta * above)


@law(
    "G = A N^-alpha (1 + (u/u_star)^s)^(-beta/s), u = D/N^z; s to infinity is the kink of `gap`",
    like=gap,
    parameters=(*gap.parameters, Parameter("s", "log", 0.1, 100.0, (3.0,))),
    source="the kinked law of clawRxiv 2604.02022, rounded; the kink is the limit s to infinity",
    alternatives=(),
    shapes=("s",),
)
def gap_smooth(N, D, *, A, alpha, z, beta, u_star, s):
    """The law `gap` with its kink rounded: f(u) = (1 + (u/u*)^s)^(-beta/s); s to infinity is the kink."""
    log_f = -beta / s * jax.nn.softplus(s * _log_ratio(N, D, z, u_star))
    return jnp.exp(jnp.log(A) - alpha * N.log + log_f)


@law(
    "G = A N^-alpha (u/u_star)^-beta_0 (1 + (u/u_star)^s)^(-(beta - beta_0)/s), u = D/N^z",
    like=gap,
    parameters=(
        *(replace(p, published=None) for p in gap.parameters),
        Parameter("beta_0", "identity", -2.0, 5.0, (0.0, 0.4)),
        Parameter("s", "log", 0.1, 100.0, (1.0, 3.0)),
    ),
    source="two power laws joined smoothly; exact in the limits of ridge regression on random features",
    combinations=(
        Combination("beta", lambda p: p["beta"]),
        Combination("alpha - z*beta", lambda p: p["alpha"] - p["z"] * p["beta"]),
        Combination("alpha - z*beta_0", lambda p: p["alpha"] - p["z"] * p["beta_0"]),
    ),
    shapes=("s",),
)
def gap_broken(N, D, *, A, alpha, z, beta, u_star, beta_0, s):
    """A crossover between two power laws in D: the law `gap` with a slope below u* as well, and its kink rounded.

    f(u) = (u/u*)^-beta_0 (1 + (u/u*)^s)^(-(beta - beta_0)/s). With beta_0 = 0 it is `gap_smooth`; s to infinity is a
    kink. Ridge regression on random features that is trained for a time that grows with D has beta_0 = 1 - 1/z and
    beta = 1.
    """
    log_ratio = _log_ratio(N, D, z, u_star)
    log_f = -beta_0 * log_ratio - (beta - beta_0) / s * jax.nn.softplus(s * log_ratio)
    return jnp.exp(jnp.log(A) - alpha * N.log + log_f)


# Newton steps in `_learned_share`. The function is increasing and close to two straight lines. Started on the nearer
# line, 5 steps leave an error of 2e-14 for b up to 10.
RIDGE_STEPS = 5


def _learned_share(log_v: Float[Array, "rows"], b: Float[Array, ""]) -> Float[Array, "rows"]:
    """log y, where y solves b log y - log(1 - y) = log v."""
    w = jnp.where(log_v < 0, log_v / b, log_v)  # the start for the logit of y
    for _ in range(RIDGE_STEPS):
        height = jax.nn.softplus(w) - b * jax.nn.softplus(-w) - log_v
        w = w - height / (b + (1.0 - b) * jax.nn.sigmoid(w))
    return -jax.nn.softplus(-w)


@law(
    "G = A N^-alpha (y/v)^beta, y^b = v (1 - y), v = u/u_star, u = D/N^z, b = 1/(1 - beta_0/beta)",
    like=gap_broken,
    parameters=tuple(p for p in gap_broken.parameters if p.name != "s"),
    source="ridge regression on random features, its ridge falling slower than the samples grow; derived here",
    alternatives=("gap_broken",),
    shapes=(),
)
def gap_ridge(N, D, *, A, alpha, z, beta, u_star, beta_0):
    """The law's collapse with the f of ridge regression on random features, trained short of what its data allow.

    With v = u/u*, the share y of the N features that is learned solves y^b = v (1 - y), and f = (y/v)^beta. Far below
    u*, where data and time limit what is learned, f is the power v^-beta_0; far above, where N does, it is v^-beta;
    b = 1/(1 - beta_0/beta). With beta = 1 and b the exponent of the spectrum, this follows from the deterministic
    equivalent of random features at many samples: z + ridge/kappa = P, kappa = g (1 - z/N) and z ~ g^(-1/b). f
    approaches its two branches at different rates, v^(1/b) and 1/v, which `gap_broken` cannot: its fit to such gaps
    leaves 0.3 % of the gap, with beta_0 too high by 0.015.
    """
    log_v = _log_ratio(N, D, z, u_star)
    b = 1.0 / jnp.clip(1.0 - beta_0 / beta, 0.1, 10.0)
    return jnp.exp(jnp.log(A) - alpha * N.log + beta * (_learned_share(log_v, b) - log_v))


@law(
    "G = A N^-alpha (2v - v^2)/(1 - v), v = (u/u_star)^-beta, u = D/N^z; -> 2 A N^-alpha v for u >> u_star",
    like=gap,
    parameters=tuple(
        replace(p, published=None, starts=(1e-5, 1e-3, 5e-2, 1.0) if p.name == "u_star" else p.starts)
        for p in gap.parameters
    ),
    source="degrees of freedom over rows (Akaike; Craven and Wahba's GCV); exact for ridgeless random features",
    combinations=tuple(replace(c, published=None) for c in gap.combinations[:3]),
    regimes=None,
    alternatives=(),
)
def gap_threshold(N, D, *, A, alpha, z, beta, u_star):
    """The law's collapse with the f of classical theory: infinite at the D = u* N^z below which any data can be fitted.

    f(u) = (2v - v^2)/(1 - v), v = (u/u*)^-beta. With beta = 1, v is the number of degrees of freedom per sample, the
    held-out loss is E/(1 - v) and the training loss E (1 - v) for E = A N^-alpha. That is exact for ridgeless
    regression on N random features, with u* = 1 and z = 1. Far above the threshold u* the gap falls as 2 v, where only
    beta, alpha - z*beta and the height are identified. The law is not defined at u <= u*. `gap_classical` is its case
    alpha = 0, beta = 1.
    """
    v = jnp.exp(-beta * _log_ratio(N, D, z, u_star))
    return jnp.exp(jnp.log(A) - alpha * N.log) * degrees_of_freedom_gap(v)


SPLINE_SLOPES = ("beta_1", "beta_2", "beta_3", "beta_4", "beta_5")
MIDDLE = len(SPLINE_SLOPES) // 2


def _ramp(x: Float[Array, "rows"]) -> Float[Array, "rows"]:
    """The integral of t dt from 0 to x, with x clipped to [0, 1]."""
    return 0.5 * jnp.clip(x, 0.0, 1.0) ** 2


def _area(x: Float[Array, "rows"], place: int) -> Float[Array, "rows"]:
    """The integral of the slope that is 1 at one `place`, 0 at the other places, linear between, constant outside."""
    first, last = place == 0, place == len(SPLINE_SLOPES) - 1
    y = x - (place - MIDDLE)
    before = jnp.minimum(y, 0.0) if first else _ramp(y + 1.0)
    return before + (jnp.maximum(y, 0.0) if last else 0.5 - _ramp(1.0 - y))


@law_of_gaps(
    "G = A N^-alpha f(D/N^z), f decreasing: -dlog f/dlog u is linear between beta_1..5 at u_0 e^(step k)",
    parameters=(
        replace(gap.parameters[0], published=None),
        *gap.parameters[1:3],
        Parameter("u_0", "log", 1e-4, 1e4, (0.1, 1.0, 10.0), unit="D N^-z"),
        Parameter("step", "log", 0.3, 6.0, (0.8, 2.5)),
        *(Parameter(name, "identity", 0.0, 3.0, (0.3,)) for name in SPLINE_SLOPES),
    ),
    source="form: clawRxiv 2604.02022; f free but monotone, after Ramsay 1988 (monotone regression splines)",
    combinations=(Combination("alpha - z*beta_5", lambda p: p["alpha"] - p["z"] * p["beta_5"]),),
    shapes=("step", *SPLINE_SLOPES),
)
def gap_spline(N, D, *, A, alpha, z, u_0, step, beta_1, beta_2, beta_3, beta_4, beta_5):
    """The shape-free collapse: G = A N^-alpha f(D/N^z) with f any decreasing curve, not a plateau and a power law.

    In logs the slope of f is never upward, linear between values at five places of log u, and constant beyond the outer
    two (its integral is a quadratic monotone spline). `u_0` is the middle place and `step` the distance in log u
    between neighbours; f(u_0) = 1. Where every u lies on one power law, alpha and z are not identified.
    """
    x = _log_ratio(N, D, z, u_0) / step
    zero = jnp.zeros(())
    slopes = (beta_1, beta_2, beta_3, beta_4, beta_5)
    fall = sum(slope * (_area(x, place) - _area(zero, place)) for place, slope in enumerate(slopes))
    return jnp.exp(jnp.log(A) - alpha * N.log - step * fall)
