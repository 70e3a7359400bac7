"""The loss of a vocabulary: each model size has a floor, and the way to it takes data, of which large ones need more.

N: parameters without the vocabulary's; V: entries of the vocabulary; D: characters of training text; L: loss less
that of the vocabulary's unigram model, nats per token, usually negative (the comparison of Tao et al. 2024, arXiv
2407.13623). The cost of few parameters and that of few data meet in a sharp mean, not a sum: small models stop
gaining at once. The power 4 is fixed; left free it moves with E along a valley without a bottom.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales

SHARPNESS = 4.0


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    capacity = jnp.log(p["A"]) - p["alpha"] * jnp.log(columns["N"])
    data = jnp.log(p["B"]) - p["beta"] * (jnp.log(columns["D"]) + p["phi"] * jnp.log(columns["V"]))
    return p["E"] + jnp.exp(jnp.logaddexp(SHARPNESS * capacity, SHARPNESS * data) / SHARPNESS)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "E": p["E"] * scales["L"],
        "A": p["A"] * scales["L"] * scales["N"] ** p["alpha"],
        "B": p["B"] * scales["L"] * (scales["D"] * scales["V"] ** p["phi"]) ** p["beta"],
    }


LAW = Law(
    id="vocabulary",
    formula="L = E + ((A/N^alpha)^4 + (B/(D V^phi)^beta)^4)^(1/4)",
    response="L",
    parameters=(
        Parameter("E", "identity", -100.0, 10.0, (-1.5,)),
        Parameter("A", "log", 1e-8, 1e4, (0.5,)),
        Parameter("alpha", "identity", 0.0, 4.0, (0.05, 0.2, 0.5)),
        Parameter("B", "log", 1e-8, 1e4, (0.5,)),
        Parameter("beta", "identity", 0.01, 4.0, (0.1, 0.3, 0.8)),
        Parameter("phi", "identity", -5.0, 5.0, (-0.2,)),
    ),
    columns=("N", "V", "D"),
    predict=predict,
    source="form chosen here by held-out vocabularies and sizes; normalised loss: Tao et al. 2024 (arXiv 2407.13623)",
    objective="squares",
    signed=("L",),
    linear=("E",),
    rescale=rescale,
    alternatives=("vocabulary_tao",),
)
