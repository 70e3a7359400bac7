"""Time of a training step, linear in the memory that it copies: t = c0 + sum_i c[i] x[i].

Inbar and Sernau (arXiv 2406.18922) predict step times by memory copies, not by FLOPs. t is seconds a step, without
compilation; the vector role x holds what a step copies (bytes of parameters, of activations, of scores, ...):
`--set x=parameter_bytes,activation_bytes`. With one column of FLOPs it is the rival law. Errors are relative, constants
not negative: a copy takes no less than no time.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return parameters["c0"] + jnp.sum(columns["x"] * parameters["c"], axis=-1)


LAW = Law(
    id="time_law",
    formula="t = c0 + sum_i c[i] x[i]",
    response="t",
    parameters=(
        Parameter("c0", "log", 1e-12, 1e6, (1e-6,)),
        # Raw units, seconds a byte or a FLOP: the start is the least value that a term may begin with.
        Parameter("c", "log", 1e-30, 1e6, (1e-22,), each="x"),
    ),
    columns=(),
    vectors=("x",),
    predict=predict,
    source="form: abstract of arXiv 2406.18922 (linear in memory copies); which copies it counts could not be checked",
    objective="log_squares",
    linear=("c0", "c"),
)
