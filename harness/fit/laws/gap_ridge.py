"""The law's collapse with the f of ridge regression on random features, trained short of what its data allow.

With v = u/u*, a share y of the N features is learned, y^b = v (1 - y), and f = (y/v)^beta: a power v^-beta_0 far below
u*, where data and time limit what is learned, and v^-beta far above, where N does; b = 1/(1 - beta_0/beta). With
beta = 1 and b the exponent of the spectrum it follows from the deterministic equivalent of random features at many
samples: z + ridge/kappa = P, kappa = g (1 - z/N) and z ~ g^(-1/b). It approaches its two branches at different rates,
v^(1/b) and 1/v, which `gap_broken` cannot: there 0.3 % of the gap is left, and beta_0 is high by 0.015.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import gap_broken
from harness.fit.laws.law import Columns, Parameters

# Newton's steps on an increasing function that is all but two lines: from the nearer one 5 end at 2e-14 for b up to 10.
STEPS = 5


def _learned(log_v: Float[Array, "rows"], b: Float[Array, ""]) -> Float[Array, "rows"]:
    """log y with b log y - log(1 - y) = log v."""
    w = jnp.where(log_v < 0, log_v / b, log_v)  # the logit of y
    for _ in range(STEPS):
        height = jax.nn.softplus(w) - b * jax.nn.softplus(-w) - log_v
        w = w - height / (b + (1.0 - b) * jax.nn.sigmoid(w))
    return -jax.nn.softplus(-w)


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    log_n, log_d = jnp.log(columns["N"]), jnp.log(columns["D"])
    log_v = log_d - p["z"] * log_n - jnp.log(p["u_star"])
    b = 1.0 / jnp.clip(1.0 - p["beta_0"] / p["beta"], 0.1, 10.0)
    return jnp.exp(jnp.log(p["A"]) - p["alpha"] * log_n + p["beta"] * (_learned(log_v, b) - log_v))


LAW = replace(
    gap_broken.LAW,
    id="gap_ridge",
    formula="G = A N^-alpha (y/v)^beta, y^b = v (1 - y), v = u/u_star, u = D/N^z, b = 1/(1 - beta_0/beta)",
    parameters=tuple(p for p in gap_broken.LAW.parameters if p.name != "s"),
    predict=predict,
    source="ridge regression on random features, its ridge falling slower than the samples grow; derived here",
    alternatives=("gap_broken",),
    shapes=(),
)
