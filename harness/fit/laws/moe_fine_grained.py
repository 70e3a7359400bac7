"""Mixtures of fine-grained experts: the cost of few parameters falls with granularity.

Krajewski et al. 2024 (arXiv 2402.07871). N: parameters without embeddings, at one expansion rate; G: granularity, the
width of an ordinary feed-forward layer over that of an expert; D: tokens; L: nats per token.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    coarse = p["g"] * jnp.exp(-p["gamma"] * jnp.log(columns["granularity"])) + p["a"]
    capacity = coarse * jnp.exp(-p["alpha"] * jnp.log(columns["N"]))
    return p["c"] + capacity + p["b"] * jnp.exp(-p["beta"] * jnp.log(columns["D"]))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    size = scales["L"] * scales["N"] ** p["alpha"]
    return p | {
        "c": p["c"] * scales["L"],
        "a": p["a"] * size,
        "g": p["g"] * size * scales["granularity"] ** p["gamma"],
        "b": p["b"] * scales["L"] * scales["D"] ** p["beta"],
    }


LAW = Law(
    id="moe_fine_grained",
    formula="L = c + (g/G^gamma + a)/N^alpha + b/D^beta, G the granularity",
    response="L",
    parameters=(
        Parameter("c", "log", 1e-8, 1.5, (0.5,), published=0.47),
        Parameter("a", "log", 1e-8, 1e4, (0.2,), published=18.1),
        Parameter("g", "log", 1e-8, 1e4, (0.05,), published=2.1),
        Parameter("gamma", "identity", 0.0, 4.0, (0.3, 0.8, 2.0), published=0.58),
        Parameter("alpha", "identity", 0.0, 4.0, (0.05, 0.15, 0.4, 1.0), published=0.115),
        Parameter("b", "log", 1e-8, 1e4, (0.2,), published=30.8),
        Parameter("beta", "identity", 0.0, 4.0, (0.05, 0.15, 0.4, 1.0), published=0.147),
    ),
    columns=("N", "granularity", "D"),
    predict=predict,
    source="Krajewski et al. 2024 (arXiv 2402.07871)",
    objective="log_huber",
    linear=("c", "a", "g", "b"),
    rescale=rescale,
)
