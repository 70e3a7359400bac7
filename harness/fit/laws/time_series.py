"""Loss of time-series foundation models on one axis: L = (X0/X)^alpha.

Yao et al. (arXiv 2410.12360): X is parameters, tokens or compute (`--set X=...`), L the negative log likelihood or a
percentage error, above zero; in distribution and out of it separately (`group`), for each architecture. No floor.
`harness.fit.shared.exponents` fits groups together and tests the ratio of their exponents.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    return jnp.exp(p["alpha"] * (jnp.log(p["X0"]) - jnp.log(columns["X"])))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {"X0": p["X0"] * scales["X"] * scales["L"] ** (1.0 / p["alpha"])}


LAW = Law(
    id="time_series",
    formula="L = (X0/X)^alpha",
    response="L",
    parameters=(
        Parameter("X0", "log", 1e-40, 1e40, (1.0,)),
        Parameter("alpha", "log", 1e-4, 4.0, (0.03, 0.1, 0.3)),
    ),
    columns=("X",),
    predict=predict,
    source="Yao et al. 2024 (arXiv 2410.12360); form from memory, no constants published that could be checked",
    objective="log_squares",
    rescale=rescale,
)
