import jax
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from harness.fit.problem.objective import OBJECTIVES, HuberOptions, huber_log_density, huber_scale


def test_normal_rows_are_normal_log_densities_and_keep_negative_gaps():
    prediction, response, noise = np.array([0.02, 0.01]), np.array([0.025, -0.004]), np.array([0.003, 0.01])
    with jax.enable_x64(True):
        normal = OBJECTIVES["normal"]
        rows = normal.rows(normal.features(prediction, noise, {"tau": 0.2}), response, noise, HuberOptions())
    expected = -norm.logpdf(response, prediction, np.sqrt(noise**2 + (0.2 * prediction) ** 2))
    np.testing.assert_allclose(rows, expected, rtol=1e-12)


def test_huber_rows_times_their_unit_are_hubers_loss():
    delta = 1e-3
    with jax.enable_x64(True):
        huber = OBJECTIVES["log_huber"]
        rows = huber.rows((np.array([5e-4, -0.02]),), np.zeros(2), np.zeros(2), HuberOptions(delta))
    expected = [0.5 * 5e-4**2, delta * (0.02 - 0.5 * delta)]
    np.testing.assert_allclose(np.asarray(rows) * huber.unit(HuberOptions(delta)), expected, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1e-4])
def test_the_huber_density_integrates_to_one(scale):
    def density(r):
        return float(np.exp(huber_log_density(np.array([r]), scale))[0])

    width = 40 * max(np.sqrt(scale), scale / 1e-3)
    total = 2 * quad(density, 0.0, width, points=[1e-3] if width > 1e-3 else None, limit=200)[0]
    assert total == pytest.approx(1.0, rel=1e-6)


def test_the_huber_scale_maximises_the_density():
    residuals = 0.004 * np.random.default_rng(0).standard_normal(400)
    best = huber_scale(residuals)
    at = [np.sum(huber_log_density(residuals, best * factor)) for factor in (0.9, 1.0, 1.1)]
    assert at[1] > at[0] and at[1] > at[2]
