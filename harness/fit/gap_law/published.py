"""What the source of the gap law published (clawRxiv 2604.02022): its formula and the design it was found on.

This module needs numpy only, so that a plan or a notebook can ask for a prediction without waiting for JAX.
"""

import numpy as np
from numpy.typing import ArrayLike

from sweeps.published_gap import PUBLISHED_GAP

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
