"""Sums over many modes by few nodes, beside the sums themselves and the zeta function."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import zeta

from harness.theory.spectrum import every_mode, power_law_spectrum


@settings(max_examples=25)
@given(
    st.integers(1, 200_000), st.floats(1.05, 3.0), st.floats(1.05, 3.0), st.floats(-12.0, 0.0).map(lambda x: 10.0**x)
)
def test_nodes_sum_like_modes(count, b, a, g):
    nodes, modes = power_law_spectrum(count, b, a), every_mode(count, b, a)
    assert nodes.modes == pytest.approx(count, rel=1e-12)
    for function in (lambda x: x / (x + g), lambda x: np.square(x / (x + g))):
        wanted = function(modes.eigenvalue).sum()
        assert nodes.count @ function(nodes.eigenvalue) == pytest.approx(wanted, rel=1e-6)
    unlearned = modes.power @ (g / (modes.eigenvalue + g))
    assert nodes.power @ (g / (nodes.eigenvalue + g)) == pytest.approx(unlearned, rel=1e-6)


def test_infinitely_many_modes():
    spectrum = power_law_spectrum(math.inf, 1.5, 2.0)
    assert spectrum.power.sum() == pytest.approx(math.pi**2 / 6, rel=1e-8)
    assert spectrum.count @ spectrum.eigenvalue == pytest.approx(float(zeta(1.5)), rel=1e-7)
    assert len(spectrum.count) < 1200


@pytest.mark.parametrize(("modes", "b", "a"), [(0, 2.0, 2.0), (math.inf, 1.0, 2.0), (math.inf, 2.0, 0.9)])
def test_a_spectrum_without_a_sum_is_refused(modes, b, a):
    with pytest.raises(ValueError, match="finite"):
        power_law_spectrum(modes, b, a)
