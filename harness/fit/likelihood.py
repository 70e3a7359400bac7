"""The two ways a law meets data: a normal likelihood on the gap itself, and a sum of Huber losses on the log loss."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import fminbound
from scipy.special import erf

from harness.fit.law import Law, Parameter, Parameters

HUBER_DELTA = 1e-3
TAU = Parameter("tau", "log", 1e-4, 30.0, (0.2,))


@dataclass(frozen=True)
class Likelihood:
    """How residuals are weighed.

    Attributes:
        id: its name in a law's declaration.
        objective: the name of the minimised quantity in a result.
        parameters: constants it adds to those of the law.
        rows: (prediction, response, noise, parameters, delta) -> loss of each row in units of a log likelihood.
        whitened: the same arguments and row weights -> a vector whose Jacobian J has J'J = the Fisher information.
        unit: delta -> the factor from the loss of `rows` to the objective as the literature writes it.
    """

    id: str
    objective: str
    parameters: tuple[Parameter, ...]
    rows: Callable[..., Float[Array, "rows"]]
    whitened: Callable[..., Float[Array, "features"]]
    unit: Callable[[float], float]


def _gap_rows(prediction, response, noise, parameters: Parameters, delta):
    """-log Normal(G; m, SE^2 + (tau m)^2). Negative gaps are kept: a log likelihood would drop them and bias beta."""
    variance = noise**2 + (parameters["tau"] * prediction) ** 2
    return 0.5 * ((response - prediction) ** 2 / variance + jnp.log(2 * jnp.pi * variance))


def _gap_whitened(prediction, response, noise, parameters: Parameters, delta, weights):
    """Fisher information of a normal whose variance moves with its mean: (dm)^2/v + (d log v)^2/2."""
    variance = noise**2 + (parameters["tau"] * prediction) ** 2
    root = jnp.sqrt(weights)
    mean_part = root * prediction / jax.lax.stop_gradient(jnp.sqrt(variance))
    return jnp.concatenate([mean_part, root * jnp.log(variance) / jnp.sqrt(2.0)])


def _huber(residual, delta):
    """Huber's loss divided by delta^2."""
    scaled = jnp.abs(residual) / delta
    return jnp.where(scaled < 1.0, 0.5 * scaled**2, scaled - 0.5)


def _log_huber_rows(prediction, response, noise, parameters: Parameters, delta):
    return _huber(jnp.log(prediction) - jnp.log(response), delta)


def _log_huber_whitened(prediction, response, noise, parameters: Parameters, delta, weights):
    """An M-estimator's covariance is E[psi^2]/E[psi']^2 (J'J)^-1, so J is scaled by E[psi']/sqrt(E[psi^2])."""
    residual = jax.lax.stop_gradient(jnp.log(prediction) - jnp.log(response))
    total = jnp.sum(weights)
    inside = (jnp.sum(weights * (jnp.abs(residual) < delta)) + 1.0) / (total + 1.0)
    square = jnp.sum(weights * jnp.clip(residual, -delta, delta) ** 2) / total
    return jnp.sqrt(weights) * jnp.log(prediction) * inside / jnp.sqrt(square)


LIKELIHOODS = {
    "gap": Likelihood("gap", "negative_log_likelihood", (TAU,), _gap_rows, _gap_whitened, lambda delta: 1.0),
    "log_huber": Likelihood(
        "log_huber", "sum_huber_log", (), _log_huber_rows, _log_huber_whitened, lambda delta: delta**2
    ),
}


def likelihood_of(law: Law) -> Likelihood:
    """The likelihood a law declares."""
    return LIKELIHOODS[law.likelihood]


def parameters_of(law: Law) -> tuple[Parameter, ...]:
    """The law's constants, then those of its likelihood: the coordinates of every fit of this law."""
    return (*law.parameters, *likelihood_of(law).parameters)


def huber_log_density(
    log_residuals: Float[np.ndarray, "rows"], scale: float, delta: float = HUBER_DELTA
) -> Float[np.ndarray, "rows"]:
    """Log of the density proportional to exp(-huber(r)/scale), normalised in closed form."""
    huber = np.where(
        np.abs(log_residuals) < delta, 0.5 * log_residuals**2, delta * (np.abs(log_residuals) - 0.5 * delta)
    )
    tails = 2 * scale / delta * np.exp(-(delta**2) / (2 * scale))
    return -huber / scale - np.log(np.sqrt(2 * np.pi * scale) * erf(delta / np.sqrt(2 * scale)) + tails)


def huber_scale(log_residuals: Float[np.ndarray, "rows"], delta: float = HUBER_DELTA) -> float:
    """The scale of `huber_log_density` that makes the residuals most likely: it lets Huber fits be compared by AICc."""

    def loss(log_scale: float) -> float:
        return -float(np.sum(huber_log_density(log_residuals, float(np.exp(log_scale)), delta)))

    return float(np.exp(fminbound(loss, -40.0, 2.0)))
