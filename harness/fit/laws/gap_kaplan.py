"""Overfitting as Kaplan et al. describe it: how much a finite data set costs a model, L(N, D) - L(N, infinity)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    """L_inf (N) times expm1(alpha_D log1p(x)): the difference of two nearly equal losses would lose its digits."""
    p = parameters
    log_infinite = p["alpha_N"] * (jnp.log(p["N_c"]) - jnp.log(columns["N"]))
    log_x = jnp.log(p["D_c"]) - jnp.log(columns["D"]) - log_infinite / p["alpha_D"]
    log_ratio = p["alpha_D"] * jnp.logaddexp(0.0, log_x)
    return jnp.exp(log_infinite) * jnp.expm1(log_ratio)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    p["N_c"] = p["N_c"] * scales["N"] * scales["G"] ** (1.0 / p["alpha_N"])
    p["D_c"] = p["D_c"] * scales["D"] * scales["G"] ** (1.0 / p["alpha_D"])
    return p


LAW = Law(
    id="gap_kaplan",
    formula="G = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D - (N_c/N)^alpha_N",
    response="G",
    parameters=(
        Parameter("N_c", "log", 1e-80, 1e80, (1e-6, 1.0, 1e12), published=6.4e13),
        Parameter("D_c", "log", 1e-80, 1e80, (1e-6, 1.0, 1e6), published=1.8e13),
        Parameter("alpha_N", "log", 0.01, 2.0, (0.08, 0.4), published=0.076),
        Parameter("alpha_D", "log", 0.01, 2.0, (0.1, 0.5, 1.0), published=0.103),
    ),
    columns=("N", "D"),
    predict=predict,
    source="Kaplan et al. 2020 (arXiv 2001.08361), equation for L(N, D): N_c 6.4e13 non-embedding, D_c 1.8e13 tokens",
    objective="normal",
    contrast=True,
    rescale=rescale,
    combinations=(Combination("alpha_N/alpha_D", lambda p: p["alpha_N"] / p["alpha_D"], 0.076 / 0.103),),
)
