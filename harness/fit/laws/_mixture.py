"""What the laws of data mixtures share. h: weights of the domains, one column a domain, each row summing to 1."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Parameter, Parameters, Scales

# An exponent above 1 would let a domain help ever more with its share; without the limit, fits to few mixtures use it,
# and predict enormous losses for shares that they did not see.
DOMAINS = (
    Parameter("C", "log", 1e-4, 1e4, (1.0, 5.0), each="h"),
    Parameter("g", "log", 0.02, 1.0, (0.1, 0.3, 0.6), each="h"),
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
