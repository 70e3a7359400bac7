"""The study of modalities: known constants of the law are found, and AICc is that of independent fits."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from harness.study.papers.domains.modalities import _fit

SIZES, TOKENS = (1.6e3, 6e3, 1.4e4, 5.5e4), (4e4, 1.2e5, 3.6e5, 1.08e6)


def cells(e: float, errors: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Cells of L = E + 0.2 (N/1e4)^-0.7 + 0.3 (D/2e5)^-0.4 of two runs each, whose mean errs by `errors`."""
    n, d = (grid.ravel() for grid in np.meshgrid(SIZES, TOKENS))
    rng = np.random.default_rng(seed)
    loss = (e + 0.2 * (n / 1e4) ** -0.7 + 0.3 * (d / 2e5) ** -0.4) * np.exp(errors * rng.standard_normal(len(n)))
    # The variance of two runs about their mean is that of one run, which has twice the variance of the mean.
    variance = 2 * errors**2 * rng.chisquare(1, len(n))
    return pd.DataFrame({"N_nonembedding": n, "D": d, "L": loss, "log_variance": variance, "runs": 2})


def test_the_constants_of_an_exact_law_are_found():
    found = _fit(cells(1.5)).constants
    truth = {"E": 1.5, "alpha": 0.7, "beta": 0.4, "a": 0.4 / 1.1}
    assert {name: found[name].estimate for name in truth} == pytest.approx(truth, rel=1e-3)


@pytest.mark.slow
def test_the_intervals_hold_the_truth():
    held, trials = 0, 20
    for seed in range(trials):
        found = _fit(cells(1.5, 0.004, seed)).constants
        held += found["E"].holds(1.5) and found["a"].holds(0.4 / 1.1)
    # Both intervals of 95 % hold in nine of ten tables; in fewer than 14 of 20 once in 400 such tests.
    assert held >= 14


def test_aicc_is_that_of_fits_by_another_routine():
    table = cells(1.0, 0.01)
    n, d, logs = (np.log(table[name].to_numpy()) for name in ("N_nonembedding", "D", "L"))

    def squares(start, floor):
        def residuals(theta):
            e = np.exp(theta[4]) if floor else 0.0
            law = e + np.exp(theta[0] - theta[1] * (n - n.mean())) + np.exp(theta[2] - theta[3] * (d - d.mean()))
            return logs - np.log(law)

        return min(2 * least_squares(residuals, each, xtol=1e-14, ftol=1e-14).cost for each in start)

    starts = [[-1.0, 0.5, -1.0, 0.5], [0.0, 0.1, -1.0, 0.5], [-1.0, 0.5, 0.0, 0.1]]
    with_floor, without = squares([[*each, 0.0] for each in starts], True), squares(starts, False)
    # n log(RSS/n) + 2 k + 2 k (k + 1) / (n - k - 1), of 6 constants and of 5, the variance among them.
    expected = 16 * np.log(without / with_floor) + (10 + 60 / 10) - (12 + 84 / 9)
    assert _fit(table).pure == pytest.approx(expected, abs=0.02)
