"""Compute-optimal size as a power of compute: N = k C^a.

N is the best model size at the budget C (role `flops`, training FLOPs), a row a budget. Henighan et al. (arXiv
2010.14701) publish exponents of .64 to .75 for all kinds of data (`_henighan.MODALITIES`), which share the choices that
Porian et al. (arXiv 2406.19146) later corrected to .50; `by_group` of this law asks whether kinds of data share one.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import _henighan
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return parameters["k"] * jnp.exp(parameters["a"] * jnp.log(columns["flops"]))


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    p = dict(parameters)
    return p | {"k": p["k"] * scales["N"] / scales["flops"] ** p["a"]}


LAW = Law(
    id="henighan_n_opt",
    formula="N = k flops^a",
    response="N",
    parameters=(
        Parameter("k", "log", 1e-8, 1e8, (1.0,)),
        Parameter("a", "identity", -4.0, 4.0, (0.3, 0.5, 0.7, 1.0)),
    ),
    columns=("flops",),
    predict=predict,
    source="Henighan et al. 2020 (arXiv 2010.14701), table 1, as (C/C0)^a, C0 in PF-days of 8.64e19 FLOPs",
    objective="log_squares",
    linear=("k",),
    rescale=rescale,
)
PUBLISHED = tuple(
    {"modality": name, "C0": constants.optimum[0], "a": constants.optimum[1]}
    for name, constants in _henighan.MODALITIES.items()
    if constants.optimum
)
