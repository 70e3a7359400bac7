"""Chinchilla's loss times a factor of the shape R = w/d, width over number of layers (arXiv 2501.18107).

w is the width (d_model), d the number of layers, N and D counts, L in nats per token. The factor is monotone in R: the
law cannot have a best shape, and residuals that are U-shaped in R speak against it. The paper sets alpha = beta = gamma
(`aspect_ratio_tied`, from a secondary source).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import chinchilla
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    log_shape = jnp.log(columns["w"]) - jnp.log(columns["d"])
    factor = 1.0 + parameters["eps"] * jnp.exp(parameters["gamma"] * log_shape)
    return chinchilla.predict(parameters, columns) * factor


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = chinchilla.rescale(parameters, scales)
    return p | {"eps": p["eps"] * (scales["d"] / scales["w"]) ** p["gamma"]}


LAW = Law(
    id="aspect_ratio",
    formula="L = (E + A/N^alpha + B/D^beta) (1 + eps R^gamma), R = w/d",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,)),
        Parameter("A", "log", 1e-8, 1e4, (0.1,)),
        Parameter("B", "log", 1e-8, 1e4, (0.1,)),
        Parameter("alpha", "identity", 0.0, 4.0, (0.15, 0.3, 0.6, 1.0)),
        Parameter("beta", "identity", 0.0, 4.0, (0.15, 0.3, 0.6, 1.0)),
        Parameter("eps", "log", 1e-6, 10.0, (0.003, 0.05)),
        Parameter("gamma", "identity", -3.0, 3.0, (-0.8, 0.3, 1.0)),
    ),
    columns=("N", "D", "w", "d"),
    predict=predict,
    source="Scaling Inference-Efficient Language Models (arXiv 2501.18107), form; constants not at hand",
    objective="squares",
    linear=("E", "A", "B"),
    rescale=rescale,
)
