"""The law `gap` with its kink rounded: f(u) = (1 + (u/u*)^s)^(-beta/s); s to infinity is the kink."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import gap
from harness.fit.laws.law import Columns, Parameter, Parameters


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    log_n, log_d = jnp.log(columns["N"]), jnp.log(columns["D"])
    log_ratio = log_d - p["z"] * log_n - jnp.log(p["u_star"])
    log_f = -p["beta"] / p["s"] * jax.nn.softplus(p["s"] * log_ratio)
    return jnp.exp(jnp.log(p["A"]) - p["alpha"] * log_n + log_f)


LAW = replace(
    gap.LAW,
    id="gap_smooth",
    formula="G = A N^-alpha (1 + (u/u_star)^s)^(-beta/s), u = D/N^z; s to infinity is the kink of `gap`",
    parameters=(*gap.PARAMETERS, Parameter("s", "log", 0.1, 100.0, (3.0,))),
    predict=predict,
    source="the kinked law of clawRxiv 2604.02022, rounded; the kink is the limit s to infinity",
    alternatives=(),
    shapes=("s",),
)
