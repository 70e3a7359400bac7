"""The loss of compute-optimal models as compute grows: a floor, and a power law above it (C in FLOPs, L in nats)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    return p["E"] + p["A"] * jnp.exp(-p["alpha"] * jnp.log(columns["flops"]))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {"E": p["E"] * scales["L"], "A": p["A"] * scales["L"] * scales["flops"] ** p["alpha"]}


LAW = Law(
    id="compute_power",
    formula="L = E + A/C^alpha, C in the role flops",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,)),
        Parameter("A", "log", 1e-8, 1e4, (0.3,)),
        Parameter("alpha", "identity", 0.0, 4.0, (0.02, 0.06, 0.15, 0.3, 0.6, 1.2)),
    ),
    columns=("flops",),
    predict=predict,
    source="form: Henighan et al. 2020 (arXiv 2010.14701), and Porian et al. 2024 (arXiv 2406.19146) on the optima of "
    "isoFLOP profiles",
    objective="log_huber",
    linear=("E", "A"),
    rescale=rescale,
)
