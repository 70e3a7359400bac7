"""What repeated tokens and surplus parameters are worth (arXiv 2305.16264), for the laws of several epochs."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Parameters


def derive(columns: Columns) -> dict[str, Float[Array, "rows"]]:
    """D/U, which compares raw counts. Fewer tokens than there are unique ones are one epoch of what was seen."""
    return {"passes": np.maximum(columns["D"] / columns["U"], 1.0)}


def saturated(excess: Float[Array, "rows"], scale: Float[Array, ""]) -> Float[Array, "rows"]:
    """Fresh ones that `excess` further multiples are worth: as many at first, never more than `scale`."""
    return scale * -jnp.expm1(-excess / scale)


def effective(parameters: Parameters, columns: Columns) -> tuple[Float[Array, "rows"], Float[Array, "rows"]]:
    """N' and D': parameters and tokens of the run on fresh tokens with the same loss.

    U_N = min(N, N_opt(U)), with N_opt(U) the best size for U tokens: the one at which d L/d log N = d L/d log D.
    """
    p, passes = parameters, columns["passes"]
    unique = columns["D"] / passes
    log_best = (jnp.log(p["alpha"] * p["A"]) - jnp.log(p["beta"] * p["B"]) + p["beta"] * jnp.log(unique)) / p["alpha"]
    useful = jnp.minimum(columns["N"], jnp.exp(log_best))
    count = useful * (1.0 + saturated(columns["N"] / useful - 1.0, p["R_N"]))
    return count, unique * (1.0 + saturated(passes - 1.0, p["R_D"]))
