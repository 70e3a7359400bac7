"""How a law meets data: what a residual is, and what it costs. A law declares one of these, and a fit may take another.

- `normal`: normal on the response itself with a known standard error and a scatter: SE^2 + (tau m)^2. It keeps gaps
  below zero, which a log would drop.
- `log_huber`: sum of Huber's loss on log residuals, as in the Chinchilla papers. With a quantile q other than 1/2 the
  loss of a residual is weighed 2q above the prediction and 2(1-q) below it: the q-th quantile's line (Koenker and
  Bassett 1978, with the corner rounded).
- `log_squares`, `squares`: least squares on log residuals, or on residuals: normal with an unknown standard deviation.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import fminbound
from scipy.special import erf

from harness.fit.laws.law import Law, Parameter, Parameters
from sweeps.errors import InputError

HUBER_DELTA = 1e-3
TAU = Parameter("tau", "log", 1e-4, 30.0, (0.2,))


class Options(NamedTuple):
    """The corner of Huber's loss, and the quantile fitted."""

    delta: float = HUBER_DELTA
    quantile: float = 0.5


DEFAULTS = Options()


class Cost(NamedTuple):
    """Of one feature of every row: the loss's slope in it, its curvature, and a curvature that bounds the loss."""

    slope: Float[Array, "rows"]
    curvature: Float[Array, "rows"]
    majoriser: Float[Array, "rows"]


@dataclass(frozen=True)
class Objective:
    """A way to weigh residuals. A `feature` is a function of the parameters that the loss of a row depends on.

    Attributes:
        id: its name in a law's declaration and on the command line.
        name: the name of the minimised quantity in a result.
        parameters: constants it adds to those of the law.
        log: whether it works on logs, so that response and prediction have to be positive.
        floor: the size of a loss that counts as none, in the unit of `rows`.
        features: (prediction, noise, parameters) -> one array of rows per feature.
        rows: (features, target, noise, options) -> loss of each row; the target is the response, or its log.
        costs: the same arguments -> a `Cost` per feature.
        unit: options -> the factor from the sum of `rows` to the objective as the literature writes it.
    """

    id: str
    name: str
    parameters: tuple[Parameter, ...]
    log: bool
    floor: float
    features: Callable[..., tuple[Float[Array, "rows"], ...]]
    rows: Callable[..., Float[Array, "rows"]]
    costs: Callable[..., tuple[Cost, ...]]
    unit: Callable[[Options], float]


@dataclass(frozen=True)
class Model:
    """A law (bound to the columns of a table) and its objective: what a compiled program is made for."""

    law: Law
    objective: Objective

    @functools.cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The law's constants, then those of the objective: the coordinates of the search."""
        return (*self.law.parameters, *self.objective.parameters)

    def __hash__(self) -> int:
        """Kept: JAX asks with every call of a program, and a law's own hash takes as long as a step of 32 searches."""
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.law, self.objective))


@functools.cache
def one(model: Model) -> Model:
    """The same object for equal models, so that JAX compares identities."""
    return model


def _log_feature(prediction, noise, parameters: Parameters):
    return (jnp.log(prediction),)


def _plain_feature(prediction, noise, parameters: Parameters):
    return (prediction,)


def _normal_features(prediction, noise, parameters: Parameters):
    return prediction, jnp.log(noise**2 + (parameters["tau"] * prediction) ** 2)


def _normal_rows(features, target, noise, options: Options):
    """-log Normal(y; m, SE^2 + (tau m)^2)."""
    mean, log_variance = features
    return 0.5 * ((target - mean) ** 2 * jnp.exp(-log_variance) + log_variance + jnp.log(2 * jnp.pi))


def _normal_costs(features, target, noise, options: Options):
    """Curvatures are expected ones (Fisher's): those of a normal in its mean and in the log of its variance."""
    mean, log_variance = features
    precision = jnp.exp(-log_variance)
    residual = target - mean
    half = jnp.full_like(mean, 0.5)
    return (
        Cost(-residual * precision, precision, precision),
        Cost(0.5 * (1.0 - residual**2 * precision), half, half),
    )


def _side(residual, options: Options):
    """What a residual (prediction less response, in logs) is weighed with: 1 on both sides for the median."""
    return jnp.where(residual < 0.0, 2.0 * options.quantile, 2.0 - 2.0 * options.quantile)


def _huber_rows(features, target, noise, options: Options):
    """Huber's loss divided by delta^2."""
    residual = features[0] - target
    scaled = jnp.abs(residual) / options.delta
    return _side(residual, options) * jnp.where(scaled < 1.0, 0.5 * scaled**2, scaled - 0.5)


