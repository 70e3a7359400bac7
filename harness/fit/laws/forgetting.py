"""How a memorised gap decays against the bound of weight decay: G = G0 w^gamma. Ours, not published.

Bordt et al. (arXiv 2410.03249) bound forgetting by the cumulative weight decay of AdamW, w = prod(1 - eta_t lambda):
the share of an early update that decay alone leaves in the weights (`harness.fit.laws.forgetting_bound`).
They give no law of the gap. This one asks for its speed: gamma >= 1 is forgetting at least as fast as the bound,
gamma < 1 a gap that outlives
the weights' decay. G is loss on unseen minus loss on contaminated text (nats per token), measured at several w after
the same exposure; rows before the last exposure do not belong in it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return parameters["G0"] * jnp.exp(parameters["gamma"] * jnp.log(columns["w"]))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {"G0": p["G0"] * scales["G"] / scales["w"] ** p["gamma"]}


LAW = Law(
    id="forgetting",
    formula="G = G0 w^gamma",
    response="G",
    parameters=(
        Parameter("G0", "log", 1e-8, 1e8, (1.0,)),
        Parameter("gamma", "identity", -5.0, 100.0, (0.5, 1.0, 3.0, 10.0)),
    ),
    columns=("w",),
    predict=predict,
    source="ours; w: cumulative weight decay of Bordt et al. 2024 (arXiv 2410.03249)",
    objective="normal",
    contrast=True,
    rescale=rescale,
)
