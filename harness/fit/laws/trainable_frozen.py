"""Loss where some parameters are frozen at random values: one of them counts as kappa trainable ones.

N_trainable and N_frozen are counts (N_frozen may be zero), D tokens, L in nats per token. Hesslow and Poli ("Is the
number of trainable parameters all that actually matters?") say that kappa = 0. kappa a little above zero is plausible,
for random features do help; a negative one says that frozen parameters do harm.
"""

from jaxtyping import Array, Float

from harness.fit.laws import average_parameter, chinchilla
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def derive(columns: Columns) -> dict[str, Float[Array, "rows"]]:
    """kappa compares two counts, so their ratio has to be that of raw ones."""
    return {"frozen_per_trainable": columns["N_frozen"] / columns["N_trainable"]}


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    count = columns["N_trainable"] * (1.0 + parameters["kappa"] * columns["frozen_per_trainable"])
    return chinchilla.predict(parameters, {"N": count, "D": columns["D"]})


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    return chinchilla.rescale(parameters, dict(scales) | {"N": scales["N_trainable"]})


LAW = Law(
    id="trainable_frozen",
    formula="L = E + A/(N_trainable + kappa N_frozen)^alpha + B/D^beta",
    response="L",
    parameters=(
        *average_parameter.LAW.parameters,
        Parameter("kappa", "identity", -1.0, 2.0, (0.0, 0.3)),
    ),
    columns=("N_trainable", "N_frozen", "D"),
    predict=predict,
    source="claim of Hesslow and Poli 2021, kappa = 0; the form is a test of it",
    objective="log_huber",
    signed=("N_frozen",),
    derive=derive,
    linear=("E", "A", "B"),
    rescale=rescale,
)
