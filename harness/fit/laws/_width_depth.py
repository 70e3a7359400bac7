"""Sums of power laws in width, depth, parameters and tokens over a floor: what the laws of Gemstones share."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales

# The column of a power law, its coefficient and its exponent.
TERMS = {"w": ("A_w", "alpha_w"), "d": ("A_d", "alpha_d"), "N": ("A_N", "alpha_N"), "D": ("B", "beta")}


def law_of(law_id: str, roles: tuple[str, ...], source: str) -> Law:
    """L = E + a sum of one power law for each of the roles."""

    def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
        total = parameters["E"]
        for role in roles:
            coefficient, exponent = TERMS[role]
            total = total + parameters[coefficient] * jnp.exp(-parameters[exponent] * jnp.log(columns[role]))
        return total

    def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
        raw = dict(parameters) | {"E": parameters["E"] * scales["L"]}
        for role in roles:
            coefficient, exponent = TERMS[role]
            raw[coefficient] = parameters[coefficient] * scales["L"] * scales[role] ** parameters[exponent]
        return raw

    coefficients = [TERMS[role][0] for role in roles]
    exponents = [TERMS[role][1] for role in roles]
    return Law(
        id=law_id,
        formula="L = E + " + " + ".join("{1}/{0}^{2}".format(role, *TERMS[role]) for role in roles),
        response="L",
        parameters=(
            Parameter("E", "log", 1e-8, 1.5, (0.5,)),
            *(Parameter(name, "log", 1e-8, 1e4, (0.1,)) for name in coefficients),
            *(Parameter(name, "identity", 0.0, 4.0, (0.2, 0.5, 1.0)) for name in exponents),
        ),
        columns=roles,
        predict=predict,
        source=source,
        objective="log_huber",
        linear=("E", *coefficients),
        rescale=rescale,
    )
