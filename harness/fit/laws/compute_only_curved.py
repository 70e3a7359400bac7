"""`compute_only` with what refutes it: the curvature q of the loss in log N at a given compute.

N* = k C^g is the best size for a budget. The law of arXiv 2404.19484 says q = 0, and then N* means nothing; a q whose
interval lies above zero refutes it. Besiroglu et al.'s constants give .034 nats for twice the best N at 1e19 FLOPs,
and .138 for four times.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import compute_only
from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales

# Twice the standard deviation between seeds of a small language model, in nats per token.
VISIBLE = 0.01


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    off = jnp.log(columns["N"]) - jnp.log(p["k"]) - p["g"] * compute_only.log_compute(columns)
    return compute_only.predict(p, columns) + p["q"] * off**2


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = compute_only.rescale(parameters, scales)
    log_k = jnp.log(p["k"]) + jnp.log(scales["N"]) - p["g"] * compute_only.log_unit(scales)
    return p | {"q": scales["L"] * p["q"], "k": jnp.exp(log_k)}


def plateau(parameters: Parameters, rise: float = VISIBLE) -> Float[Array, ""]:
    """How many times larger or smaller than the best N a model may be before its loss has risen by `rise`."""
    return jnp.exp(jnp.sqrt(rise / parameters["q"]))


LAW = Law(
    id="compute_only_curved",
    formula="L = a - b log C + q (log N - log(k C^g))^2, C = 6 N D",
    response="L",
    parameters=(
        *compute_only.PARAMETERS,
        Parameter("q", "identity", 0.0, 10.0, (0.01, 0.1)),
        Parameter("k", "log", 1e-12, 1e12, (0.1, 1.0)),
        Parameter("g", "identity", -1.0, 2.0, (0.3, 0.6)),
    ),
    columns=("N", "D"),
    predict=predict,
    source="a test of `compute_only` (arXiv 2404.19484): that law is q = 0",
    objective="squares",
    rescale=rescale,
    combinations=(
        Combination("q", lambda p: p["q"], 0.0),
        Combination("N/N* where L has risen by 0.01", plateau),
    ),
)
