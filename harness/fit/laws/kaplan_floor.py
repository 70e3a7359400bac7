"""Kaplan's joint loss of parameters and tokens, with a floor.

The base law of loss-to-loss prediction (Brandfonbrener et al., arXiv 2411.12925), in which capacity and data are
coupled: L = E + ((A/N)^(alpha/beta) + B/D)^beta. With E = 0 it is L(N, D) of Kaplan et al. (arXiv 2001.08361), A and B
being their N_c and D_c. N parameters, D tokens, L nats per token. The paper fits one set of constants per corpus.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import _one_variable
from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    capacity = p["alpha"] / p["beta"] * (jnp.log(p["A"]) - jnp.log(columns["N"]))
    training = jnp.log(p["B"]) - jnp.log(columns["D"])
    return p["E"] + jnp.exp(p["beta"] * jnp.logaddexp(capacity, training))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "E": p["E"] * scales["L"],
        "A": p["A"] * scales["N"] * scales["L"] ** (1.0 / p["alpha"]),
        "B": p["B"] * scales["D"] * scales["L"] ** (1.0 / p["beta"]),
    }


LAW = Law(
    id="kaplan_floor",
    formula="L = E + ((A/N)^(alpha/beta) + B/D)^beta",
    response="L",
    parameters=(
        _one_variable.floor_parameter("E"),
        Parameter("A", "log", 1e-40, 1e10, (1e-8, 1e-4, 1e-2, 1.0)),
        Parameter("B", "log", 1e-40, 1e10, (1e-8, 1e-4, 1e-2, 1.0)),
        Parameter("alpha", "log", 0.01, 4.0, (0.1, 0.3, 0.7)),
        Parameter("beta", "log", 0.01, 4.0, (0.1, 0.3, 0.7)),
    ),
    columns=("N", "D"),
    predict=predict,
    source="form: Brandfonbrener et al. 2024 (arXiv 2411.12925) and their released code; constants are per corpus",
    objective="log_huber",
    linear=("E",),
    rescale=rescale,
    combinations=(Combination("beta/(alpha + beta)", lambda p: p["beta"] / (p["alpha"] + p["beta"])),),
)
