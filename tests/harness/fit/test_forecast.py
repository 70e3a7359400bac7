import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit
from harness.fit.forecast import predict, predictions_table
from harness.fit.results.shown import NOT_DETERMINED
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


def test_a_missing_column_is_the_users_error(fitted):
    with pytest.raises(InputError, match="role D"):
        predict(fitted, pd.DataFrame({"N": [1e8]}))


def test_a_prediction_with_an_interval_of_many_orders_is_told_in_words(fitted):
    found = predict(fitted, pd.DataFrame({"N": [1e8, 1e8], "D": [5e9, 5e9]}))
    wide = found.assign(low=[found.low.iloc[0], 8e-20], high=[found.high.iloc[0], 14.0])
    known, unknown = predictions_table("points", wide).rows
    assert not any(NOT_DETERMINED in cell for cell in known)
    assert sum(cell.startswith(NOT_DETERMINED) for cell in unknown) == 2
