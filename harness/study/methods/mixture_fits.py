"""Laws of the loss of mixtures of corpora for many fits at once (`many_fits`), in coordinates of their own.

They are `mixture_additive_n` and `mixture_exponential` of `harness.fit.laws.mixtures`, where their sources are, and the
joint law for runs that all read as many tokens, which leaves its term of D out.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from harness.study.methods.many_fits import LogModel

# The size at which the coordinate of the term of N is its level, in the search only.
AT_N = 5e3

Shares = Float[np.ndarray, "rows corpora"]
# A law: shares and sizes -> the log of its loss as a function of its coordinates.
MixtureLaw = Callable[[Shares, np.ndarray], LogModel]


def _log_shares(shares: Shares) -> Float[np.ndarray, "corpora rows"]:
    with np.errstate(divide="ignore"):
        return np.log(shares).T


def _log_sum(
    levels: Float[np.ndarray, "fits corpora"], powers: Float[np.ndarray, "fits corpora"], logs: np.ndarray
) -> Float[np.ndarray, "fits rows"]:
    """The log of the sum over corpora of e^level h^power."""
    parts = zip(levels.T[..., None], powers.T[..., None], logs, strict=True)
    return np.log(sum(np.exp(level + power * log) for level, power, log in parts))


def _domain_term(shares: Shares) -> LogModel:
    """The log of 1/sum_i C_i h_i^g_i, of three logs of C and three g = 1/(1 + e^-theta) between 0 and 1.

    A power above 1 would let a corpus help ever more (`harness.fit.laws.mixtures`).
    """
    logs = _log_shares(shares)

    def log_term(theta: Float[np.ndarray, "fits 6"]) -> Float[np.ndarray, "fits rows"]:
        power = 1 / (1 + np.exp(-theta[:, 3:6]))
        return -_log_sum(theta[:, :3], power, logs)

    return log_term


def additive_mixture(shares: Shares, n: np.ndarray) -> LogModel:
    """Log of E + A N^-alpha + 1/sum_i C_i h_i^g_i; logs of E, A at AT_N and alpha, then those of the last term."""
    term, x = _domain_term(shares), np.log(n / AT_N)

    def log_model(theta: Float[np.ndarray, "fits 9"]) -> Float[np.ndarray, "fits rows"]:
        of_size = np.clip(theta[:, 1:2] - np.exp(np.minimum(theta[:, 2:3], 1.0)) * x, -20.0, 20.0)
        return np.logaddexp(np.logaddexp(theta[:, :1], of_size), term(theta[:, 3:]))

    return log_model


def joint_mixture(shares: Shares, n: np.ndarray) -> LogModel:
    """As `additive_mixture` with A = (sum_i A_i h_i)^g, whose logs of A_i^g at AT_N, and that of g, are the last."""
    term, x, logs = _domain_term(shares), np.log(n / AT_N), _log_shares(shares)

    def log_model(theta: Float[np.ndarray, "fits 12"]) -> Float[np.ndarray, "fits rows"]:
        power = np.exp(np.clip(theta[:, 11:12], -2.0, 2.0))
        level = power * _log_sum(theta[:, 8:11] / power, np.ones_like(theta[:, 8:11]), logs)
        of_size = np.clip(level - np.exp(np.minimum(theta[:, 1:2], 1.0)) * x, -20.0, 20.0)
        return np.logaddexp(np.logaddexp(theta[:, :1], of_size), term(theta[:, 2:8]))

    return log_model


def mixture_surface(shares: Shares, n: np.ndarray) -> LogModel:
    """Log of E + 1/sum_i C_i h_i^g_i: the surface of one size."""
    term = _domain_term(shares)
    return lambda theta: np.logaddexp(theta[:, :1], term(theta[:, 1:]))


def exponential_mixture(shares: Shares, n: np.ndarray) -> LogModel:
    """Log of c + exp(sum_i t_i h_i), at one size."""
    return lambda theta: np.logaddexp(theta[:, :1], np.clip(theta[:, 1:] @ shares.T, -20.0, 20.0))
