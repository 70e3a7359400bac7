"""Losses L (nats per token) of mixtures of experts. Each law says what its N counts; D counts tokens."""

import math
from typing import Any

import jax.numpy as jnp

from harness.fit.laws.law import (
    Combination,
    Parameter,
    Parameters,
    Scales,
    coefficient,
    exponent,
    floor,
    law,
)
from harness.fit.laws.sizes_and_tokens import joint_kaplan

_EXPONENTS = (0.05, 0.15, 0.4, 1.0)


@law(
    "L = c + (g/G^gamma + a)/N^alpha + b/D^beta, G the granularity",
    parameters=(
        floor("c", published=0.47),
        coefficient("a", "L N^alpha", (0.2,), published=18.1),
        coefficient("g", "L N^alpha granularity^gamma", (0.05,), published=2.1),
        exponent("gamma", (0.3, 0.8, 2.0), published=0.58),
        exponent("alpha", _EXPONENTS, published=0.115),
        coefficient("b", "L D^beta", (0.2,), published=30.8),
        exponent("beta", _EXPONENTS, published=0.147),
    ),
    source="Krajewski et al. 2024 (arXiv 2402.07871)",
)
def moe_fine_grained(N, granularity, D, *, c, a, g, gamma, alpha, b, beta):
    """Mixtures of fine-grained experts: the cost of few parameters falls with granularity.

    Krajewski et al. 2024 (arXiv 2402.07871). N: parameters without embeddings, at one expansion rate; G: granularity,
    the width of an ordinary feed-forward layer divided by the width of an expert.
    """
    return c + (g * granularity**-gamma + a) * N**-alpha + b * D**-beta


@law(
    "L = E + ((A/(N P^rho))^(alpha/beta) + B/D)^beta",
    parameters=(
        floor(starts=(0.3,)),
        Parameter("A", "log", 1e-12, 1e6, (0.1, 1.0), unit="N P^rho L^1/alpha"),
        exponent("alpha", (0.1, 0.3), low=0.01),
        Parameter("rho", "identity", -2.0, 3.0, (0.0, 0.3)),
        Parameter("B", "log", 1e-12, 1e6, (0.3,), unit="D L^1/beta"),
        exponent("beta", (0.1, 0.3), low=0.01),
    ),
    source="form: Kaplan et al. 2020 (arXiv 2001.08361) with an effective size, chosen here by held-out rows",
    alternatives=("moe_sparsity_abnar",),
)
def moe_sparsity(N, P, D, *, E, A, alpha, rho, B, beta):
    """Sparsity in mixtures of experts: more experts act as a larger model, and tokens limit what any size can reach.

    N: active parameters; P: total over active parameters; D: tokens that the weights were trained on, those of the
    dense checkpoint included where a model was upcycled from one. The effective size N P^rho stands in the loss of
    Kaplan et al. 2020 (arXiv 2001.08361), whose terms are not simply added: with few tokens, size stops helping. On
    upcycled models (Liew et al. 2025, arXiv 2502.03009) it predicts the largest base model and more tokens better than
    sums of terms do, and a smaller step in size about as well.
    """
    return E + joint_kaplan(jnp.log(A) - (N.log + rho * P.log), jnp.log(B) - D.log, alpha, beta)


@law(
    "L = e + a/N^alpha + b/D^beta + c P^lambda + d P^delta/N^gamma, P = 1/(1 - sparsity)",
    parameters=(
        floor("e", (0.3,), published=0.94),
        coefficient("a", "L N^alpha", published=16612.5),
        exponent("alpha", (0.4,), published=0.5962),
        coefficient("b", "L D^beta", published=5455.67),
        exponent("beta", (0.15, 0.4), published=0.3954),
        coefficient("c", "L P^-lambda", published=0.4598),
        exponent("lambda", (-0.2, 0.3), published=-0.1666, low=-2.0),
        coefficient("d", "L N^gamma P^-delta", published=17.26),
        exponent("delta", (0.2,), published=0.1603, low=-2.0),
        exponent("gamma", (0.1, 0.3), published=0.1595),
    ),
    source="Abnar et al. 2025 (arXiv 2501.12370), with 1 - S written as 1/P",
)
def moe_sparsity_abnar(N, D, P, *, e, a, alpha, b, beta, c, lambda_, d, delta, gamma):
    """Sparsity in mixtures of experts: terms of N and D, a cost of sparsity, and one that sparsity and size share.

    Abnar et al. 2025 (arXiv 2501.12370). N: total parameters; P = 1/(1 - S), S the share of the experts that a token
    does not use, so P is near total over active parameters. A negative lambda means that sparsity helps at fixed
    N_total/P^(delta/gamma), which is near the active parameters.
    """
    shared = jnp.exp(delta * P.log - gamma * N.log)
    return e + (a * N**-alpha + b * D**-beta) + (c * P**lambda_ + d * shared)


