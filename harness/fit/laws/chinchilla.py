"""The parametric loss of Hoffmann et al.: a floor, and the cost of few parameters and of few tokens."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    capacity = p["A"] * jnp.exp(-p["alpha"] * jnp.log(columns["N"]))
    return p["E"] + capacity + p["B"] * jnp.exp(-p["beta"] * jnp.log(columns["D"]))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "E": p["E"] * scales["L"],
        "A": p["A"] * scales["L"] * scales["N"] ** p["alpha"],
        "B": p["B"] * scales["L"] * scales["D"] ** p["beta"],
    }


def optimum(parameters: Parameters, product: Any) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """N = g (N D)^(beta/s) minimises A/N^alpha + B/D^beta, with g^s = alpha A/(beta B) and s = alpha + beta."""
    A, B, alpha, beta = (np.asarray(parameters[name]) for name in ("A", "B", "alpha", "beta"))
    exists = (alpha > 0) & (beta > 0) & (A > 0) & (B > 0)
    A, B, alpha, beta = (np.where(exists, value, np.nan) for value in (A, B, alpha, beta))
    exponent = beta / (alpha + beta)
    log_n = np.log(alpha * A / (beta * B)) / (alpha + beta) + exponent * np.log(product)
    return log_n, np.broadcast_to(exponent, log_n.shape)


LAW = Law(
    id="chinchilla",
    formula="L = E + A/N^alpha + B/D^beta",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,), published=1.8172),
        Parameter("A", "log", 1e-8, 1e4, (0.1,), published=482.01),
        Parameter("B", "log", 1e-8, 1e4, (0.1,), published=2085.43),
        Parameter("alpha", "identity", 0.0, 4.0, (0.05, 0.15, 0.3, 0.5, 0.8, 1.3, 2.0), published=0.3478),
        Parameter("beta", "identity", 0.0, 4.0, (0.05, 0.15, 0.3, 0.5, 0.8, 1.3, 2.0), published=0.3658),
    ),
    columns=("N", "D"),
    predict=predict,
    source="form: Hoffmann et al. 2022 (arXiv 2203.15556); constants: Besiroglu et al. 2024 (arXiv 2404.10102)",
    objective="log_huber",
    linear=("E", "A", "B"),
    rescale=rescale,
    combinations=(
        Combination("beta/(alpha + beta)", lambda p: p["beta"] / (p["alpha"] + p["beta"]), 0.3658 / (0.3478 + 0.3658)),
    ),
    alternatives=("tied", "skaling", "kaplan"),
    optimum=optimum,
)
