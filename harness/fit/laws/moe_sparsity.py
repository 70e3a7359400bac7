"""Sparsity in mixtures of experts: more experts act as a larger model, and tokens limit what any size can reach.

N: active parameters; P: total over active parameters; D: tokens that the weights were trained on, those of the dense
checkpoint included where a model was upcycled from one; L: nats per token. The effective size N P^rho stands in the
loss of Kaplan et al. 2020 (arXiv 2001.08361), whose terms do not add up: with few tokens, size stops helping. On
upcycled models (Liew et al. 2025, arXiv 2502.03009) it predicts the largest base model and more tokens better than sums
of terms do, and a smaller step in size about as well.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    log_size = jnp.log(columns["N"]) + p["rho"] * jnp.log(columns["P"])
    capacity = p["alpha"] / p["beta"] * (jnp.log(p["A"]) - log_size)
    return p["E"] + jnp.exp(p["beta"] * jnp.logaddexp(capacity, jnp.log(p["B"]) - jnp.log(columns["D"])))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "E": p["E"] * scales["L"],
        "A": p["A"] * scales["N"] * scales["P"] ** p["rho"] * scales["L"] ** (1.0 / p["alpha"]),
        "B": p["B"] * scales["D"] * scales["L"] ** (1.0 / p["beta"]),
    }


LAW = Law(
    id="moe_sparsity",
    formula="L = E + ((A/(N P^rho))^(alpha/beta) + B/D)^beta",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.3,)),
        Parameter("A", "log", 1e-12, 1e6, (0.1, 1.0)),
        Parameter("alpha", "identity", 0.01, 4.0, (0.1, 0.3)),
        Parameter("rho", "identity", -2.0, 3.0, (0.0, 0.3)),
        Parameter("B", "log", 1e-12, 1e6, (0.3,)),
        Parameter("beta", "identity", 0.01, 4.0, (0.1, 0.3)),
    ),
    columns=("N", "P", "D"),
    predict=predict,
    source="form: Kaplan et al. 2020 (arXiv 2001.08361) with an effective size, chosen here by held-out rows",
    objective="log_huber",
    linear=("E",),
    rescale=rescale,
    alternatives=("moe_sparsity_abnar",),
)
