"""Resolvents of random features against draws of them, closed forms and limits."""

import math

import numpy as np
import pytest

from harness.theory import resolvent
from harness.theory.random_features import losses
from harness.theory.spectrum import Spectrum, every_mode, power_law_spectrum

TIMES = np.asarray([0.0, 1.0, 10.0, 1e2, 1e4])


def drawn(modes, N, seed):
    """The mean over signs of u of u^T exp(-2 H t) u for one draw of the features, and its limit."""
    features = np.random.default_rng(seed).standard_normal((N, len(modes.power))) / math.sqrt(N)
    half = features * np.sqrt(modes.eigenvalue)
    rate, basis = np.linalg.eigh(half @ half.T)
    share = (basis.T @ half) ** 2 @ modes.power / rate
    left = modes.power.sum() - share.sum()
    return np.append(left + np.exp(-2 * rate * TIMES[:, None]) @ share, left)


def floor(modes: Spectrum, N: float) -> float:
    """What N features cannot fit of endless samples, by the theory of `random_features`."""
    return float(losses(modes, np.asarray(N), np.asarray(math.inf), 0.0).test)


def test_curves_and_floors_are_those_of_drawn_features():
    modes = every_mode(1000, 1.25, 1.5)
    draws = np.asarray([drawn(modes, 150, seed) for seed in range(16)])
    told = np.append(resolvent.excess(modes, 150, TIMES), floor(modes, 150))
    se = draws.std(axis=0, ddof=1) / 4
    assert np.all(np.abs(draws.mean(axis=0) - told) <= 3 * se + 0.004 * told)
    assert np.all(se < 0.01 * told)


def test_with_infinitely_many_features_each_mode_decays_by_itself():
    modes, t = every_mode(1000, 1.5, 1.8), np.append(0.0, np.geomspace(1e-2, 1e6, 33))
    exact = np.exp(-2 * t[:, None] * modes.eigenvalue) @ modes.power
    np.testing.assert_allclose(resolvent.excess(modes, math.inf, t), exact, atol=1e-12 * exact[0])
    s = np.asarray([0.3 + 0.2j, -0.4 + 1e-3j, 2.0 - 1.0j])
    g = resolvent.solve_resolvent(modes, math.inf, s)
    np.testing.assert_allclose(
        resolvent.heat(modes, s, g), (modes.eigenvalue**2 / (modes.eigenvalue + s[:, None])).sum(axis=1)
    )


@pytest.mark.parametrize("N", [40.0, 99.0, 300.0])
def test_equal_modes_follow_marchenko_and_pastur(N):
    modes = Spectrum(np.asarray([1.0]), np.asarray([100.0]), np.asarray([1.0]), 100.0)
    # Close to the cut on the negative axis, inside and outside the eigenvalues, and far away.
    s = np.asarray([1e-6 + 0j, 5.0 + 0j, -0.5 + 1e-4j, -1.0 - 1e-3j, -30.0 + 1e-5j, 1e4j])
    g = resolvent.solve_resolvent(modes, N, s)
    roots = np.asarray([np.roots([1.0, 1 - x - 100 / N, -x]) for x in s])
    assert np.all(np.abs(roots - g[:, None]).min(axis=1) <= 1e-9 * np.abs(g))
    assert np.all(np.imag(g) * np.imag(s) >= 0) and np.all(np.real(g[:2]) > 0)
    assert resolvent.excess(modes, N, np.asarray([1e9]))[0] == pytest.approx(max(0.0, 1 - N / 100), abs=1e-8)


def test_the_curve_falls_to_the_floor_and_a_trillion_modes_are_as_quick_as_a_thousand():
    few = resolvent.excess(power_law_spectrum(3000, 1.25, 1.5), 64, TIMES)
    np.testing.assert_allclose(few, resolvent.excess(every_mode(3000, 1.25, 1.5), 64, TIMES), rtol=1e-6)
    many = power_law_spectrum(1e12, 1.25, 1.5)
    curve = resolvent.excess(many, 1e6, np.geomspace(1.0, 1e12, 25))
    assert np.all(np.diff(curve) < 1e-12)
    assert curve[-1] == pytest.approx(floor(many, 1e6), rel=1e-9)
