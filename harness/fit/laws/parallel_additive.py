"""Parallel streams as a term of their own: what they gain does not depend on the model's size.

Roles as in `parallel_scaling`. On the public runs (Chen et al. 2025, arXiv 2505.10475) it predicts more streams and
larger models than were fitted better than the published form does, on both corpora.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    capacity = p["A"] * jnp.exp(-p["alpha"] * jnp.log(columns["N"]))
    return p["E"] + capacity + p["B"] * jnp.exp(-p["beta"] * jnp.log(columns["P"]))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "E": p["E"] * scales["L"],
        "A": p["A"] * scales["L"] * scales["N"] ** p["alpha"],
        "B": p["B"] * scales["L"] * scales["P"] ** p["beta"],
    }


LAW = Law(
    id="parallel_additive",
    formula="L = E + A/N^alpha + B/P^beta",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,)),
        Parameter("A", "log", 1e-8, 1e4, (0.3,)),
        Parameter("alpha", "identity", 0.0, 4.0, (0.1, 0.25, 0.6)),
        Parameter("B", "log", 1e-8, 1e4, (0.03,)),
        Parameter("beta", "identity", 0.01, 6.0, (0.3, 0.8, 1.5)),
    ),
    columns=("N", "P"),
    predict=predict,
    source="form chosen here by held-out rows, beside `parallel_scaling`",
    objective="log_huber",
    linear=("E", "A", "B"),
    rescale=rescale,
)
