"""Parallel scaling: P streams of one model, their outputs combined, act as a model that is 1 + k ln P times as large.

Chen et al. 2025 (arXiv 2505.10475). N: parameters without embeddings; P: parallel streams, 1 for an ordinary model;
L: nats per token.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    log_size = jnp.log(columns["N"]) + jnp.log1p(p["k"] * columns["log_P"])
    return p["E"] + jnp.exp(p["alpha"] * (jnp.log(p["A"]) - log_size))


def derive(columns: Columns) -> dict[str, np.ndarray]:
    """Streams are counted from one, so they cannot be centred."""
    return {"log_P": np.log(columns["P"])}


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    p["A"] = p["A"] * scales["N"] * scales["L"] ** (1.0 / p["alpha"])
    return p | {"E": p["E"] * scales["L"]}


LAW = Law(
    id="parallel_scaling",
    formula="L = E + (A/(N (k ln P + 1)))^alpha",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,)),
        Parameter("A", "log", 1e-12, 1e4, (1e-4, 1e-2, 0.3)),
        Parameter("alpha", "identity", 0.01, 4.0, (0.1, 0.25, 0.6)),
        Parameter("k", "log", 1e-4, 1e3, (0.1, 0.6)),
    ),
    columns=("N", "P"),
    predict=predict,
    derive=derive,
    source="form: Chen et al. 2025 (arXiv 2505.10475); its constants were not at hand",
    objective="log_huber",
    linear=("E",),
    rescale=rescale,
    alternatives=("parallel_additive",),
)
