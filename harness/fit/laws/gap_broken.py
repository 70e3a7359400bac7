"""A crossover between two power laws in D: the law `gap` with a slope below u* as well, and its kink rounded.

f(u) = (u/u*)^-beta_0 (1 + (u/u*)^s)^(-(beta - beta_0)/s). beta_0 = 0 is `gap_smooth`, and s to infinity a kink. Ridge
regression on random features that is trained for a time that grows with D has beta_0 = 1 - 1/z and beta = 1.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import gap
from harness.fit.laws.law import Columns, Combination, Parameter, Parameters


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    log_n, log_d = jnp.log(columns["N"]), jnp.log(columns["D"])
    log_ratio = log_d - p["z"] * log_n - jnp.log(p["u_star"])
    log_f = -p["beta_0"] * log_ratio - (p["beta"] - p["beta_0"]) / p["s"] * jax.nn.softplus(p["s"] * log_ratio)
    return jnp.exp(jnp.log(p["A"]) - p["alpha"] * log_n + log_f)


LAW = replace(
    gap.LAW,
    id="gap_broken",
    formula="G = A N^-alpha (u/u_star)^-beta_0 (1 + (u/u_star)^s)^(-(beta - beta_0)/s), u = D/N^z",
    parameters=(
        *(replace(p, published=None) for p in gap.PARAMETERS),
        Parameter("beta_0", "identity", -2.0, 5.0, (0.0, 0.4)),
        Parameter("s", "log", 0.1, 100.0, (1.0, 3.0)),
    ),
    predict=predict,
    source="two power laws joined smoothly; exact in the limits of ridge regression on random features",
    combinations=(
        Combination("beta", lambda p: p["beta"]),
        Combination("alpha - z*beta", lambda p: p["alpha"] - p["z"] * p["beta"]),
        Combination("alpha - z*beta_0", lambda p: p["alpha"] - p["z"] * p["beta_0"]),
    ),
    alternatives=("gap_smooth",),
    shapes=("s",),
)
