"""Pure power laws: a prefactor times powers of one or more columns, as optima of hyperparameters are described."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Law, Parameter, Parameters, Scales


def power_law(
    law_id: str, response: str, exponents: Mapping[str, str], *, source: str, prefactor: str = "c",
    published: Mapping[str, float] | None = None,
) -> Law:  # fmt: skip
    """response = prefactor * product of column ** exponent, fitted by least squares on logs.

    Args:
        exponents: column -> name of its exponent, which may have either sign.
        published: constants of the source by name, in raw units.
    """
    known = published or {}

    def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
        powers = sum(parameters[name] * jnp.log(columns[column]) for column, name in exponents.items())
        return parameters[prefactor] * jnp.exp(powers)

    def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
        p = dict(parameters)
        p[prefactor] = p[prefactor] * scales[response]
        for column, name in exponents.items():
            p[prefactor] = p[prefactor] / scales[column] ** p[name]
        return p

    return Law(
        id=law_id,
        formula=f"{response} = {prefactor} " + " ".join(f"{column}^{name}" for column, name in exponents.items()),
        response=response,
        parameters=(
            Parameter(prefactor, "log", 1e-8, 1e8, (1.0,), known.get(prefactor)),
            *(Parameter(name, "identity", -8.0, 8.0, (0.5,), known.get(name)) for name in exponents.values()),
        ),
        columns=tuple(exponents),
        predict=predict,
        source=source,
        objective="log_squares",
        linear=(prefactor,),
        rescale=rescale,
    )
