"""Random features of power-law data by one-point resolvents: what does not depend on the draw of the features.

The model has N features A x of data x with variances lambda_i; A (N x M) has iid entries N(0, 1/N). In the basis of the
data its population Hessian is H = Lambda^(1/2) A^T A Lambda^(1/2) (M x M, of rank N), and its error at the start is the
vector u, u_i^2 = power_i. With g the root of s = g (1 - z(g)/N), z(g) = sum lambda/(lambda + g),

    u^T (H + s)^-1 u   ->  sum power g / (s (lambda + g))
    tr H^2 (H + s)^-1  ->  sum lambda - s z(g)

(Silverstein and Bai 1995; Maloney et al. 2022, arXiv 2210.16859; Bordelon et al. 2024, arXiv 2402.01092; Paquette et
al. 2024, arXiv 2405.15074). For another function of H in place of (H + s)^-1, such as exp(-2 H t), the value is an
inverse Laplace transform of these two, computed on a contour of few complex s. That needs neither a density of
eigenvalues nor a draw, and its time does not grow with M, N or t.

Regime: the limit of large N, and exact at N = infinity. At finite N the mean loss over draws of A is higher by O(1/N):
at b = 1.25, a = 1.5 by 0.8 % at N = 32 and by 0.1 % at N = 300, at all times. The loss of a single draw differs by 6 %
at N = 32 and by 0.5 to 2 % at N = 300 (more where the first modes hold more of the power).
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Complex, Float

from harness.theory.spectrum import Spectrum, degrees

_Points = Complex[np.ndarray, "*s"]

# Nodes on half the contour. The error relative to the loss at t = 0 is 1e-12 with 10 nodes and 1e-14 with 14; with 16,
# rounding brings it back to 2e-13.
_CONTOUR_NODES = 14
# The root is followed from the positive axis to a node in steps of this angle, so that Newton's method starts near it;
# with steps of pi/2 and of pi/24 the roots of twenty spectra and sizes were the same.
TURN = math.pi / 4
NEWTON = 200
# The relative length of a step after which Newton's method ends: NEAR for roots on the way to a node, EXACT at the node
# (after a step of 1e-8 the error is 1e-16).
NEAR, EXACT = 1e-2, 1e-8


def solve_resolvent(spectrum: Spectrum, N: float, s: _Points) -> _Points:
    """The root g of s = g (1 - z(g)/N) for complex s that are neither 0 nor on the negative real axis.

    ArithmeticError if Newton's method finds no root, or one on the other side of the real axis from s.
    """
    radius, angle = np.abs(s), np.angle(s)
    # g - g z(g)/N is convex, and increasing to the right of its largest root. The start lies to the right of that root,
    # so Newton converges.
    g = _newton(spectrum, N, radius.astype(complex), radius + spectrum.trace / N + 0j, NEAR)
    turns = max(1, math.ceil(float(np.max(np.abs(angle), initial=0.0)) / TURN))
    for turn in range(1, turns + 1):
        share = turn / turns
        g = _newton(spectrum, N, radius * np.exp(1j * angle * share), g * np.exp(1j * angle / turns), NEAR)
    g = _newton(spectrum, N, s, g, EXACT)
    # In the half plane of s the root is unique (Silverstein and Bai 1995); it is real where s is.
    if np.any(np.imag(g) * np.sign(angle) < -1e-9 * np.abs(g)):
        raise ArithmeticError("the resolvent's root left the half plane")
    return g


def _newton(spectrum: Spectrum, N: float, s: _Points, g: _Points, last: float) -> _Points:
    """Newton's method from g until the length of a step is less than the share `last` of |g|."""
    for _ in range(NEWTON):
        z, q = degrees(spectrum, g)
        change = (g * (1 - z / N) - s) / (1 - q / N)
        # A step of more than half of g may leave the half plane.
        change = change * np.minimum(1.0, 0.5 * np.abs(g) / np.maximum(np.abs(change), 1e-300))
        g = g - change
        if np.all(np.abs(change) <= last * np.abs(g)):
            return g
    raise ArithmeticError(f"no root of the resolvent within {NEWTON} steps")


def error(spectrum: Spectrum, s: _Points, g: _Points) -> _Points:
    """u^T (H + s)^-1 u at g = g(s)."""
    return g / s * np.einsum("...k,k->...", 1.0 / (spectrum.eigenvalue + g[..., None]), spectrum.power)


def heat(spectrum: Spectrum, s: _Points, g: _Points) -> _Points:
    """tr H^2 (H + s)^-1 at g = g(s)."""
    return spectrum.trace - s * degrees(spectrum, g)[0]


def inverse_laplace(
    transform: Callable[[Complex[np.ndarray, "times nodes"]], Complex[np.ndarray, "times nodes"]],
    t: Float[np.ndarray, "times"],
) -> Float[np.ndarray, "times"]:
    """The real function with this Laplace transform, at times t > 0; the transform must be analytic off (-inf, 0].

    The midpoint rule on the cotangent contour of Weideman 2006 (SIAM J. Numer. Anal. 44), with 2 _CONTOUR_NODES nodes.
    """
    count = 2 * _CONTOUR_NODES
    theta = (np.arange(_CONTOUR_NODES) + 0.5) * 2 * math.pi / count
    cot = 1 / np.tan(0.6407 * theta)
    place = count * (0.5017 * theta * cot - 0.6122 + 0.2645j * theta)
    slope = count * (0.5017 * cot - 0.5017 * 0.6407 * theta / np.sin(0.6407 * theta) ** 2 + 0.2645j)
    p = place / np.asarray(t, float)[:, None]
    # The contour's lower half is the conjugate of this one: twice the real part of (1/2 pi i) sum f e^p dp, with
    # dp = 2 pi/count slope.
    return np.imag(transform(p) @ (np.exp(place) * slope)) * 2 / count / np.asarray(t, float)


def excess(spectrum: Spectrum, N: float, t: Float[np.ndarray, "times"]) -> Float[np.ndarray, "times"]:
    """u^T exp(-2 H t) u: the loss, without noise, after population gradient flow dw/dt = -H w for a time t >= 0.

    This is the flow of half the squared error; N may be math.inf.
    """
    t = np.asarray(t, float)
    loss = np.full(len(t), spectrum.power.sum())

    def transform(s):
        return error(spectrum, s, solve_resolvent(spectrum, N, s))

    loss[t > 0] = inverse_laplace(transform, 2 * t[t > 0])
    return loss
