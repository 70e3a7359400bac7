"""Accuracy in two steps: the sigmoid is scipy's, and the errors of both steps are in the prediction."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit

from harness import predict as predict_points
from harness.fit.fitting import fit
from harness.fit.two_steps import predict_through
from sweeps.errors import InputError

POINT = pd.DataFrame({"N": [7e9], "D": [4e12]})


def sigmoid(loss, a, half, k, b):
    return b + a / (1 + np.exp(k * (loss - half)))


def ladder(seed: int, scatter: float = 0.004) -> pd.DataFrame:
    """Runs of sixteen sizes with their losses, and accuracies that follow the loss of each run."""
    rng = np.random.default_rng(seed)
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(2e8, 3e9, 4), np.geomspace(4e9, 6e11, 6)))
    loss = (0.4 + 40 / n**0.25 + 60 / d**0.22) * np.exp(scatter * rng.standard_normal(len(n)))
    accuracy = sigmoid(loss, 0.72, 0.95, 6.0, 0.25) + 0.005 * rng.standard_normal(len(n))
    return pd.DataFrame({"N": n, "D": d, "L": loss, "acc": accuracy})


TRUE_LOSS = 0.4 + 40 / 7e9**0.25 + 60 / 4e12**0.22
TRUTH = sigmoid(TRUE_LOSS, 0.72, 0.95, 6.0, 0.25)


def test_the_sigmoid_is_that_of_scipy():
    table = ladder(0)
    found = fit("accuracy", table, bootstrap=0, sensitivity=False).parameters
    best, _ = curve_fit(sigmoid, table.L, table.acc, [0.7, 1.0, 5.0, 0.3])
    for name, value in zip(("a", "L_half", "k", "b"), best, strict=True):
        assert found[name].estimate == pytest.approx(value, rel=1e-3)


@pytest.mark.slow
def test_both_errors_are_carried():
    """The chained interval holds the truth and is wider than with the loss known exactly, or the sigmoid."""
    table = ladder(0)
    loss = fit("chinchilla", table, bootstrap=0, sensitivity=False)
    task = fit("accuracy with b=0.25", table, bootstrap=0, sensitivity=False)
    chained = predict_through(task, loss, POINT).iloc[0]
    assert chained["low"] < TRUTH < chained["high"]
    assert chained["run_low"] <= chained["low"] and chained["high"] <= chained["run_high"]
    known_loss = predict_points(task, {"L": [chained["L"]]}).table.iloc[0]
    assert chained["prediction"] == pytest.approx(known_loss["prediction"])
    assert chained["high"] - chained["low"] > known_loss["high"] - known_loss["low"]
    at_ends = predict_points(task, {"L": predict_points(loss, POINT).table[["low", "high"]].iloc[0].to_numpy()}).table
    spread = at_ends["prediction"].max() - at_ends["prediction"].min()
    assert chained["high"] - chained["low"] > spread
    through_door = predict_points(task, POINT, through=loss).table.iloc[0]
    assert through_door["high"] == chained["high"]


@pytest.mark.slow
def test_the_truth_lies_in_nominal_intervals():
    hits = []
    for seed in range(20):
        table = ladder(seed)
        loss = fit("chinchilla", table, bootstrap=0, sensitivity=False)
        task = fit("accuracy with b=0.25", table, bootstrap=0, sensitivity=False)
        row = predict_through(task, loss, POINT).iloc[0]
        hits.append(row["low"] < TRUTH < row["high"])
    assert np.mean(hits) >= 0.85


def test_a_first_step_that_leads_elsewhere_is_refused():
    loss = fit("chinchilla", ladder(0), bootstrap=0, sensitivity=False)
    with pytest.raises(InputError, match="what chinchilla reads"):
        predict_through(loss, loss, POINT)
