"""An onset with a power of the distance: y = A (x - x_c)^beta above x_c, 0 below: the rival of `essential_singularity`.

x is any positive variable, y a response above zero, fitted on logs; see there for rows with y = 0.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.essential_singularity import ONSETS, above
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    distance, beyond = above(parameters, columns)
    return jnp.where(beyond, parameters["A"] * jnp.exp(parameters["beta"] * jnp.log(distance)), 0.0)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "A": p["A"] * scales["y"] / scales["x"] ** p["beta"],
        "x_c": p["x_c"] * scales["x"],
    }


LAW = Law(
    id="power_onset",
    formula="y = A (x - x_c)^beta above x_c, 0 below",
    response="y",
    parameters=(
        Parameter("A", "log", 1e-12, 1e12, (1.0,)),
        Parameter("beta", "log", 0.01, 30.0, (0.3, 1.0, 3.0)),
        Parameter("x_c", "identity", -10.0, 1.0, ONSETS),
    ),
    columns=("x",),
    predict=predict,
    source="the usual form of a continuous transition; the rival of `essential_singularity`",
    objective="log_squares",
    linear=("A",),
    rescale=rescale,
)
