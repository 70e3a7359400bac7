"""Power-law spectra of solvable models: eigenvalues i^-b and task powers i^-a over modes i = 1..M, by few nodes.

Random-feature models, gradient flow and one-pass SGD on power-law data are one family (Bordelon et al. 2024,
arXiv 2402.01092, b and a; Maloney et al. 2022, arXiv 2210.16859, b = a = 1 + alpha; Paquette et al. 2024,
arXiv 2405.15074, b = 2 alpha, a = 2 alpha + 2 beta). All that is exact about them are sums over the modes of smooth
functions of the eigenvalue; 10^12 modes cost what 400 do.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Inexact

# The first modes stand for themselves. After them a sum over i is an integral from i - 1/2 to i + 1/2 of each, by
# Gauss's rule of POINTS on intervals of log i. At EXACT = 256 the sum of i^-2 over 10^6 modes is right to 3e-9.
EXACT = 256
_PANEL_POINTS = 6
RATIO = 2.0


@dataclass(frozen=True)
class Spectrum:
    """Modes, some of them together as one node.

    Attributes:
        eigenvalue: lambda of a node.
        count: how many modes the node stands for; not an integer.
        power: the task's power, the sum of (w*)^2 lambda over these modes.
        modes: M; the counts add up to it within 1e-15 of it.
    """

    eigenvalue: Float[np.ndarray, "nodes"]
    count: Float[np.ndarray, "nodes"]
    power: Float[np.ndarray, "nodes"]
    modes: float

    @property
    def trace(self) -> float:
        """The sum of the eigenvalues of all modes."""
        return float(self.count @ self.eigenvalue)


def power_law_spectrum(modes: float, b: float, a: float) -> Spectrum:
    """lambda_i = i^-b and (w*_i)^2 lambda_i = i^-a for i = 1..modes (math.inf stands for 10^40).

    Raises ValueError for fewer than one mode, or infinitely many whose trace or power is infinite (b or a at most 1).
    """
    if modes < 1 or (math.isinf(modes) and min(a, b) <= 1.0):
        raise ValueError(f"{modes} modes with exponents {b} and {a}: their sums must be finite")
    last = min(modes, 1e40)
    index = np.arange(1.0, min(last, EXACT) + 1)
    count = np.ones_like(index)
    if last > EXACT:
        low, high = math.log(EXACT + 0.5), math.log(last + 0.5)
        edges = np.linspace(low, high, math.ceil((high - low) / math.log(RATIO)) + 1)
        nodes, weights = np.polynomial.legendre.leggauss(_PANEL_POINTS)
        half = np.diff(edges)[:, None] / 2
        places = np.exp((edges[:-1, None] + half * (1 + nodes)).ravel())
        index = np.concatenate([index, places])
        count = np.concatenate([count, (half * weights).ravel() * places])
    return Spectrum(index**-b, count, count * index**-a, float(last))


def every_mode(modes: int, b: float, a: float) -> Spectrum:
    """`power_law_spectrum` with a node for each mode."""
    index = np.arange(1.0, modes + 1)
    return Spectrum(index**-b, np.ones(modes), index**-a, float(modes))


def degrees(
    spectrum: Spectrum, g: Inexact[np.ndarray, "*rows"]
) -> tuple[Inexact[np.ndarray, "*rows"], Inexact[np.ndarray, "*rows"]]:
    """(z, q): sums over the modes of lambda/(lambda + g) and of its squares, at real or complex g.

    einsum, not BLAS, which takes two threads to these few numbers: three times the work, and on busy cores ten.
    """
    learned = spectrum.eigenvalue / (spectrum.eigenvalue + np.asarray(g)[..., None])
    z = np.einsum("...k,k->...", learned, spectrum.count)
    return z, np.einsum("...k,...k,k->...", learned, learned, spectrum.count)
