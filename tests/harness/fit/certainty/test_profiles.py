"""Profile likelihoods against refits by scipy, constant by constant in the units of the table."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from harness import fit

NAMES = ("E", "A", "B", "alpha", "beta")
TRUTH = {"E": 1.7, "A": 400.0, "B": 1500.0, "alpha": 0.34, "beta": 0.36}


def isoflop_runs(seed: int) -> pd.DataFrame:
    flops = np.repeat([1e18, 3e18, 1e19, 3e19, 1e20], 7)
    n = 3.5e9 * (flops / 1e21) ** 0.514 * np.tile(np.geomspace(0.2, 5, 7), 5)
    d = flops / (6 * n)
    loss = TRUTH["E"] + TRUTH["A"] * n ** -TRUTH["alpha"] + TRUTH["B"] * d ** -TRUTH["beta"]
    return pd.DataFrame({"N": n, "D": d, "L": loss * np.exp(0.003 * np.random.default_rng(seed).standard_normal(35))})


def refitted(runs: pd.DataFrame, start: dict[str, float], held: str, value: float) -> float:
    """The least sum of squares of log residuals with one constant held, in raw units."""
    free = [name for name in NAMES if name != held]
    logs = {"E", "A", "B"}
    x0 = [np.log(start[name]) if name in logs else start[name] for name in free]

    def residuals(x):
        own = {name: np.exp(v) if name in logs else v for name, v in zip(free, x, strict=True)} | {held: value}
        predicted = own["E"] + own["A"] * runs.N ** -own["alpha"] + own["B"] * runs.D ** -own["beta"]
        return np.log(predicted / runs.L)

    # The valley is narrow: a coefficient and its exponent are correlated to .999.
    found = least_squares(residuals, x0, xtol=1e-15, ftol=1e-15, gtol=1e-15, x_scale="jac", max_nfev=2000)
    return 2 * found.cost


@pytest.mark.parametrize("held", NAMES)
@pytest.mark.slow
def test_a_profile_is_the_least_loss_at_each_value(held):
    runs = isoflop_runs(1)
    result = fit(runs, "chinchilla", objective="log_squares", sensitivity=False)
    best = {name: float(result.parameters[name].estimate or 0) for name in NAMES}
    profile = result.profiles[held]
    least = refitted(runs, best, held, best[held])
    # The statistic is in proportion to the sum of squares above its least; the factor is that of the highest value.
    sums = np.asarray([refitted(runs, best, held, value) - least for value in profile.values])
    falls = np.asarray(profile.falls)
    assert len(falls) == 13 and falls.min() == 0.0
    factor = falls[-1] / sums[-1]
    np.testing.assert_allclose(falls, factor * sums, rtol=0.02, atol=0.002 * falls.max())
    # It falls to the best fit and rises from there.
    assert (np.diff(falls[: falls.argmin() + 1]) <= 0).all() and (np.diff(falls[falls.argmin() :]) >= 0).all()
