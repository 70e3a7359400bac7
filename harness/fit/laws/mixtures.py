"""Losses L (nats per token) of mixtures of training domains; h holds their weights, one column per domain, sum 1."""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Parameter, coefficient, exponent, floor, law

mixture_law = functools.partial(law, vectors=("h",), signed=("h",))

# An exponent above 1 would let a domain help ever more as its share grows. Without the limit, fits to few mixtures have
# such exponents, and predict enormous losses at shares that they did not see.
DOMAINS = (
    Parameter("C", "log", 1e-4, 1e4, (1.0, 5.0), unit="L^-1", each="h"),
    Parameter("g", "log", 0.02, 1.0, (0.1, 0.3, 0.6), each="h"),
)


def _domain_term(h: Float[Array, "rows domains"], C, g) -> Float[Array, "rows"]:
    """1 / sum_i C_i h_i^g_i: a small share of a domain costs loss, but finite loss as long as other domains help."""
    some = h > 0
    powers = jnp.where(some, jnp.exp(g * jnp.log(jnp.where(some, h, 1.0))), 0.0)
    return 1.0 / (powers @ C)


@mixture_law(
    "L = E + A/N^alpha + B/D^beta + 1/sum_i C_i h_i^g_i",
    parameters=(
        floor(),
        coefficient("A", "L N^alpha"),
        exponent("alpha", (0.1, 0.4)),
        coefficient("B", "L D^beta"),
        exponent("beta", (0.1, 0.4)),
        *DOMAINS,
    ),
    source="Shukor et al. 2025 (arXiv 2507.09404); constants per domain were not at hand",
    alternatives=("mixture_joint",),
)
def mixture_additive(N, D, h, *, E, A, alpha, B, beta, C, g):
    """Optimal data mixtures, additive: neither the mixture's cost nor the best mixture depends on scale.

    Shukor et al. 2025 (arXiv 2507.09404). Weights may be 0; N: parameters; D: tokens; L: loss on one target. Each
    target needs its own fit. For tables at a single D, `mixture_additive_n` leaves D out.
    """
    return E + (A * N**-alpha + B * D**-beta) + _domain_term(h, C, g)


@mixture_law(
    "L = E + A/N^alpha + 1/sum_i C_i h_i^g_i",
    parameters=(floor(), coefficient("A", "L N^alpha"), exponent("alpha", (0.1, 0.4)), *DOMAINS),
    source="Shukor et al. 2025 (arXiv 2507.09404), without the term in D",
)
def mixture_additive_n(N, h, *, E, A, alpha, C, g):
    """Optimal data mixtures, additive, for runs that all saw as many tokens (or as many tokens per parameter).

    The law of `mixture_additive` (Shukor et al. 2025, arXiv 2507.09404) without its term in D, which such runs cannot
    tell from E.
    """
    return E + A * N**-alpha + _domain_term(h, C, g)


@mixture_law(
    "L = E + 1/sum_i C_i h_i^g_i + (sum_i C_A_i h_i)^g_A/N^alpha + (sum_i C_B_i h_i)^g_B/D^beta",
    parameters=(
        floor(),
        *DOMAINS,
        Parameter("C_A", "log", 1e-9, 1e9, (0.1,), unit="L^1/g_A N^alpha/g_A", each="h"),
        Parameter("g_A", "log", 0.05, 20.0, (1.0,)),
        exponent("alpha", (0.1, 0.4)),
        Parameter("C_B", "log", 1e-9, 1e9, (0.1,), unit="L^1/g_B D^beta/g_B", each="h"),
        Parameter("g_B", "log", 0.05, 20.0, (1.0,)),
        exponent("beta", (0.1, 0.4)),
    ),
    source="Shukor et al. 2025 (arXiv 2507.09404), the two sums from memory; constants were not at hand",
    alternatives=("mixture_additive",),
)
def mixture_joint(N, D, h, *, E, C, g, C_A, g_A, alpha, C_B, g_B, beta):
    """Optimal data mixtures, joint: the mixture changes the terms of N and D, so the best mixture changes with them.

    Shukor et al. 2025 (arXiv 2507.09404). Roles as in `mixture_additive`.
    """
    capacity = jnp.exp(g_A * jnp.log(h @ C_A) - alpha * N.log)
    data = jnp.exp(g_B * jnp.log(h @ C_B) - beta * D.log)
    return E + capacity + data + _domain_term(h, C, g)


@mixture_law(
    "L = c + exp(sum_i t_i h_i), k inside t",
    parameters=(floor("c"), Parameter("t", "identity", -60.0, 10.0, (-1.0, -3.0, -6.0), each="h")),
    source="Ye et al. 2024 (arXiv 2403.16952), with k inside t",
    # The unit of the loss is a factor of exp(sum_i t_i h_i); as the weights sum to 1, its log adds to every t_i.
    raw=lambda parameters, scales: {"t": parameters["t"] + jnp.log(scales["L"])},
)
def mixture_exponential(h, *, c, t):
    """Data mixing laws: the loss on a domain falls exponentially with the weights of the domains that help it.

    Ye et al. 2024 (arXiv 2403.16952). Weights may be 0; L: loss on one domain. Each domain and scale needs its own fit.
    The paper's factor k is inside t: with weights that sum to 1, k exp(sum t_i h_i) is exp(sum (t_i + ln k) h_i).
    """
    return c + jnp.exp(h @ t)
