"""Optimal data mixtures, joint: what a size and a number of tokens are worth depends on the mixture too.

Shukor et al. 2025 (arXiv 2507.09404). Roles as in `mixture_additive`. The best mixture moves with N and D.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws._mixture import DOMAINS, domain_term, rescaled_domains
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    capacity = p["g_A"] * jnp.log(columns["h"] @ p["C_A"]) - p["alpha"] * jnp.log(columns["N"])
    data = p["g_B"] * jnp.log(columns["h"] @ p["C_B"]) - p["beta"] * jnp.log(columns["D"])
    return p["E"] + jnp.exp(capacity) + jnp.exp(data) + domain_term(p, columns)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p, loss = dict(parameters), scales["L"]
    return p | {
        **rescaled_domains(p, scales),
        "C_A": p["C_A"] * (loss * scales["N"] ** p["alpha"]) ** (1.0 / p["g_A"]),
        "C_B": p["C_B"] * (loss * scales["D"] ** p["beta"]) ** (1.0 / p["g_B"]),
    }


LAW = Law(
    id="mixture_joint",
    formula="L = E + 1/sum_i C_i h_i^g_i + (sum_i C_A_i h_i)^g_A/N^alpha + (sum_i C_B_i h_i)^g_B/D^beta",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,)),
        *DOMAINS,
        Parameter("C_A", "log", 1e-9, 1e9, (0.1,), each="h"),
        Parameter("g_A", "log", 0.05, 20.0, (1.0,)),
        Parameter("alpha", "identity", 0.0, 4.0, (0.1, 0.4)),
        Parameter("C_B", "log", 1e-9, 1e9, (0.1,), each="h"),
        Parameter("g_B", "log", 0.05, 20.0, (1.0,)),
        Parameter("beta", "identity", 0.0, 4.0, (0.1, 0.4)),
    ),
    columns=("N", "D"),
    vectors=("h",),
    predict=predict,
    source="Shukor et al. 2025 (arXiv 2507.09404), the two sums from memory; constants were not at hand",
    objective="log_huber",
    signed=("h",),
    linear=("E",),
    rescale=rescale,
    alternatives=("mixture_additive",),
)
