"""Loss after several epochs on the same tokens: Muennighoff et al. (arXiv 2305.16264).

N is the count of parameters, D the tokens processed, U the unique ones, L in nats per token. A repeated token is worth
less than a fresh one: R_D further epochs are worth 1 - 1/e of R_D fresh sets, and however many there are, no more than
R_D sets. Parameters beyond the best count for U tokens saturate likewise. The loss never rises with N or D, so that
the law cannot follow overfitting.
"""

from jaxtyping import Array, Float

from harness.fit.laws import chinchilla
from harness.fit.laws._repeated import derive, effective
from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def _free(parameters: Parameters) -> dict:
    return dict(parameters) | {"beta": parameters["alpha"]}


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    count, tokens = effective(_free(parameters), columns)
    return chinchilla.predict(_free(parameters), {"N": count, "D": tokens})


def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
    raw = chinchilla.rescale(_free(parameters), scales)
    return {name: raw[name] for name in parameters}


LAW = Law(
    id="data_constrained",
    formula="L = E + A/N'^alpha + B/D'^alpha, D' = U + U R_D (1 - exp(-(D/U - 1)/R_D)), "
    "N' = U_N + U_N R_N (1 - exp(-(N/U_N - 1)/R_N)), U_N = min(N, (A/B)^(1/alpha) U)",
    response="L",
    parameters=(
        Parameter("E", "log", 1e-8, 1.5, (0.5,), published=1.8691),
        Parameter("A", "log", 1e-8, 1e4, (0.03, 0.2), published=520.8),
        Parameter("B", "log", 1e-8, 1e4, (0.03, 0.2), published=1487.7),
        Parameter("alpha", "identity", 0.0, 4.0, (0.2, 0.35, 0.7), published=0.3526596),
        Parameter("R_D", "log", 0.1, 1e4, (4.0, 15.0, 60.0), published=15.387756),
        Parameter("R_N", "log", 0.1, 1e4, (1.5, 6.0, 40.0), published=5.309743),
    ),
    columns=("N", "D", "U"),
    predict=predict,
    source="Muennighoff et al. 2023 (arXiv 2305.16264); constants of return_alloc.ipynb in huggingface/datablations",
    objective="log_huber",
    derive=derive,
    linear=("E",),
    rescale=rescale,
)
