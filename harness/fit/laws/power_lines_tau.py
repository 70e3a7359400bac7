"""How long AdamW should remember, by Bergsma et al. 2025 (Power Lines, arXiv 2505.13738): tau = c (D/N)^m.

tau = B/(lr wd D) is the timescale of the weights' average as a share of the run (lr the peak rate, wd the weight decay,
B and D in one unit); its optimum falls with the tokens a parameter. Rows are optima: `tau`, `N` (parameters), `D`
(tokens); `isogap optima` extracts them. The optimal weight decay then is B/(lr D tau).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return parameters["c"] * jnp.exp(parameters["m"] * (jnp.log(columns["D"]) - jnp.log(columns["N"])))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {"c": p["c"] * scales["tau"] / (scales["D"] / scales["N"]) ** p["m"]}


LAW = Law(
    id="power_lines_tau",
    formula="tau = c (D/N)^m",
    response="tau",
    parameters=(
        Parameter("c", "log", 1e-8, 1e8, (1.0,), published=1.084),
        Parameter("m", "identity", -8.0, 8.0, (-0.5,), published=-0.527),
    ),
    columns=("N", "D"),
    predict=predict,
    source="Bergsma et al. 2025 (arXiv 2505.13738); constants as two independent notes on the paper give them",
    objective="log_squares",
    linear=("c",),
    rescale=rescale,
)
