"""A gap that knows nothing of N: a power law in tokens alone, which one-variable noise or memorisation would give."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return jnp.exp(jnp.log(parameters["a"]) - parameters["b"] * jnp.log(columns["D"]))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    return dict(parameters) | {"a": parameters["a"] * scales["G"] * scales["D"] ** parameters["b"]}


LAW = Law(
    id="gap_n_free",
    formula="G = a D^-b (unique tokens instead of processed ones: --set D=U)",
    response="G",
    parameters=(
        Parameter("a", "log", 1e-8, 1e8, (1.0,)),
        Parameter("b", "identity", -3.0, 6.0, (0.2, 0.5, 1.0)),
    ),
    columns=("D",),
    predict=predict,
    source="the simplest rival; `gap` reduces to it where alpha = z*beta and every u exceeds u_star",
    objective="normal",
    contrast=True,
    rescale=rescale,
)
