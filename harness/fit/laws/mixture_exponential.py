"""Data mixing laws: the loss on a domain falls exponentially with the weights of the domains that help it.

Ye et al. 2024 (arXiv 2403.16952). h: weights of the training domains, which sum to 1 and may be 0; L: nats per token
on one domain. One fit per domain and scale. The paper's factor k is inside t: with weights that sum to 1, k exp(sum
t_i h_i) is exp(sum (t_i + ln k) h_i).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return parameters["c"] + jnp.exp(columns["h"] @ parameters["t"])


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {"c": p["c"] * scales["L"], "t": p["t"] + jnp.log(scales["L"])}


LAW = Law(
    id="mixture_exponential",
    formula="L = c + exp(sum_i t_i h_i), k inside t",
    response="L",
    parameters=(
        Parameter("c", "log", 1e-8, 1.5, (0.5,)),
        Parameter("t", "identity", -60.0, 10.0, (-1.0, -3.0, -6.0), each="h"),
    ),
    columns=(),
    vectors=("h",),
    predict=predict,
    source="Ye et al. 2024 (arXiv 2403.16952), with k inside t",
    objective="log_huber",
    signed=("h",),
    linear=("c",),
    rescale=rescale,
)
