"""Generalization error of the best model, in the size of the training set: L = alpha D^beta + gamma, beta < 0.

Hestness et al. (arXiv 1712.00409). D is the number of training samples (m in the paper), L the validation loss or error
of the best model size at that D, gamma what more data do not remove. Changes of architecture move alpha and leave beta
where it is: fit `by_group`. Below some D the error is that of guessing, and the law does not hold there.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import _one_variable
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    return p["gamma"] + p["alpha"] * jnp.exp(p["beta"] * jnp.log(columns["D"]))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "alpha": p["alpha"] * scales["L"] / scales["D"] ** p["beta"],
        "gamma": p["gamma"] * scales["L"],
    }


LAW = Law(
    id="hestness",
    formula="L = alpha D^beta + gamma",
    response="L",
    parameters=(
        _one_variable.amplitude_parameter("alpha"),
        Parameter("beta", "identity", -4.0, 0.0, tuple(-x for x in _one_variable.EXPONENTS)),
        _one_variable.floor_parameter("gamma"),
    ),
    columns=("D",),
    predict=predict,
    source="form: Hestness et al. 2017 (arXiv 1712.00409); their exponents could not be checked and are not given here",
    objective="log_huber",
    linear=("alpha", "gamma"),
    rescale=rescale,
)
