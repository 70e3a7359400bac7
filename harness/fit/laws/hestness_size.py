"""Size of the best model for a training set: N = alpha D^beta.

Hestness et al. (arXiv 1712.00409): s(m), the parameters of the model that generalizes best from D samples, grows as a
power below one, so that models grow more slowly than data. A row a training set, N the best size there.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return parameters["alpha"] * jnp.exp(parameters["beta"] * jnp.log(columns["D"]))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {"alpha": p["alpha"] * scales["N"] / scales["D"] ** p["beta"]}


LAW = Law(
    id="hestness_size",
    formula="N = alpha D^beta",
    response="N",
    parameters=(
        Parameter("alpha", "log", 1e-8, 1e8, (1.0,)),
        Parameter("beta", "identity", -4.0, 4.0, (0.3, 0.6, 1.0)),
    ),
    columns=("D",),
    predict=predict,
    source="form: Hestness et al. 2017 (arXiv 1712.00409); their exponents could not be checked and are not given here",
    objective="log_squares",
    linear=("alpha",),
    rescale=rescale,
)
