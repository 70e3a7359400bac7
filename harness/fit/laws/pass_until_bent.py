"""`pass_until` with a bend: ln(-ln PU) = s - q s^2 with s = alpha ln(N_c/N), no longer a straight line in ln N.

Hu et al. (arXiv 2310.03262) call an ability emergent if its curve accelerates against the straight line, which is a
q above zero whose interval excludes zero.
"""

from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import pass_until
from harness.fit.laws.law import Columns, Parameter, Parameters


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    s = p["alpha"] * (jnp.log(p["N_c"]) - jnp.log(columns["N"]))
    return jnp.exp(-jnp.exp(s - p["q"] * s**2))


LAW = replace(
    pass_until.LAW,
    id="pass_until_bent",
    formula="PU = exp(-exp(s - q s^2)), s = alpha ln(N_c/N)",
    parameters=(*pass_until.LAW.parameters, Parameter("q", "identity", -2.0, 2.0, (0.0,))),
    predict=predict,
    source="ours: a test of the straight line of `pass_until` (the definition of emergence in arXiv 2310.03262)",
    combinations=(),
)