def saturated_experts(experts_less_one: Any, E_start: Any, E_max: Any) -> Any:
    """The saturating number of experts X: E_start at E = 1 (a dense model), E_max in the limit of many experts."""
    offset = 1.0 / (1.0 / E_start - 1.0 / E_max)
    return 1.0 / (1.0 / (experts_less_one + offset) + 1.0 / E_max)


def _raw_logs(parameters: Parameters, scales: Scales) -> dict[str, Any]:
    """b and d for raw columns: the unit of N is an offset of log10 N, and the unit of L one of log10 L."""
    p, log10_n = parameters, jnp.log10(scales["N"])
    return {"b": p["b"] - p["c"] * log10_n, "d": p["d"] - p["a"] * log10_n + jnp.log10(scales["L"])}


@law(
    "log10 L = a log10 N + b log10 X + c log10 N log10 X + d, 1/X = 1/(E - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max",
    columns=("N", "E"),
    parameters=(
        Parameter("a", "identity", -3.0, 1.0, (-0.1, -0.03), published=-0.082),
        Parameter("b", "identity", -3.0, 3.0, (-0.1, -0.02), published=-0.108),
        Parameter("c", "identity", -1.0, 1.0, (0.0, 0.02), published=0.009),
        Parameter("d", "identity", -9.0, 9.0, (0.0,), published=1.104),
        Parameter("E_start", "log", 0.1, 15.0, (1.2, 4.0), published=1.847),
        Parameter("E_max", "log", 20.0, 1e6, (100.0, 600.0), published=314.478),
    ),
    source="Clark et al. 2022 (arXiv 2202.01169); constants: S-Base routing",
    objective="log_squares",
    # The law reads E - 1, which a rescaled E would no longer give, so it is computed from the raw column.
    derive=lambda columns: {"E_less_1": columns["E"] - 1.0},
    raw=_raw_logs,
    combinations=(Combination("log10 of N_cutoff = -b/c", lambda p: -p["b"] / p["c"], math.log10(937e9)),),
    alternatives=("routed_floor",),
)
def routed(N, E_less_1, *, a, b, c, d, E_start, E_max):
    """The loss of routed language models: a power law in the base model and in its experts, which help less with size.

    Clark et al. 2022 (arXiv 2202.01169). N: parameters of the dense base model; E: experts per routed layer, 1 for a
    dense model. The logs are to base 10, in which the constants are published. `effective_parameters` and
    `routing_cutoff` say what follows from it.
    """
    log10_n, log10_experts = jnp.log10(N.values), jnp.log10(saturated_experts(E_less_1, E_start, E_max))
    return jnp.exp(math.log(10.0) * (a * log10_n + b * log10_experts + c * log10_n * log10_experts + d))


def effective_parameters(parameters: Parameters, n: Any, experts: Any) -> Any:
    """The size of the dense model with the loss of a routed one (the paper's effective parameter count).

    Args:
        parameters: the constants of `routed`.
        n: parameters of the dense base model.
        experts: number of experts per routed layer.
    """
    p = parameters
    routed_log = jnp.log10(saturated_experts(experts - 1.0, p["E_start"], p["E_max"]))
    dense_log, log10_n = jnp.log10(p["E_start"]), jnp.log10(n)
    loss = p["a"] * log10_n + p["b"] * routed_log + p["c"] * log10_n * routed_log + p["d"]
    return 10.0 ** ((loss - p["b"] * dense_log - p["d"]) / (p["a"] + p["c"] * dense_log))


def routing_cutoff(parameters: Parameters) -> Any:
    """The size of the base model of `routed` beyond which more experts no longer help: where b + c log10 N is 0."""
    return 10.0 ** (-parameters["b"] / parameters["c"])


@law(
    "L = L_inf + A/(N^alpha X^beta), 1/X = 1/(E - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max",
    columns=("N", "E"),
    parameters=(
        floor("L_inf", (0.4,)),
        coefficient("A", "L N^alpha", (0.6,)),
        exponent("alpha", (0.08, 0.2)),
        exponent("beta", (0.05, 0.2)),
        Parameter("E_start", "log", 0.1, 15.0, (1.2, 4.0)),
        Parameter("E_max", "log", 20.0, 1e6, (100.0, 600.0)),
    ),
    source="form chosen here by held-out sizes; saturating experts: Clark et al. 2022 (arXiv 2202.01169)",
    objective="log_squares",
    derive=routed.derive,
    alternatives=("routed",),
)
def routed_floor(N, E_less_1, *, L_inf, A, alpha, beta, E_start, E_max):
    """Routed language models with a floor: base model and experts multiply, and no size goes below it.

    N and E as in `routed`, and Clark's saturating experts X (arXiv 2202.01169). The floor does the work of the bilinear
    term: experts help a large model less because less is left to gain. On the public runs its squared error on base
    models 3 and 6 times as large as any fitted one is 15 to 45 % of the squared error of `routed`.
    """
    log_experts = jnp.log(saturated_experts(E_less_1, E_start, E_max))
    return L_inf + A * jnp.exp(-alpha * N.log - beta * log_experts)
