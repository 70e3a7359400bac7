"""Power-law spectra of solvable models: eigenvalues i^-b and task powers i^-a over modes i = 1..M, by few nodes.

Random-feature models, gradient flow and one-pass SGD on power-law data are one family (Bordelon et al. 2024,
arXiv 2402.01092, b and a; Maloney et al. 2022, arXiv 2210.16859, b = a = 1 + alpha; Paquette et al. 2024,
arXiv 2405.15074, b = 2 alpha, a = 2 alpha + 2 beta). All that is exact about them are sums over the modes of smooth
functions of the eigenvalue. These take few nodes: 10^12 modes cost what 400 do.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Inexact

# The first EXACT modes are nodes of their own. Beyond them a sum over i becomes an integral in which mode i covers
# i - 1/2 to i + 1/2, by Gauss's rule of _PANEL_POINTS nodes on intervals of log i, each at most log RATIO long. At
# EXACT = 256 the sum of i^-2 over 10^6 modes is right to 3e-9.
EXACT = 256
_PANEL_POINTS = 6
RATIO = 2.0


@dataclass(frozen=True)
class Spectrum:
    """A spectrum of modes, some of them joined in one node.

    Attributes:
        eigenvalue: lambda at each node.
        count: how many modes each node stands for; not an integer beyond the first nodes.
        power: the task's power at each node, the sum of (w*)^2 lambda over its modes.
        modes: M; the sum of the counts is M to a relative error of 1e-15.
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
    """The spectrum lambda_i = i^-b, (w*_i)^2 lambda_i = i^-a for i = 1..modes (math.inf stands for 10^40).

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
    """(z, q): sums over the modes of lambda/(lambda + g) and of its square, at real or complex g.

    Uses einsum, because BLAS starts two threads for these few numbers: three times the work, and on busy cores ten.
    """
    learned = spectrum.eigenvalue / (spectrum.eigenvalue + np.asarray(g)[..., None])
    z = np.einsum("...k,k->...", learned, spectrum.count)
    return z, np.einsum("...k,...k,k->...", learned, learned, spectrum.count)
