"""Optimal data mixtures, additive, for runs that all saw as many tokens (or as many for their size).

The law of `mixture_additive` (Shukor et al. 2025, arXiv 2507.09404) without its term in D, which such runs cannot
tell from E.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws._mixture import DOMAINS, domain_term, rescaled_domains
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    return p["E"] + p["A"] * jnp.exp(-p["alpha"] * jnp.log(columns["N"])) + domain_term(p, columns)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {**rescaled_domains(p, scales), "A": p["A"] * scales["L"] * scales["N"] ** p["alpha"]}


LAW = Law(
    id="mixture_additive_n",
    formula="L = E + A/N^alpha + 1/sum_i C_i h_i^g_i",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,)),
        Parameter("A", "log", 1e-8, 1e4, (0.1,)),
        Parameter("alpha", "identity", 0.0, 4.0, (0.1, 0.4)),
        *DOMAINS,
    ),
    columns=("N",),
    vectors=("h",),
    predict=predict,
    source="Shukor et al. 2025 (arXiv 2507.09404), without the term in D",
    objective="log_huber",
    signed=("h",),
    linear=("E", "A"),
    rescale=rescale,
)
