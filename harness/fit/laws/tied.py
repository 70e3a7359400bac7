"""One exponent for parameters and tokens: Gadre et al. (arXiv 2403.08540), for models trained on more than 20 N tokens.

With M = D/N the paper writes L(C, M) = E + (a M^eta + b M^-eta) C^-eta, C = 6 N D; its code L = E + a N^h +
b 6^(h/2) (M N)^h. Both are this law: alpha = 2 eta = -h, A the code's a, B = b 6^(-alpha/2). N and D are counts, L in
nats per token. Equal exponents make curves of constant M parallel straight lines of log (L - E) against log C. They
are fitted to few runs, on the loss itself.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws import chinchilla
from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters, Scales


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    return chinchilla.predict(dict(parameters) | {"beta": parameters["alpha"]}, columns)


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    raw = chinchilla.rescale(dict(parameters) | {"beta": parameters["alpha"]}, scales)
    return {name: value for name, value in raw.items() if name != "beta"}


LAW = Law(
    id="tied",
    formula="L = E + A/N^alpha + B/D^alpha",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,)),
        Parameter("A", "log", 1e-8, 1e4, (0.1,)),
        Parameter("B", "log", 1e-8, 1e4, (0.1,)),
        Parameter("alpha", "identity", 0.0, 4.0, (0.05, 0.15, 0.3, 0.5, 0.8, 1.3, 2.0)),
    ),
    columns=("N", "D"),
    predict=predict,
    source="Gadre et al. 2024 (arXiv 2403.08540), form; their constants differ for each training and evaluation set",
    objective="squares",
    linear=("E", "A", "B"),
    rescale=rescale,
    combinations=(
        Combination("h = -alpha", lambda p: -p["alpha"]),
        Combination("b = B*6^(alpha/2)", lambda p: p["B"] * jnp.exp(0.5 * p["alpha"] * jnp.log(6.0))),
    ),
)
