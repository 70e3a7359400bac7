"""A law together with an objective: the parameters of the search, and the features that the losses depend on."""

import functools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws.law import Law, Parameter, backward, named
from harness.fit.problem.objective import Objective


@dataclass(frozen=True)
class StatisticalModel:
    """A law (bound to the columns of a table) and its objective. Programs are compiled once for each such pair."""

    law: Law
    objective: Objective

    @functools.cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The law's constants, then those of the objective: the coordinates of the search."""
        return (*self.law.parameters, *self.objective.parameters)

    def __hash__(self) -> int:
        """The hash, computed once: JAX asks with every call, and a law's own takes as long as a step of 32 searches."""
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.law, self.objective))


@functools.cache
def interned(model: StatisticalModel) -> StatisticalModel:
    """Return the same object for equal models, so that JAX finds a compiled program by identity."""
    return model


def bounds_of(model: StatisticalModel) -> tuple[Float[np.ndarray, "parameters"], Float[np.ndarray, "parameters"]]:
    """The lowest and the highest value of every parameter, in the coordinates of the search."""
    ends = np.array([(p.low, p.high) for p in model.parameters], float)
    logs = in_logs(model)
    ends[logs] = np.log(ends[logs])
    return ends[:, 0], ends[:, 1]


def ends_of_range(model: StatisticalModel, theta: Float[np.ndarray, "... parameters"]) -> np.ndarray:
    """Where each parameter is in its range: -1 at the lowest value, 1 at the highest, and 0 between them."""
    low, high = bounds_of(model)
    return np.where(theta - low < 1e-6, -1, np.where(high - theta < 1e-6, 1, 0))


def in_logs(model: StatisticalModel) -> np.ndarray:
    """Which parameters are searched in logs."""
    return np.array([p.transform == "log" for p in model.parameters])


def is_linear(model: StatisticalModel) -> np.ndarray:
    """Which parameters the response is linear in."""
    return np.array([(p.of or p.name) in model.law.linear for p in model.parameters])


def features_of(model: StatisticalModel, theta, columns, noise) -> tuple[Float[Array, "rows"], ...]:
    """The features on which the losses of the rows depend, at a point in the coordinates of the search."""
    values = jnp.stack([backward(p, theta[i]) for i, p in enumerate(model.parameters)])
    return features_at_values(model, values, columns, noise)


def features_at_values(model: StatisticalModel, values: Float[Array, "parameters"], columns, noise):
    """The same features as `features_of`, at parameters in natural units."""
    by_name = named(model.parameters, values)
    rows = jnp.zeros(noise.shape)  # added, so that a prediction that is the same for all rows has a value per row
    return model.objective.features(model.law.predict(by_name, columns) + rows, noise, by_name)
