"""What formats are worth, of losses whose law is known, and their curve against a nonlinear fit by scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit

from harness.study.papers.compressed import _efficiencies, _family_gap, _predicted

BITS = np.array([0.4, 0.9, 1.2, 1.5, 1.6, 1.9, 2.4, 3.2, 4.9, 6.7])


def made(noise, seed=0):
    """Five dense sizes and two sizes of six formats, worth tanh(0.5 bits) of their parameters."""
    errors = 4.0 ** -BITS[:6]
    sizes = [(n, 0.0) for n in (1e3, 2e3, 4e3, 8e3, 1.6e4)] + [(n, error) for n in (4e3, 1.6e4) for error in errors]
    n, error = (np.array(column) for column in zip(*sizes, strict=True))
    bits = -np.log(np.maximum(error, 1e-30)) / np.log(4)
    loss = 1.4 + 30 * (n * np.tanh(0.5 * bits)) ** -0.4
    loss *= np.exp(noise * np.random.default_rng(seed).standard_normal(len(n)))
    names = [f"{value:.1f}" if value < 20 else "none" for value in bits]
    return pd.DataFrame({"N": n, "L": loss, "weight_error": error, "quantize_weights": names})


def test_the_worth_of_formats_in_an_exact_law_is_found():
    found = _efficiencies(made(0.0))
    assert found is not None
    assert found.bits == pytest.approx(BITS[:6])
    assert np.exp(found.log_rho) == pytest.approx(np.tanh(0.5 * BITS[:6]), rel=1e-3)
    assert (found.alpha.estimate, found.steady.estimate) == pytest.approx((0.4, 0.0), abs=1e-3)


def test_intervals_hold_the_worth_as_often_as_they_say():
    found = [each for each in (_efficiencies(made(0.003, seed)) for seed in range(12)) if each]
    held = sum(each.interval(place).holds(np.tanh(0.5 * BITS[place])) for each in found for place in range(6))
    # Of 72 intervals at 95 % fewer than 60 hold the truth once in 10,000 such tests, if they were independent.
    assert held >= 60


def test_a_format_is_predicted_by_the_least_squares_of_the_others():
    rho = np.tanh(0.5 * BITS) + 0.03 * np.random.default_rng(0).standard_normal(len(BITS))
    predicted = _predicted(rho[None], BITS)[0]
    for place in range(len(BITS)):
        others = np.arange(len(BITS)) != place
        curve = lambda r, c, s: np.tanh(c * r**s)  # noqa: E731
        (c, s), _ = curve_fit(curve, BITS[others], rho[others], (0.5, 1.0))
        # Constants lie 4 % and 0.05 apart.
        assert predicted[place] == pytest.approx(curve(BITS[place], c, s), abs=0.015)


def test_the_gap_of_two_families_is_found():
    sparse = np.array([True, True, False, True, False, True, False, False, False, False])
    rho = np.tanh(0.5 * BITS) - 0.1 * sparse
    gap, squares = _family_gap(rho[None], BITS, sparse)
    assert gap[0] == pytest.approx(-0.1, abs=0.01) and squares[0] < 1e-3
