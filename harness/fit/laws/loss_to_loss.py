"""Loss-to-loss: the losses of the same runs on two corpora lie on one shifted power law.

Brandfonbrener et al. (arXiv 2411.12925): L = K (L0 - E0)^kappa + E1. L0 is the loss on one corpus (or of the model that
was trained on it), L that on another, paired by parameters and compute; both in nats per token. E0 and E1 are the
floors of the two base laws (`kaplan_floor`). The pairs alone hold them only through the curvature, of which there is
little: where N and D are known, `harness.fit.shared.transfer` takes the floors from the base laws, jointly
bootstrapped.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    """Rows at or below the floor E0 have nothing that could be transferred: their loss is E1."""
    p = parameters
    above = columns["L0"] - p["E0"]
    excess = jnp.exp(p["kappa"] * jnp.log(jnp.where(above > 0.0, above, 1.0)))
    return p["E1"] + p["K"] * jnp.where(above > 0.0, excess, 0.0)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {
        "E0": p["E0"] * scales["L0"],
        "K": p["K"] * scales["L"] / scales["L0"] ** p["kappa"],
        "E1": p["E1"] * scales["L"],
    }


LAW = Law(
    id="loss_to_loss",
    formula="L = K (L0 - E0)^kappa + E1",
    response="L",
    parameters=(
        Parameter("K", "log", 1e-4, 1e4, (1e-2,)),
        Parameter("kappa", "identity", 0.1, 5.0, (0.7, 1.0, 1.4)),
        # Of the typical loss. Nearer floors are reached by fitting noise in the lowest losses, and end extrapolation.
        Parameter("E0", "identity", 0.0, 0.8, (0.0, 0.2, 0.4, 0.6, 0.75)),
        Parameter("E1", "identity", 0.0, 1.0, (0.1,)),
    ),
    columns=("L0",),
    predict=predict,
    source="form: Brandfonbrener et al. 2024 (arXiv 2411.12925); constants are per pair of corpora",
    objective="log_huber",
    linear=("K", "E1"),
    rescale=rescale,
    combinations=(Combination("kappa", lambda p: p["kappa"]),),
)
