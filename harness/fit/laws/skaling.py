"""A power of the sum of two power laws, over a floor (arXiv 2608.07222; form from a secondary source).

With k = 1 it is `chinchilla`; with b = 1, E = 0 it is `kaplan`. k < 1 couples N and D: where one term is the larger
one, more of the other helps less than in a plain sum. N and D are counts, L in nats per token (or bits per character).
The loss falls as N^-(alpha k) and D^-(beta k) where one term is alone.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    capacity = jnp.log(p["A"]) - p["alpha"] * jnp.log(columns["N"])
    training = jnp.log(p["B"]) - p["beta"] * jnp.log(columns["D"])
    return p["E"] + jnp.exp(p["k"] * jnp.logaddexp(capacity, training))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    unit = scales["L"] ** (1.0 / p["k"])
    return p | {
        "E": p["E"] * scales["L"],
        "A": p["A"] * unit * scales["N"] ** p["alpha"],
        "B": p["B"] * unit * scales["D"] ** p["beta"],
    }


LAW = Law(
    id="skaling",
    formula="L = (A/N^alpha + B/D^beta)^k + E",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,)),
        Parameter("A", "log", 1e-12, 1e6, (0.02, 0.2)),
        Parameter("B", "log", 1e-12, 1e6, (0.02, 0.2)),
        Parameter("alpha", "identity", 0.0, 8.0, (0.3, 0.8, 1.5)),
        Parameter("beta", "identity", 0.0, 8.0, (0.3, 0.8, 1.5)),
        Parameter("k", "log", 0.05, 5.0, (0.3, 0.6, 1.0)),
    ),
    columns=("N", "D"),
    predict=predict,
    source="form: arXiv 2608.07222, which reports k of .31 to .45 (from a secondary source)",
    objective="log_huber",
    linear=("E",),
    rescale=rescale,
    combinations=(
        Combination("alpha*k", lambda p: p["alpha"] * p["k"]),
        Combination("beta*k", lambda p: p["beta"] * p["k"]),
        Combination("beta/(alpha + beta)", lambda p: p["beta"] / (p["alpha"] + p["beta"])),
    ),
)
