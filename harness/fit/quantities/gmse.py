"""Gaussian mean squared error of a standard normal number in a compressed format, for the law `compressed`."""

import numpy as np
from scipy.integrate import quad
from scipy.optimize import fminbound
from scipy.special import comb, erfc
from scipy.stats import norm


def uniform_gmse(bits: int) -> float:
    """The error of the best uniform quantiser of 2^bits levels placed evenly about zero (INT4: bits = 4)."""
    half = 2 ** (bits - 1)

    def error(step: float) -> float:
        """E (x - q(x))^2, twice its part over x > 0: cells end at multiples of the step, levels lie in their middle."""
        edges = np.append(step * np.arange(half), np.inf)
        levels = step * (np.arange(half) + 0.5)
        low, high = edges[:-1], edges[1:]
        mass = norm.cdf(high) - norm.cdf(low)
        first = norm.pdf(low) - norm.pdf(high)
        second = mass + low * norm.pdf(low) - np.append(high[:-1] * norm.pdf(high[:-1]), 0.0)
        return 2.0 * float(np.sum(second - 2.0 * levels * first + levels**2 * mass))

    return error(float(np.ravel(fminbound(error, 1e-3, 4.0, xtol=1e-10))[0]))


def sparse_gmse(sparsity: float) -> float:
    """The error of setting the share `sparsity` of smallest magnitudes to zero: E x^2 over |x| below its quantile."""
    edge = norm.ppf(0.5 + 0.5 * sparsity)
    return float(sparsity - 2.0 * edge * norm.pdf(edge)) if sparsity < 1.0 else 1.0


def block_sparse_gmse(kept: int, block: int) -> float:
    """The error of keeping the `kept` largest magnitudes in each block of `block` numbers; tensor cores keep 2 of 4.

    E x^2 P(x is dropped | x), where x is dropped if at least `kept` of the others exceed its magnitude.
    """

    def dropped(x: float) -> float:
        larger = erfc(x / np.sqrt(2.0))
        others = block - 1
        return float(sum(comb(others, m) * larger**m * (1.0 - larger) ** (others - m) for m in range(kept, block)))

    return float(2.0 * quad(lambda x: x**2 * norm.pdf(x) * dropped(x), 0.0, np.inf)[0])


def gmse_bits(gmse: float) -> float:
    """The rate log_{1/4} gmse in bits at which a Gaussian source can be coded with that error."""
    return float(-np.log(gmse) / np.log(4.0))
