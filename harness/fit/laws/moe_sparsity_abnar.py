"""Sparsity in mixtures of experts: the terms of N and D, a cost of sparsity, and a cost that sparsity and size share.

Abnar et al. 2025 (arXiv 2501.12370). N: total parameters; P = 1/(1 - S), S the share of the experts that a token does
not use, so P is near total over active parameters; D: tokens; L: nats per token. A negative lambda means that
sparsity helps at fixed N_total/P^(delta/gamma), which is near the active parameters.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    log_n, log_d, log_p = jnp.log(columns["N"]), jnp.log(columns["D"]), jnp.log(columns["P"])
    own = p["a"] * jnp.exp(-p["alpha"] * log_n) + p["b"] * jnp.exp(-p["beta"] * log_d)
    sparse = p["c"] * jnp.exp(p["lambda"] * log_p) + p["d"] * jnp.exp(p["delta"] * log_p - p["gamma"] * log_n)
    return p["e"] + own + sparse


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p, loss = dict(parameters), scales["L"]
    return p | {
        "a": p["a"] * loss * scales["N"] ** p["alpha"],
        "b": p["b"] * loss * scales["D"] ** p["beta"],
        "c": p["c"] * loss / scales["P"] ** p["lambda"],
        "d": p["d"] * loss * scales["N"] ** p["gamma"] / scales["P"] ** p["delta"],
        "e": p["e"] * loss,
    }


LAW = Law(
    id="moe_sparsity_abnar",
    formula="L = e + a/N^alpha + b/D^beta + c P^lambda + d P^delta/N^gamma, P = 1/(1 - sparsity)",
    response="L",
    parameters=(
        Parameter("e", "log", 1e-8, 1.5, (0.3,), published=0.94),
        Parameter("a", "log", 1e-8, 1e4, (0.1,), published=16612.5),
        Parameter("alpha", "identity", 0.0, 4.0, (0.4,), published=0.5962),
        Parameter("b", "log", 1e-8, 1e4, (0.1,), published=5455.67),
        Parameter("beta", "identity", 0.0, 4.0, (0.15, 0.4), published=0.3954),
        Parameter("c", "log", 1e-8, 1e4, (0.1,), published=0.4598),
        Parameter("lambda", "identity", -2.0, 4.0, (-0.2, 0.3), published=-0.1666),
        Parameter("d", "log", 1e-8, 1e4, (0.1,), published=17.26),
        Parameter("delta", "identity", -2.0, 4.0, (0.2,), published=0.1603),
        Parameter("gamma", "identity", 0.0, 4.0, (0.1, 0.3), published=0.1595),
    ),
    columns=("N", "D", "P"),
    predict=predict,
    source="Abnar et al. 2025 (arXiv 2501.12370), with 1 - S written as 1/P",
    objective="log_huber",
    linear=("e", "a", "b", "c", "d"),
    rescale=rescale,
)
