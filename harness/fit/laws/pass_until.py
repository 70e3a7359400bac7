"""Probability that a sampled answer passes, in model size: PU = exp(-c N^-alpha), written with c = N_c^alpha.

Hu et al. (arXiv 2310.03262): sampling until r answers pass measures probabilities far below one in a hundred, and
ln(-ln PU) is then a straight line in ln N: ln c - alpha ln N. N parameters; PU in (0, 1], from
`harness.fit.laws.pass_rates`. Least squares on ln PU, whose error is the same at every N, about 1/sqrt(r).

N_c is the size at which PU is 1/e. Unlike c it can be searched for in raw counts: c and alpha would be correlated to
.99 and more, and a probability cannot be centred.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    return jnp.exp(-jnp.exp(p["alpha"] * (jnp.log(p["N_c"]) - jnp.log(columns["N"]))))


LAW = Law(
    id="pass_until",
    formula="PU = exp(-c N^-alpha) = exp(-(N_c/N)^alpha)",
    response="PU",
    parameters=(
        Parameter("N_c", "log", 1e-6, 1e30, (1.0, 1e3, 1e6, 1e8, 1e10, 1e12)),
        Parameter("alpha", "log", 1e-3, 10.0, (0.1, 0.3, 1.0)),
    ),
    columns=("N",),
    predict=predict,
    source="Hu et al. 2023 (arXiv 2310.03262); form from memory, no constants published that could be checked",
    objective="log_squares",
    combinations=(Combination("log c", lambda p: p["alpha"] * jnp.log(p["N_c"])),),
)
