"""The rectified law of fine-tuning: what pretraining already taught counts as data, so the loss first falls slowly.

Lin et al. 2024 (arXiv 2402.02314). D: fine-tuning samples, which may be 0; D_l: what was learned before, as
samples^beta; L: nats per token after fine-tuning. Its sizes are per model and dataset: fit each pair by itself.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    some = columns["D"] > 0
    log_samples = jnp.log(jnp.where(some, columns["D"], 1.0))
    learned = p["D_l"] + jnp.where(some, jnp.exp(p["beta"] * log_samples), 0.0)
    return p["E"] + p["B"] / learned


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {"E": p["E"] * scales["L"], "B": p["B"] * scales["L"]}


LAW = Law(
    id="rectified",
    formula="L = B/(D_l + D^beta) + E",
    response="L",
    parameters=(
        Parameter("B", "log", 1e-8, 1e15, (1.0,)),
        Parameter("D_l", "log", 1e-6, 1e15, (1.0, 10.0, 100.0, 1e4)),
        Parameter("beta", "identity", 0.01, 3.0, (0.2, 0.4, 0.6, 0.9)),
        Parameter("E", "log", 1e-8, 1.5, (0.3,)),
    ),
    columns=("D",),
    predict=predict,
    source="Lin et al. 2024 (arXiv 2402.02314); constants differ per model and dataset",
    objective="log_squares",
    signed=("D",),
    linear=("B", "E"),
    rescale=rescale,
)
