"""An onset without any power of the distance: y = A exp(-c/(x - x_c)^(1/2)) above x_c, 0 below.

The abstract of a physics paper listed among the sources gives this form for an order parameter; here it is a candidate
for abilities that appear at a scale, beside `power_onset`. x is any positive variable, y a response above zero.

The fit is on logs, in which the onset is a barrier: no row at or below x_c has a prediction, so x_c stays below every
row. Rows with y = 0 cannot be used (and are dropped with a warning); they say no more than that x_c is not below them.
The published way is the same one: (ln A/y)^-2 is a straight line in x, with its root at x_c.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales

# In units of the geometric mean of x. Starts beyond the smallest x fail at once and cost nothing.
ONSETS = (-1.0, 0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


def above(parameters: Parameters, columns: Columns):
    """Distance from the onset, 1 where there is none, and which rows lie above it."""
    distance = columns["x"] - parameters["x_c"]
    return jnp.where(distance > 0.0, distance, 1.0), distance > 0.0


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    distance, beyond = above(parameters, columns)
    return jnp.where(beyond, parameters["A"] * jnp.exp(-parameters["c"] / jnp.sqrt(distance)), 0.0)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "A": p["A"] * scales["y"],
        "c": p["c"] * jnp.sqrt(scales["x"]),
        "x_c": p["x_c"] * scales["x"],
    }


LAW = Law(
    id="essential_singularity",
    formula="y = A exp(-c/(x - x_c)^(1/2)) above x_c, 0 below",
    response="y",
    parameters=(
        Parameter("A", "log", 1e-8, 1e12, (1.0,)),
        Parameter("c", "log", 1e-6, 1e3, (0.1, 0.5, 2.0)),
        Parameter("x_c", "identity", -10.0, 1.0, ONSETS),
    ),
    columns=("x",),
    predict=predict,
    source="form: abstract of the source's physics paper on a transition with an essential singularity; no constants",
    objective="log_squares",
    linear=("A",),
    rescale=rescale,
    alternatives=("power_onset",),
)
