"""The law under test as a function of numbers, with the published constants: numpy only, so it imports cheaply."""

import numpy as np
from numpy.typing import ArrayLike


def predict_gap(
    N: ArrayLike,
    D: ArrayLike,
    A: float = 0.86,
    alpha: float = 0.31,
    z: float = 0.74,
    beta: float = 0.42,
    u_star: float = 1.0,
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
