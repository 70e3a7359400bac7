"""Optimal data mixtures, additive: the mixture's cost does not depend on scale, and so neither does the best mixture.

Shukor et al. 2025 (arXiv 2507.09404). h: weights of the training domains, which sum to 1 and may be 0; N: parameters;
D: tokens; L: nats per token on one target. One fit per target. Of tables at one D, `mixture_additive_n` leaves D out.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws._mixture import DOMAINS, domain_term, rescaled_domains
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    scale = p["A"] * jnp.exp(-p["alpha"] * jnp.log(columns["N"])) + p["B"] * jnp.exp(-p["beta"] * jnp.log(columns["D"]))
    return p["E"] + scale + domain_term(p, columns)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        **rescaled_domains(p, scales),
        "A": p["A"] * scales["L"] * scales["N"] ** p["alpha"],
        "B": p["B"] * scales["L"] * scales["D"] ** p["beta"],
    }


LAW = Law(
    id="mixture_additive",
    formula="L = E + A/N^alpha + B/D^beta + 1/sum_i C_i h_i^g_i",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,)),
        Parameter("A", "log", 1e-8, 1e4, (0.1,)),
        Parameter("alpha", "identity", 0.0, 4.0, (0.1, 0.4)),
        Parameter("B", "log", 1e-8, 1e4, (0.1,)),
        Parameter("beta", "identity", 0.0, 4.0, (0.1, 0.4)),
        *DOMAINS,
    ),
    columns=("N", "D"),
    vectors=("h",),
    predict=predict,
    source="Shukor et al. 2025 (arXiv 2507.09404); constants per domain were not at hand",
    objective="log_huber",
    signed=("h",),
    linear=("E", "A", "B"),
    rescale=rescale,
    alternatives=("mixture_joint",),
)
