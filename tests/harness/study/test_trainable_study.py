"""What a frozen parameter counts, against a nonlinear fit by scipy and a known value."""

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import t

from harness.study.contrasts import NOT_KNOWN
from harness.study.papers.trainable import _kappa_of


def made(kappa, noise):
    """Four sizes with four shares frozen, of a law whose losses have independent relative errors."""
    total, share = (axis.ravel() for axis in np.meshgrid([5e3, 1e4, 2e4, 4e4], [0.0, 0.25, 0.5, 0.75]))
    trainable, frozen = (1 - share) * total, share * total
    loss = 1.5 + 12 * (trainable + kappa * frozen) ** -0.3
    return trainable, frozen, loss * np.exp(noise * np.random.default_rng(0).standard_normal(len(loss)))


@pytest.mark.parametrize("kappa", [-0.1, 0.0, 0.6])
def test_kappa_is_that_of_a_nonlinear_fit(kappa):
    trainable, frozen, loss = made(kappa, 0.003)
    found = _kappa_of(trainable, frozen, loss)
    law = lambda n, e, a, alpha, k: e + a * (n[0] + k * n[1]) ** -alpha  # noqa: E731
    values, errors = curve_fit(law, (trainable, frozen), loss, (1.5, 12, 0.3, kappa), sigma=loss)
    half = np.sqrt(errors[3, 3]) * t.ppf(0.975, len(loss) - 4)
    assert found.estimate == pytest.approx(values[3], abs=0.01) and values[3] == pytest.approx(kappa, abs=0.1)
    assert found.low is not None and found.high is not None
    # A profile is not symmetric, and the values that are tried lie 0.005 apart.
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1, abs=0.01)


def test_too_few_cells_tell_no_kappa():
    trainable, frozen, loss = made(0.2, 0.0)
    assert _kappa_of(trainable[:4], frozen[:4], loss[:4]) == NOT_KNOWN
    assert _kappa_of(trainable[frozen == 0], frozen[frozen == 0], loss[frozen == 0]) == NOT_KNOWN
