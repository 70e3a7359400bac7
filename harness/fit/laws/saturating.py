"""A loss that saturates at the uninformed baseline, with undercapacity, undertraining and overfitting in one sum."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    log_n, log_d, log_u = (jnp.log(columns[role]) for role in ("N", "D", "U"))
    capacity = jnp.log(p["a"]) - p["alpha"] * log_n
    training = jnp.log(p["b"]) - p["beta"] * log_d
    overfitting = jnp.log(p["c"]) + p["gamma"] * log_n - p["delta"] * log_u
    h = jnp.exp(jnp.logaddexp(capacity, jnp.logaddexp(training, overfitting)))
    return p["E"] + p["span"] * h / (1.0 + h)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "E": p["E"] * scales["L"],
        "span": p["span"] * scales["L"],
        "a": p["a"] * scales["N"] ** p["alpha"],
        "b": p["b"] * scales["D"] ** p["beta"],
        "c": p["c"] * scales["U"] ** p["delta"] / scales["N"] ** p["gamma"],
    }


LAW = Law(
    id="saturating",
    formula="L = E + span h/(1 + h), h = a/N^alpha + b/D^beta + c N^gamma/U^delta, span = L0 - E",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,)),
        Parameter("span", "log", 1e-3, 100.0, (3.0,)),
        Parameter("a", "log", 1e-8, 1e4, (0.05, 0.3)),
        Parameter("alpha", "identity", 0.0, 4.0, (0.3,)),
        Parameter("b", "log", 1e-8, 1e4, (0.05, 0.3)),
        Parameter("beta", "identity", 0.0, 4.0, (0.3,)),
        Parameter("c", "log", 1e-10, 1e4, (1e-3, 0.1)),
        Parameter("gamma", "identity", 0.0, 4.0, (0.2, 1.0)),
        Parameter("delta", "identity", 0.0, 4.0, (0.5, 1.5)),
    ),
    columns=("N", "D", "U"),
    predict=predict,
    source="form: Bryant and Liu 2026 (arXiv 2605.09189); D tokens processed, U unique; L0 the uninformed baseline",
    objective="log_huber",
    rescale=rescale,
)
