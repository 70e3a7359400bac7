"""What the gap law predicts, which runs its source had, and its constants as a fit gives them.

The published constants are in `sweeps.published_gap`. This module needs no JAX, so that a plan or a notebook can ask
for a prediction without waiting for JAX to load.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from harness.fit.results.result import FitResult
from sweeps.published_gap import PUBLISHED_GAP, GapConstants

SOURCE_RUNS = 174
SOURCE_N = (7e7, 1.3e10)  # smallest and largest number of parameters
SOURCE_D = (1e9, 4e12)  # fewest and most tokens
# The residual scatter that the source states, relative to the prediction.
SOURCE_SCATTER = 0.08


def predict_gap(
    N: ArrayLike,
    D: ArrayLike,
    A: float = PUBLISHED_GAP.A,
    alpha: float = PUBLISHED_GAP.alpha,
    z: float = PUBLISHED_GAP.z,
    beta: float = PUBLISHED_GAP.beta,
    u_star: float = PUBLISHED_GAP.u_star,
) -> np.ndarray:
    """Predicted generalization gap in nats per token, G = A N^-alpha f(D/N^z) (clawRxiv 2604.02022).

    f = 1 up to u_star and (u/u_star)^-beta above, so log G = log A - alpha log N + log f. N and D broadcast.

    Args:
        N: parameters, a raw count. The source does not say in which unit its constants hold; raw counts are assumed.
        D: tokens processed, a raw count.
    """
    log_n, log_d = np.log(np.asarray(N, float)), np.log(np.asarray(D, float))
    log_f = -beta * np.maximum(log_d - z * log_n - np.log(u_star), 0.0)
    return np.exp(np.log(A) - alpha * log_n + log_f)


def reduced_data(n: ArrayLike, d: ArrayLike, z: float = PUBLISHED_GAP.z) -> np.ndarray:
    """The variable of the law, u = D/N^z, of raw counts."""
    return np.asarray(d, float) / np.asarray(n, float) ** z


def source_reach() -> tuple[float, float]:
    """The smallest and the largest u that the source's own N and D allow."""
    return SOURCE_D[0] / SOURCE_N[1] ** PUBLISHED_GAP.z, SOURCE_D[1] / SOURCE_N[0] ** PUBLISHED_GAP.z


def estimated_constants(fit: FitResult) -> GapConstants | None:
    """The best point of a fit of the gap law, identified or not; None if a constant has no finite value there."""
    values = {name: fit.parameters[name].estimate for name in GapConstants._fields}
    known = {name: value for name, value in values.items() if value is not None}
    return GapConstants(**known) if len(known) == len(values) else None


def unidentified_constants(fit: FitResult) -> list[str]:
    """The names of the law's constants that the rows do not identify."""
    return [name for name in GapConstants._fields if not fit.parameters[name].identified]


def collapse_constants(fit: FitResult, smallest_u: float) -> GapConstants | None:
    """The fitted constants at which a collapse can be drawn; None where the rows determine too few.

    Where alpha or z is not identified, but the slopes and the height of the branch above the crossover are, every z
    fits equally well. Then this returns the equally good constants with the published z and a crossover below all rows.

    Args:
        smallest_u: the smallest D/N^z of the rows at the published z.
    """
    if fit.parameters["alpha"].identified and fit.parameters["z"].identified:
        return estimated_constants(fit)
    known = {name: combination.estimate for name, combination in fit.combinations.items()}
    beta, z = fit.parameters["beta"], PUBLISHED_GAP.z
    slope, height = known.get("alpha - z*beta"), known.get("log A + beta*log u_star")
    if not beta.identified or beta.estimate is None or slope is None or height is None:
        return None
    u_star = smallest_u / 10
    height_at_one = math.exp(height - beta.estimate * math.log(u_star))
    return GapConstants(height_at_one, slope + z * beta.estimate, z, beta.estimate, u_star)
