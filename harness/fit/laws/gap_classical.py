"""The gap of classical theory: it grows with N and falls with D, and is infinite where the model can fit any data set.

A model of z = k N^p effective degrees of freedom fitted to D samples, which are distinct, has u = z/D, a held-out loss
of E/(1 - u) and a training loss of E (1 - u). For u << 1 the gap is 2 E k N^p/D, in which E and k are one constant.
p = 1 where every parameter is a degree of freedom and noise dominates the loss, and p = 2 - a for random features on a
noiseless task whose error falls as N^-(a-1). With --set D=U the samples are unique tokens; G in nats per token.
The law has no meaning at u >= 1, and no fit goes there.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales


def shape(u: Float[Array, "rows"]) -> Float[Array, "rows"]:
    """(2u - u^2)/(1 - u), the gap over E; infinite from u = 1 on."""
    inside = jnp.where(u < 1.0, u, 0.5)  # the branch not taken must have a derivative too
    return jnp.where(u < 1.0, inside * (2.0 - inside) / (1.0 - inside), jnp.inf)


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    u = jnp.exp(jnp.log(p["k"]) + p["p"] * jnp.log(columns["N"]) - jnp.log(columns["D"]))
    return p["E"] * shape(u)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {"E": p["E"] * scales["G"], "k": p["k"] * scales["D"] / scales["N"] ** p["p"]}


LAW = Law(
    id="gap_classical",
    formula="G = E (2u - u^2)/(1 - u), u = k N^p/D; -> 2 E k N^p/D for u << 1",
    response="G",
    parameters=(
        Parameter("E", "log", 1e-8, 1e8, (1.0, 30.0)),
        Parameter("k", "log", 1e-12, 1e4, (1e-6, 1e-4, 1e-2)),
        Parameter("p", "identity", -3.0, 5.0, (0.0, 0.4, 1.0)),
    ),
    columns=("N", "D"),
    predict=predict,
    source="degrees of freedom over rows (Akaike; Craven and Wahba's GCV); exact for ridgeless random features",
    objective="normal",
    contrast=True,
    rescale=rescale,
    combinations=(
        Combination("p", lambda p: p["p"], 1.0),
        Combination("log(2 E k)", lambda p: jnp.log(2.0) + jnp.log(p["E"]) + jnp.log(p["k"])),
    ),
)
