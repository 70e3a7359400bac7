"""Many small fits at once, on losses whose constants are known and beside scipy's solution."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from harness.study.methods.many_fits import fit_many, sums_of_powers

N, D = (axis.ravel() for axis in np.meshgrid(np.geomspace(3e3, 2e5, 5), np.geomspace(6e4, 2e6, 7)))
STARTS = [[0.0, 0.0, np.log(0.5), 0.0, np.log(0.5)], [-2.0, 0.5, np.log(0.2), 0.5, np.log(0.2)]]


def losses() -> np.ndarray:
    return np.log(1.3 + 0.6 * (N / 2e4) ** -0.4 + 0.8 * (D / 3e5) ** -0.3)


def test_the_constants_of_exact_losses_are_found():
    (found,) = fit_many(sums_of_powers({"N": N, "D": D}), STARTS, losses()[None])
    assert np.exp(found[[0, 2, 4]]) == pytest.approx([1.3, 0.4, 0.3], rel=1e-3)


def test_each_fit_has_the_least_squares_of_its_own_losses_and_rows():
    rng = np.random.default_rng(0)
    logs = losses() + 0.01 * rng.standard_normal((4, len(N)))
    weights = (rng.random(logs.shape) < 0.8).astype(float)
    model = sums_of_powers({"N": N, "D": D})
    found = fit_many(model, STARTS, logs, weights)
    for theta, own, weight in zip(found, logs, weights, strict=True):

        def residuals(x, own=own, weight=weight):
            return weight * (own - model(x[None])[0])

        best = min(least_squares(residuals, start).cost for start in STARTS)
        assert 0.5 * np.sum(residuals(theta) ** 2) == pytest.approx(best, rel=1e-4)
