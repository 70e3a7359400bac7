import jax
import numpy as np
import pytest

from harness.fit.laws.gap_collapse import SPLINE_SLOPES
from harness.fit.laws.registry import get_law

LAW = get_law("gap_spline")
TOKENS = np.exp(np.linspace(-30, 30, 4001))


def log_f(slopes) -> np.ndarray:
    """log G over log D at N = 1, A = 1 and u_0 = 1: the curve itself."""
    values = {
        "A": 1.0,
        "alpha": 0.3,
        "z": 0.7,
        "u_0": 1.0,
        "step": 2.0,
        **dict(zip(SPLINE_SLOPES, slopes, strict=True)),
    }
    with jax.enable_x64(True):
        return np.log(np.asarray(LAW.predict(values, {"N": np.ones(len(TOKENS)), "D": TOKENS})))


def test_equal_slopes_are_a_power_law():
    np.testing.assert_allclose(log_f([0.42] * 5), -0.42 * np.log(TOKENS), atol=1e-9)


def test_the_slope_is_a_line_between_its_places_and_constant_beyond():
    slopes = [0.1, 0.7, 0.0, 0.4, 0.5]
    found = -np.gradient(log_f(slopes), np.log(TOKENS))
    expected = np.interp(np.log(TOKENS), 2.0 * np.arange(-2, 3), slopes)
    np.testing.assert_allclose(found[1:-1], expected[1:-1], atol=3e-3)
    assert abs(log_f(slopes)[2000]) < 1e-12


def test_it_never_rises():
    rng = np.random.default_rng(0)
    assert all(np.all(np.diff(log_f(rng.uniform(0, 1, 5))) <= 1e-12) for _ in range(20))


@pytest.mark.parametrize("name", ["step", *SPLINE_SLOPES])
def test_its_shape_is_declared(name):
    assert name in LAW.shapes
