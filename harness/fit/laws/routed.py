"""The loss of routed language models: a power law in the base model and in its experts, which help less with size.

Clark et al. 2022 (arXiv 2202.01169). N: parameters of the dense base model; E: experts per routed layer, 1 for a
dense model; L: nats per token. The logs are to base 10, in which the constants are published. See `_routed` for what
follows from it.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws._routed import log10_loss, saturated
from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    log10_experts = jnp.log10(saturated(columns["E_less_1"], parameters))
    return jnp.exp(math.log(10.0) * log10_loss(parameters, jnp.log10(columns["N"]), log10_experts))


def derive(columns: Columns) -> dict[str, np.ndarray]:
    """Experts are counted from one, so they cannot be centred."""
    return {"E_less_1": columns["E"] - 1.0}


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p, log10_n = dict(parameters), jnp.log10(scales["N"])
    p["b"] = p["b"] - p["c"] * log10_n
    p["d"] = p["d"] - p["a"] * log10_n + jnp.log10(scales["L"])
    return p


LAW = Law(
    id="routed",
    formula="log10 L = a log10 N + b log10 X + c log10 N log10 X + d, "
    "1/X = 1/(E - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max",
    response="L",
    parameters=(
        Parameter("a", "identity", -3.0, 1.0, (-0.1, -0.03), published=-0.082),
        Parameter("b", "identity", -3.0, 3.0, (-0.1, -0.02), published=-0.108),
        Parameter("c", "identity", -1.0, 1.0, (0.0, 0.02), published=0.009),
        Parameter("d", "identity", -9.0, 9.0, (0.0,), published=1.104),
        Parameter("E_start", "log", 0.1, 15.0, (1.2, 4.0), published=1.847),
        Parameter("E_max", "log", 20.0, 1e6, (100.0, 600.0), published=314.478),
    ),
    columns=("N", "E"),
    predict=predict,
    derive=derive,
    source="Clark et al. 2022 (arXiv 2202.01169); constants: S-Base routing",
    objective="log_squares",
    rescale=rescale,
    combinations=(Combination("log10 of N_cutoff = -b/c", lambda p: -p["b"] / p["c"], math.log10(937e9)),),
    alternatives=("routed_floor",),
)
