"""The law under test: a plateau in D that falls with N, then a power law, joined by a kink at u = D/N^z = u*."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales
from sweeps.published_gap import PUBLISHED_GAP


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    log_n, log_d = jnp.log(columns["N"]), jnp.log(columns["D"])
    above = jnp.maximum(log_d - p["z"] * log_n - jnp.log(p["u_star"]), 0.0)
    return jnp.exp(jnp.log(p["A"]) - p["alpha"] * log_n - p["beta"] * above)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    p["A"] = p["A"] * scales["G"] * scales["N"] ** p["alpha"]
    p["u_star"] = p["u_star"] * scales["D"] / scales["N"] ** p["z"]
    return p


def regimes(parameters: Parameters, columns: Columns) -> dict[str, Float[Array, "rows"]]:
    u = columns["D"] / columns["N"] ** parameters["z"]
    return {"u <= u_star": u <= parameters["u_star"], "u > u_star": u > parameters["u_star"]}


PARAMETERS = (
    Parameter("A", "log", 1e-8, 1e8, (1.0,), published=PUBLISHED_GAP.A),
    Parameter("alpha", "identity", -4.0, 4.0, (0.0, 0.4), published=PUBLISHED_GAP.alpha),
    Parameter("z", "identity", -3.0, 5.0, (0.4, 0.8, 1.4), published=PUBLISHED_GAP.z),
    Parameter("beta", "identity", -2.0, 5.0, (0.3, 1.0), published=PUBLISHED_GAP.beta),
    Parameter("u_star", "log", 1e-9, 1e9, (3e-3, 5e-2, 1.0, 20.0, 300.0), published=PUBLISHED_GAP.u_star),
)

COMBINATIONS = (
    Combination("beta", lambda p: p["beta"], PUBLISHED_GAP.beta),
    Combination(
        "alpha - z*beta",
        lambda p: p["alpha"] - p["z"] * p["beta"],
        PUBLISHED_GAP.alpha - PUBLISHED_GAP.z * PUBLISHED_GAP.beta,
    ),
    Combination("log A + beta*log u_star", lambda p: jnp.log(p["A"]) + p["beta"] * jnp.log(p["u_star"]), -0.15082),
    Combination("z - beta - alpha", lambda p: p["z"] - p["beta"] - p["alpha"], 0.01),
)

LAW = Law(
    id="gap",
    formula="G = A N^-alpha f(u), u = D/N^z, f = 1 for u <= u_star, (u/u_star)^-beta above",
    response="G",
    parameters=PARAMETERS,
    columns=("N", "D"),
    predict=predict,
    source="clawRxiv 2604.02022 (N, D taken as raw counts, G in nats per token)",
    objective="normal",
    contrast=True,
    rescale=rescale,
    combinations=COMBINATIONS,
    regimes=regimes,
    alternatives=("gap_smooth",),
)
