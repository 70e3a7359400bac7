"""Loss of a model trained in a compressed representation: its capacity stands for N (arXiv 2506.01863).

gmse is the mean squared error of a standard normal number in the format (`harness.fit.laws.gmse` has it for integers
and for sparsity); 0 is the uncompressed model. log_{1/4} gmse is the format's rate in bits for such numbers, and the
format keeps the share rho of N, which rises from 0 to 1 with the rate. N counts parameters, D tokens, L nats per token.
That the law is in rho of the GMSE is from the abstract; the form of rho from memory, with its height set to 1, which
any other would give to A.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws import average_parameter, chinchilla
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales

# Bits beyond which a format counts as uncompressed: 32-bit floats have about 23.
MOST_BITS = 24.0


def derive(columns: Columns) -> dict[str, Float[Array, "rows"]]:
    """log of the rate log_{1/4} gmse, in bits."""
    rate = -np.log(np.maximum(columns["gmse"], 4.0**-MOST_BITS)) / np.log(4.0)
    return {"log_rate": np.log(np.maximum(rate, 1e-12))}


def capacity(parameters: Parameters, log_rate: Float[Array, "rows"]) -> Float[Array, "rows"]:
    """rho of a format: the share of N that it keeps."""
    return jnp.tanh(parameters["c"] * jnp.exp(parameters["s"] * log_rate))


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    count = columns["N"] * capacity(parameters, columns["log_rate"])
    return chinchilla.predict(parameters, {"N": count, "D": columns["D"]})


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    return chinchilla.rescale(parameters, scales)


LAW = Law(
    id="compressed",
    formula="L = E + A/(N rho)^alpha + B/D^beta, rho = tanh(c r^s), r = log_{1/4} gmse",
    response="L",
    parameters=(
        *average_parameter.LAW.parameters,
        Parameter("c", "log", 1e-3, 10.0, (0.15, 0.5)),
        Parameter("s", "log", 0.05, 5.0, (0.6, 1.2)),
    ),
    columns=("N", "D", "gmse"),
    predict=predict,
    source="Panferov et al. 2025 (arXiv 2506.01863): capacity of the GMSE; the form of rho is from memory",
    objective="log_huber",
    signed=("gmse",),
    derive=derive,
    linear=("E", "A", "B"),
    rescale=rescale,
)
