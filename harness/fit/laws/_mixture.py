"""What the laws of data mixtures share. h: weights of the domains, one column a domain, each row summing to 1."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.law import Columns, Parameter, Parameters, Scales

DOMAINS = (
    Parameter("C", "log", 1e-6, 1e6, (1.0, 10.0), each="h"),
    Parameter("g", "log", 1e-2, 20.0, (0.3, 1.0), each="h"),
)


def domain_term(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    """1 / sum_i C_i h_i^g_i: a domain in too small a share costs loss, and none without limit unless others help."""
    weights = columns["h"]
    some = weights > 0
    powers = jnp.where(some, jnp.exp(parameters["g"] * jnp.log(jnp.where(some, weights, 1.0))), 0.0)
    return 1.0 / (powers @ parameters["C"])


def rescaled_domains(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, "..."]]:
    """Floor and domain term in raw units."""
    return {"E": parameters["E"] * scales["L"], "C": parameters["C"] / scales["L"]}
