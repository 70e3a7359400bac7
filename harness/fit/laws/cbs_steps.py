"""Steps to a target loss by batch, Zhang et al. 2024 (arXiv 2410.21676): step = a + b/B, at one target and one model.

Rows: `step` (steps to the target), `B` (batch, in sequences or tokens). The paper's critical batch is the smallest one
whose tokens exceed by 20 % those of linear scaling from a batch B_opt: a + b/B = 1.2 (a + b/B_opt) B_opt/B gives

    B_crit = 1.2 B_opt + b/(5a),

which `critical_batch` computes; the paper has B_opt = 256 sequences. b/a, the combination reported here, is where
steps are twice their least and tokens twice theirs (B_crit of `es_tradeoff`).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return parameters["a"] + parameters["b"] / jnp.asarray(columns["B"])


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {"a": p["a"] * scales["step"], "b": p["b"] * scales["step"] * scales["B"]}


def critical_batch(parameters: Parameters, optimal_batch: float, overhead: float = 0.2) -> float:
    """The batch at which tokens to the target exceed those at `optimal_batch` by `overhead`, in the unit of B.

    Solves (a + b/B) B = (1 + overhead) (a + b/B_opt) B_opt.
    """
    return (1.0 + overhead) * optimal_batch + overhead * parameters["b"] / parameters["a"]


LAW = Law(
    id="cbs_steps",
    formula="step = a + b/B",
    response="step",
    parameters=(
        Parameter("a", "log", 1e-8, 1e4, (0.5,)),
        Parameter("b", "log", 1e-8, 1e4, (0.5,)),
    ),
    columns=("B",),
    predict=predict,
    source="Zhang et al. 2024 (arXiv 2410.21676); a free exponent of B gave them the same forecasts",
    objective="log_squares",
    linear=("a", "b"),
    rescale=rescale,
    combinations=(Combination("b/a", lambda p: p["b"] / p["a"]),),
)
