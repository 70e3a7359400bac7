"""Loss at a time budget: L = E + A/N^alpha + B/D^beta with D = T/t, exponents held fixed.

Inbar and Sernau (arXiv 2406.18922) refit the three coefficients of Hoffmann's law with its exponents held, and put in
the tokens that a time allows. N parameters, T seconds of training, t seconds a token (a step's time, as `time_law`
predicts it, over its tokens); L nats per token. A table with tokens instead of times has D = T and t = 1.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import _one_variable
from harness.fit.laws.law import Columns, Law, Parameters, Scales

ALPHA, BETA = 0.34, 0.28


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    log_tokens = jnp.log(columns["T"]) - jnp.log(columns["t"])
    return p["E"] + p["A"] * jnp.exp(-ALPHA * jnp.log(columns["N"])) + p["B"] * jnp.exp(-BETA * log_tokens)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "E": p["E"] * scales["L"],
        "A": p["A"] * scales["L"] * scales["N"] ** ALPHA,
        "B": p["B"] * scales["L"] * (scales["T"] / scales["t"]) ** BETA,
    }


LAW = Law(
    id="time_loss",
    formula=f"L = E + A/N^{ALPHA} + B/(T/t)^{BETA}",
    response="L",
    parameters=(
        _one_variable.floor_parameter("E"),
        _one_variable.amplitude_parameter("A"),
        _one_variable.amplitude_parameter("B"),
    ),
    columns=("N", "T", "t"),
    predict=predict,
    source="arXiv 2406.18922; exponents: Hoffmann et al. 2022 (arXiv 2203.15556), rounded as published",
    objective="log_huber",
    linear=("E", "A", "B"),
    rescale=rescale,
)