def _huber_costs(features, target, noise, options: Options):
    residual = features[0] - target
    scaled = residual / options.delta
    weight = _side(residual, options) / options.delta**2
    inside = jnp.abs(scaled) < 1.0
    slope = weight * options.delta * jnp.clip(scaled, -1.0, 1.0)
    return (Cost(slope, jnp.where(inside, weight, 0.0), weight / jnp.maximum(jnp.abs(scaled), 1.0)),)


def _log_square_rows(features, target, noise, options: Options):
    return 0.5 * (features[0] - target) ** 2


def _log_square_costs(features, target, noise, options: Options):
    ones = jnp.ones_like(features[0])
    return (Cost(features[0] - target, ones, ones),)


def _square_rows(features, target, noise, options: Options):
    return 0.5 * (features[0] - target) ** 2


def _square_costs(features, target, noise, options: Options):
    ones = jnp.ones_like(features[0])
    return (Cost(features[0] - target, ones, ones),)


OBJECTIVES = {
    found.id: found
    for found in (
        Objective("normal", "negative_log_likelihood", (TAU,), False, 1.0,
                  _normal_features, _normal_rows, _normal_costs, lambda options: 1.0),
        Objective("log_huber", "sum_huber_log", (), True, 1.0,
                  _log_feature, _huber_rows, _huber_costs, lambda options: options.delta**2),
        Objective("log_squares", "sum_squares_log", (), True, 1e-20,
                  _log_feature, _log_square_rows, _log_square_costs, lambda options: 2.0),
        Objective("squares", "sum_squares", (), False, 1e-20,
                  _plain_feature, _square_rows, _square_costs, lambda options: 2.0),
    )
}  # fmt: skip


def check(objective: str | None, delta: float, quantile: float) -> None:
    """Refuse what no objective can do.

    Raises:
        InputError: an unknown objective, a corner that is not above zero, or a quantile outside 0 to 1.
    """
    if objective is not None and objective not in OBJECTIVES:
        raise InputError("fit", "--objective", objective, f"one of {', '.join(OBJECTIVES)}")
    if not delta > 0:
        raise InputError("fit", "--delta", delta, "a number above zero")
    if not 0.0 < quantile < 1.0:
        raise InputError("fit", "--quantile", quantile, "a number between 0 and 1")


def whitened(
    model: Model, features, target, noise, options: Options, weights: Float[Array, "rows"]
) -> Float[Array, "features"]:
    """A vector whose Jacobian J in the parameters has J'J = the information of the rows about them.

    For `normal` that is Fisher's. An M-estimator's covariance is E[psi^2]/E[psi']^2 (J'J)^-1 (Huber 1964), so its
    features are scaled by E[psi']/sqrt(E[psi^2]), which for least squares is one over the residuals' deviation.
    """
    costs = jax.lax.stop_gradient(model.objective.costs(features, target, noise, options))
    root = jnp.sqrt(weights)
    if model.objective.id == "normal":
        return jnp.concatenate([root * jnp.sqrt(c.curvature) * f for f, c in zip(features, costs, strict=True)])
    total = jnp.sum(weights)
    slope = jnp.maximum(jnp.sqrt(jnp.sum(weights * costs[0].slope ** 2) / total), 1e-12)
    # One row more inside the corner than there is: with none there the information would be none.
    curvature = (jnp.sum(weights * costs[0].curvature) + jnp.max(costs[0].majoriser)) / (total + 1.0)
    return root * features[0] * curvature / slope


def huber_log_density(
    log_residuals: Float[np.ndarray, "rows"], scale: float, options: Options = DEFAULTS
) -> Float[np.ndarray, "rows"]:
    """Log of the density proportional to exp(-loss/scale), normalised in closed form.

    Args:
        log_residuals: log prediction less log response.
    """
    delta, q = options
    size = np.abs(log_residuals)
    huber = np.where(size < delta, 0.5 * size**2, delta * (size - 0.5 * delta))
    side = np.where(log_residuals < 0.0, 2.0 * q, 2.0 - 2.0 * q)

    def half(weight: float) -> float:
        own = scale / weight
        return 0.5 * np.sqrt(2 * np.pi * own) * erf(delta / np.sqrt(2 * own)) + own / delta * np.exp(
            -(delta**2) / (2 * own)
        )

    return -side * huber / scale - np.log(half(2.0 * q) + half(2.0 - 2.0 * q))


def huber_scale(log_residuals: Float[np.ndarray, "rows"], options: Options = DEFAULTS) -> float:
    """The scale of `huber_log_density` that makes the residuals most likely: it lets Huber fits be compared by AICc."""

    def loss(log_scale: float) -> float:
        return -float(np.sum(huber_log_density(log_residuals, float(np.exp(log_scale)), options)))

    return float(np.exp(fminbound(loss, -40.0, 2.0)))
