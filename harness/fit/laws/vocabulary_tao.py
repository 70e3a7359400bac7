"""The loss of a vocabulary as a sum: parameters, parameters of the vocabulary, and data each have a term.

Tao et al. 2024 (arXiv 2407.13623). N: parameters without the vocabulary's; V: entries of the vocabulary; w: width of
an embedding, so that V w is the vocabulary's parameters; D: characters of training text; L: loss less that of the
vocabulary's unigram model, nats per token, usually negative.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    vocabulary = jnp.log(columns["V"]) + jnp.log(columns["w"])
    sizes = p["A1"] * jnp.exp(-p["alpha1"] * jnp.log(columns["N"])) + p["A2"] * jnp.exp(-p["alpha2"] * vocabulary)
    return sizes + p["B"] * jnp.exp(-p["beta"] * jnp.log(columns["D"])) - p["E"]


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p, loss = dict(parameters), scales["L"]
    return p | {
        "E": p["E"] * loss,
        "A1": p["A1"] * loss * scales["N"] ** p["alpha1"],
        "A2": p["A2"] * loss * (scales["V"] * scales["w"]) ** p["alpha2"],
        "B": p["B"] * loss * scales["D"] ** p["beta"],
    }


LAW = Law(
    id="vocabulary_tao",
    formula="L = -E + A1/N^alpha1 + A2/(V w)^alpha2 + B/D^beta",
    response="L",
    parameters=(
        Parameter("E", "identity", -10.0, 100.0, (1.5,)),
        Parameter("A1", "log", 1e-8, 1e4, (0.3,)),
        Parameter("alpha1", "identity", 0.0, 4.0, (0.1, 0.3, 0.8)),
        Parameter("A2", "log", 1e-8, 1e4, (0.1,)),
        Parameter("alpha2", "identity", 0.0, 4.0, (0.1, 0.3, 0.8)),
        Parameter("B", "log", 1e-8, 1e4, (0.3,)),
        Parameter("beta", "identity", 0.0, 4.0, (0.1, 0.3, 0.8)),
    ),
    columns=("N", "V", "w", "D"),
    predict=predict,
    source="Tao et al. 2024 (arXiv 2407.13623), the form from memory",
    objective="squares",
    signed=("L",),
    linear=("E", "A1", "A2", "B"),
    rescale=rescale,
)
