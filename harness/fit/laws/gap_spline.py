"""The shape-free collapse: G = A N^-alpha f(D/N^z) with f any decreasing curve, not a plateau and a power law.

In logs the slope of f is a line between values at five places of log u, never upward, and constant beyond the outer two
(its integral is a quadratic monotone spline). `u_0` is the middle place and `step` the distance between neighbours;
f(u_0) = 1. Where every u lies on one power law, alpha and z are not identified, whatever the shape.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales
from sweeps.published_gap import PUBLISHED_GAP

SLOPES = ("beta_1", "beta_2", "beta_3", "beta_4", "beta_5")
MIDDLE = len(SLOPES) // 2


def _ramp(x: Float[Array, "rows"]) -> Float[Array, "rows"]:
    """The integral of a line that rises from 0 at 0 to 1 at 1."""
    return 0.5 * jnp.clip(x, 0.0, 1.0) ** 2


def _area(x: Float[Array, "rows"], place: int) -> Float[Array, "rows"]:
    """The integral of the slope that is 1 at one place, 0 at the others, and linear between them."""
    first, last = place == 0, place == len(SLOPES) - 1
    y = x - (place - MIDDLE)
    before = jnp.minimum(y, 0.0) if first else _ramp(y + 1.0)
    return before + (jnp.maximum(y, 0.0) if last else 0.5 - _ramp(1.0 - y))


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    log_n, log_d = jnp.log(columns["N"]), jnp.log(columns["D"])
    x = (log_d - p["z"] * log_n - jnp.log(p["u_0"])) / p["step"]
    zero = jnp.zeros(())
    fall = sum(p[name] * (_area(x, place) - _area(zero, place)) for place, name in enumerate(SLOPES))
    return jnp.exp(jnp.log(p["A"]) - p["alpha"] * log_n - p["step"] * fall)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    p["A"] = p["A"] * scales["G"] * scales["N"] ** p["alpha"]
    p["u_0"] = p["u_0"] * scales["D"] / scales["N"] ** p["z"]
    return p


LAW = Law(
    id="gap_spline",
    formula="G = A N^-alpha f(D/N^z), f decreasing: -dlog f/dlog u is linear between beta_1..5 at u_0 e^(step k)",
    response="G",
    parameters=(
        Parameter("A", "log", 1e-8, 1e8, (1.0,)),
        Parameter("alpha", "identity", -4.0, 4.0, (0.0, 0.4), published=PUBLISHED_GAP.alpha),
        Parameter("z", "identity", -3.0, 5.0, (0.4, 0.8, 1.4), published=PUBLISHED_GAP.z),
        Parameter("u_0", "log", 1e-4, 1e4, (0.1, 1.0, 10.0)),
        Parameter("step", "log", 0.3, 6.0, (0.8, 2.5)),
        *(Parameter(name, "identity", 0.0, 3.0, (0.3,)) for name in SLOPES),
    ),
    columns=("N", "D"),
    predict=predict,
    source="form: clawRxiv 2604.02022; f free but monotone, after Ramsay 1988 (monotone regression splines)",
    objective="normal",
    contrast=True,
    rescale=rescale,
    combinations=(Combination("alpha - z*beta_5", lambda p: p["alpha"] - p["z"] * p["beta_5"]),),
    shapes=("step", *SLOPES),
)
