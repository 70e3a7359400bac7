import numpy as np
import pandas as pd
import pytest
from scipy.optimize import fminbound

from harness.fit.fitting import fit
from harness.fit.forecast import allocate, predict
from sweeps.errors import InputError


@pytest.fixture(scope="module")
def fitted(losses):
    return fit("chinchilla", losses(3), bootstrap=60, sensitivity=False)


def test_predictions_are_the_closed_form_and_their_intervals_hold_the_truth(fitted):
    n, d = np.array([1e8, 2e9]), np.array([5e9, 1e11])
    found = predict(fitted, pd.DataFrame({"N": n, "D": d}))
    p = {name: value.estimate for name, value in fitted.parameters.items()}
    np.testing.assert_allclose(found.prediction, p["E"] + p["A"] / n ** p["alpha"] + p["B"] / d ** p["beta"], rtol=1e-9)
    truth = 1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658
    assert np.all((found.low < truth) & (truth < found.high))
    assert np.all(found.high / found.low < 1.02)


def test_the_allocation_minimises_the_loss_on_the_budget(fitted):
    p = {name: value.estimate for name, value in fitted.parameters.items()}
    budget = 1e21
    found = allocate(fitted, budget).iloc[0]

    def loss(log_n):
        n = np.exp(log_n)
        return p["E"] + p["A"] / n ** p["alpha"] + p["B"] / (budget / (6 * n)) ** p["beta"]

    log_n = fminbound(loss, np.log(1e6), np.log(1e13), xtol=1e-10)
    assert found.N == pytest.approx(np.exp(log_n), rel=1e-4)
    assert found.loss == pytest.approx(loss(log_n), rel=1e-10)
    assert found.N * found.D * 6 == pytest.approx(budget)
    assert found.N_low < found.N < found.N_high
    assert found.tokens_per_parameter == pytest.approx(found.D / found.N)


def test_what_cannot_be_allocated_is_the_users_error(fitted, crossing):
    with pytest.raises(InputError, match="positive"):
        allocate(fitted, -1.0)
    with pytest.raises(InputError, match="chinchilla"):
        allocate(fit("gap_n_free", crossing(0), bootstrap=0, sensitivity=False), 1e20)
    with pytest.raises(InputError, match="role D"):
        predict(fitted, pd.DataFrame({"N": [1e8]}))
