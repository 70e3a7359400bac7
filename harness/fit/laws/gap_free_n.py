"""A gap that is a product of a power of N and a power of tokens, without any crossover."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    return jnp.exp(jnp.log(p["a"]) + p["c"] * jnp.log(columns["N"]) - p["b"] * jnp.log(columns["D"]))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = parameters
    return dict(p) | {"a": p["a"] * scales["G"] * scales["D"] ** p["b"] / scales["N"] ** p["c"]}


LAW = Law(
    id="gap_free_n",
    formula="G = a N^c D^-b",
    response="G",
    parameters=(
        Parameter("a", "log", 1e-8, 1e8, (1.0,)),
        Parameter("c", "identity", -5.0, 5.0, (-0.3, 0.0, 0.5)),
        Parameter("b", "identity", -3.0, 6.0, (0.2, 0.5, 1.0)),
    ),
    columns=("N", "D"),
    predict=predict,
    source="the crossover-free rival; `gap` with every u above u_star has c = z*beta - alpha and b = beta",
    objective="normal",
    contrast=True,
    rescale=rescale,
)
