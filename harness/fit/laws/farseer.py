"""A floor, a coefficient and an exponent of tokens that all depend on N: Farseer (arXiv 2506.10972), nine constants.

    L = exp(a3 N^gamma + b3) + exp(a2 N^beta + b2) D^(-exp(a1 N^alpha + b1))

N is the count of parameters without embeddings, D the tokens; the paper's L is in bits per character, any unit will do.
Each of the three functions of N is written here by its value and its slope in log N at N = 1e9, and its bend:

    a N^g + b = log X + x ((N/1e9)^g - 1)/g,  so  a = x 1e9^-g / g,  b = log X - x/g

which is the same family, but regular at g = 0, where it is a power law and a is infinite. The form depends on the unit
of D (tokens), for the exponent of D depends on N; so it is fitted on raw columns.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Combination, Law, Parameter, Parameters

TYPICAL_N = 1e9


def bent(log_n: Float[Array, "rows"], power: Float[Array, ""]) -> Float[Array, "rows"]:
    """(n^power - 1)/power, which is log n at power 0."""
    x = power * log_n
    small = jnp.abs(x) < 1e-5
    return log_n * jnp.where(small, 1.0 + 0.5 * x, jnp.expm1(x) / jnp.where(small, 1.0, x))


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p, log_n = parameters, jnp.log(columns["N"]) - jnp.log(TYPICAL_N)
    exponent = p["A"] * jnp.exp(p["A_slope"] * bent(log_n, p["A_bend"]))
    floor = p["U"] * jnp.exp(p["U_slope"] * bent(log_n, p["U_bend"]))
    return floor + p["B"] * jnp.exp(p["B_slope"] * bent(log_n, p["B_bend"]) - exponent * jnp.log(columns["D"]))


def _of_paper(label: str, name: str, constant: str) -> Combination:
    def value(p: Parameters) -> Float[Array, ""]:
        slope, bend = p[f"{name}_slope"], p[f"{name}_bend"]
        if constant == "a":
            return slope / bend * jnp.exp(-bend * jnp.log(TYPICAL_N))
        return jnp.log(p[name]) - slope / bend

    return Combination(label, value)


LAW = Law(
    id="farseer",
    formula="L = U(N) + B(N) D^-A(N), X(N) = X exp(X_slope ((N/1e9)^X_bend - 1)/X_bend) for X in U, B, A",
    response="L",
    parameters=(
        Parameter("U", "log", 1e-6, 1e3, (1.0,)),
        Parameter("U_slope", "identity", -1.0, 1.0, (-0.1,)),
        Parameter("U_bend", "identity", -2.0, 2.0, (-0.4, 0.2)),
        Parameter("B", "log", 1e-6, 1e20, (1e3,)),
        Parameter("B_slope", "identity", -5.0, 5.0, (-0.3, 0.3)),
        Parameter("B_bend", "identity", -2.0, 2.0, (-0.3, 0.3)),
        Parameter("A", "log", 0.01, 3.0, (0.25, 0.5, 0.8)),
        Parameter("A_slope", "identity", -1.0, 1.0, (-0.05, 0.05)),
        Parameter("A_bend", "identity", -2.0, 2.0, (-0.3, 0.3)),
    ),
    columns=("N", "D"),
    predict=predict,
    source="Farseer 2025 (arXiv 2506.10972), form from a secondary source; its constants were not at hand",
    objective="log_squares",
    linear=("U", "B"),
    combinations=tuple(
        _of_paper(f"{constant}{index}", name, constant)
        for index, name in ((1, "A"), (2, "B"), (3, "U"))
        for constant in ("a", "b")
    ),
)
