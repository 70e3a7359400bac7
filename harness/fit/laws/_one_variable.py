"""Pieces that laws of one variable share: their parameters' ranges and starts in centred units, and their units."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from harness.fit.laws.law import Columns, Parameter, Parameters, Scales

EXPONENTS = (0.03, 0.1, 0.2, 0.4, 0.8, 1.6)


def floor_parameter(name: str) -> Parameter:
    return Parameter(name, "log", 1e-8, 1.5, (0.5,))


def amplitude_parameter(name: str) -> Parameter:
    return Parameter(name, "log", 1e-8, 1e4, (0.1,))


def exponent_parameter(name: str, published: float | None = None) -> Parameter:
    return Parameter(name, "identity", 0.0, 4.0, EXPONENTS, published)


def floor_and_power(
    role: str, floor: str, amplitude: str, exponent: str
) -> Callable[[Parameters, Columns], Float[Array, "rows"]]:
    """predict of `floor + amplitude role^-exponent`."""

    def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
        p = parameters
        return p[floor] + p[amplitude] * jnp.exp(-p[exponent] * jnp.log(columns[role]))

    return predict


def units(role: str, response: str, floor: str, amplitude: str, exponent: str):
    """rescale of `floor + amplitude role^-exponent`."""

    def rescale(parameters: Parameters, scales: Scales) -> dict[str, Float[Array, ""]]:
        p = dict(parameters)
        return p | {
            floor: p[floor] * scales[response],
            amplitude: p[amplitude] * scales[response] * scales[role] ** p[exponent],
        }

    return rescale
