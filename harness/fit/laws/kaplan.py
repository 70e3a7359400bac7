"""Kaplan et al.'s loss in parameters and tokens (arXiv 2001.08361, equation 1.5).

N is the count of parameters without embeddings, D the tokens of the training set, L in nats per token. The law has no
floor: with unlimited N and D its loss goes to zero, so that it cannot hold for text of positive entropy, and beyond
the range of its rows it foretells too low a loss. `skaling` is the same sum within a power, with a floor.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    capacity = p["alpha_N"] / p["alpha_D"] * (jnp.log(p["N_c"]) - jnp.log(columns["N"]))
    return jnp.exp(p["alpha_D"] * jnp.logaddexp(capacity, jnp.log(p["D_c"]) - jnp.log(columns["D"])))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "N_c": p["N_c"] * scales["N"] * scales["L"] ** (1.0 / p["alpha_N"]),
        "D_c": p["D_c"] * scales["D"] * scales["L"] ** (1.0 / p["alpha_D"]),
    }


LAW = Law(
    id="kaplan",
    formula="L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D",
    response="L",
    parameters=(
        Parameter("N_c", "log", 1e-80, 1e80, (1e-3, 0.1), published=6.4e13),
        Parameter("D_c", "log", 1e-80, 1e80, (1e-2, 0.3), published=1.8e13),
        Parameter("alpha_N", "log", 0.005, 2.0, (0.05, 0.12, 0.3), published=0.076),
        Parameter("alpha_D", "log", 0.005, 2.0, (0.05, 0.12, 0.3), published=0.103),
    ),
    columns=("N", "D"),
    predict=predict,
    source="Kaplan et al. 2020 (arXiv 2001.08361), L(N, D): N without embeddings; no floor E",
    objective="log_huber",
    rescale=rescale,
    combinations=(Combination("alpha_N/alpha_D", lambda p: p["alpha_N"] / p["alpha_D"], 0.076 / 0.103),),
)
