"""`lr_anneal` with the decay of its momentum fitted, as a memory in steps: the momentum decays by 1 - 1/memory a step.

`gain` is what annealing by one unit of the rate takes off the loss in each `memory` steps that follow (C of `lr_anneal`
times its 1000 steps), which the data say better than what it takes off a step. On curves of 25, 100 and 400 million
parameters the memory came out at 540 to 610 steps wherever a run with a sudden change of the rate was fitted, and
unseen schedules were met as well as with 1000 steps or better. Smooth schedules alone do not identify it; of a single
cosine the fixed memory predicts better.
"""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from harness.fit.laws import lr_anneal
from harness.fit.laws._schedule import annealed, summed_rates
from harness.fit.laws.law import Columns, Combination, Parameter, Parameters

SHORTEST, LONGEST = 2.0, 2e4
# S2 is computed once, at Chebyshev nodes of log memory, and interpolated by the barycentric formula: exact to 1e-4.
NODES = 24
_ANGLES = np.pi * (np.arange(NODES) + 0.5) / NODES
_WEIGHTS = (-1.0) ** np.arange(NODES) * np.sin(_ANGLES)
_MEMORIES = SHORTEST * (LONGEST / SHORTEST) ** (0.5 * (np.cos(_ANGLES) + 1.0))


def derive(columns: Columns) -> dict[str, np.ndarray]:
    return {"S1": summed_rates(columns), "S2": annealed(columns, 1.0 - 1.0 / _MEMORIES)}


def interpolated(values: Float[Array, "rows nodes"], memory: Float[Array, ""]) -> Float[Array, "rows"]:
    apart = 2.0 * jnp.log(memory / SHORTEST) / np.log(LONGEST / SHORTEST) - 1.0 - np.cos(_ANGLES)
    # At a node itself the formula has no value; it is continuous there.
    weights = _WEIGHTS / jnp.where(jnp.abs(apart) < 1e-12, 1e-12, apart)
    return values @ (weights / jnp.sum(weights))


def predict(parameters: Parameters, columns: Columns) -> Float[Array, "rows"]:
    p = parameters
    s2 = interpolated(columns["S2"], p["memory"])
    return p["L0"] + p["A"] * jnp.exp(-p["alpha"] * jnp.log(columns["S1"])) - p["gain"] * s2


LAW = replace(
    lr_anneal.LAW,
    id="lr_anneal_free",
    formula="L = L0 + A S1^-alpha - gain S2/memory, momentum of S2 decaying by 1 - 1/memory a step",
    parameters=(
        *lr_anneal.PARAMETERS,
        Parameter("gain", "log", 1e-8, 1e9, (400.0,)),
        Parameter("memory", "log", SHORTEST, LONGEST, (30.0, 500.0)),
    ),
    predict=predict,
    derive=derive,
    linear=("L0", "A", "gain"),
    combinations=(
        Combination("decay", lambda p: 1.0 - 1.0 / p["memory"]),
        Combination("gain/memory", lambda p: p["gain"] / p["memory"]),
    ),
    alternatives=("lr_anneal",),
)
