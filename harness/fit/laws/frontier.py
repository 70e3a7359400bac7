"""The compute frontier of a training procedure, saturating at both ends: error = A (C + B)^-alpha + E.

Nezhurina et al. (arXiv 2506.04598) compare procedures by such curves through the Pareto-optimal runs of each, and
extrapolate them. C is the role `flops`; L is an error or a loss; B is the compute below which training changes nothing.
`harness.fit.allocation.frontier_runs` finds the frontier of a table of runs: fitting every run instead answers another
question.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import _one_variable
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    return p["E"] + p["A"] * jnp.exp(-p["alpha"] * jnp.log(columns["flops"] + p["B"]))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = _one_variable.units("flops", "L", "E", "A", "alpha")(parameters, scales)
    return p | {"B": p["B"] * scales["flops"]}


LAW = Law(
    id="frontier",
    formula="L = A (flops + B)^-alpha + E",
    response="L",
    parameters=(
        _one_variable.amplitude_parameter("A"),
        Parameter("B", "log", 1e-8, 1e3, (1e-4, 1e-2, 0.3)),
        _one_variable.exponent_parameter("alpha"),
        _one_variable.floor_parameter("E"),
    ),
    columns=("flops",),
    predict=predict,
    source="form: Nezhurina et al. 2025 (arXiv 2506.04598), released code; their constants were not at hand",
    objective="log_huber",
    linear=("A", "E"),
    rescale=rescale,
    alternatives=("compute_power",),
)
