"""The law's collapse with the f of classical theory: D falls to a threshold u* N^z, where the model fits any data set.

f(u) = (2v - v^2)/(1 - v), v = (u/u*)^-beta: with beta = 1, v is the share of degrees of freedom in the samples, the
held-out loss E/(1 - v) and the training loss E (1 - v) for E = A N^-alpha; exact for ridgeless regression on N random
features, with u* = 1 and z = 1. The gap falls as 2 v far above the threshold, where only beta, alpha - z*beta and
the height are identified. There is no law at u <= u*. `gap_classical` is its case alpha = 0, beta = 1.
"""

from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import gap, gap_classical
from harness.fit.laws.law import Columns, Parameters


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    log_n, log_d = jnp.log(columns["N"]), jnp.log(columns["D"])
    v = jnp.exp(-p["beta"] * (log_d - p["z"] * log_n - jnp.log(p["u_star"])))
    return jnp.exp(jnp.log(p["A"]) - p["alpha"] * log_n) * gap_classical.shape(v)


LAW = replace(
    gap.LAW,
    id="gap_threshold",
    formula="G = A N^-alpha (2v - v^2)/(1 - v), v = (u/u_star)^-beta, u = D/N^z; -> 2 A N^-alpha v for u >> u_star",
    parameters=tuple(
        replace(p, published=None, starts=(1e-5, 1e-3, 5e-2, 1.0) if p.name == "u_star" else p.starts)
        for p in gap.PARAMETERS
    ),
    predict=predict,
    source="degrees of freedom over rows (Akaike; Craven and Wahba's GCV); exact for ridgeless random features",
    combinations=tuple(replace(c, published=None) for c in gap.COMBINATIONS[:3]),
    regimes=None,
    alternatives=(),
)
