"""Loss as a straight line in the log of compute, whatever its split into parameters and tokens (arXiv 2404.19484).

The paper's response is bits per character; any loss will do. C = 6 N D. The form is from memory of the paper, and none
of its constants is used. It has no floor, and it says that every shape of a budget is as good as any other;
`compute_only_curved` adds the term that refutes it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def log_compute(columns: Columns) -> Float[Array, "rows"]:
    return jnp.log(6.0) + jnp.log(columns["N"]) + jnp.log(columns["D"])


def log_unit(scales: Scales) -> Float[Array, ""]:
    return jnp.log(scales["N"]) + jnp.log(scales["D"])


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return parameters["a"] - parameters["b"] * log_compute(columns)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {"a": scales["L"] * (p["a"] + p["b"] * log_unit(scales)), "b": scales["L"] * p["b"]}


PARAMETERS = (
    Parameter("a", "identity", -300.0, 300.0, (1.0,)),
    Parameter("b", "identity", -10.0, 10.0, (0.02,)),
)

LAW = Law(
    id="compute_only",
    formula="L = a - b log C, C = 6 N D",
    response="L",
    parameters=PARAMETERS,
    columns=("N", "D"),
    predict=predict,
    source="form from memory: More Compute Is What You Need (arXiv 2404.19484); no constants of the paper are used",
    objective="squares",
    rescale=rescale,
    alternatives=("compute_only_curved",),
)
