import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import curvature_estimates, fit, solve

SIZES, CHECKPOINTS = np.array([5.3e7, 6.4e7, 1.6e8, 2.07e8, 3.23e8, 4.82e8]), 127


def checkpoints(seed: int, decay: float, offset: float) -> pd.DataFrame:
    """Losses of six runs whose errors (0.6 %) fade along the curve, about an error of the run."""
    rng = np.random.default_rng(seed)
    errors = np.empty((len(SIZES), CHECKPOINTS))
    errors[:, 0] = rng.standard_normal(len(SIZES))
    for step in range(1, CHECKPOINTS):
        errors[:, step] = decay * errors[:, step - 1] + np.sqrt(1 - decay**2) * rng.standard_normal(len(SIZES))
    errors = 0.006 * errors + offset * rng.standard_normal((len(SIZES), 1))
    n, d = np.repeat(SIZES, CHECKPOINTS), np.tile(3.48e10 * np.arange(1, CHECKPOINTS + 1), len(SIZES))
    loss = (1.6 + 130.0 * n**-0.3 + 3000.0 * d**-0.4) * np.exp(errors.ravel())
    return pd.DataFrame({"N": n, "D": d, "L": loss, "cluster": np.repeat(np.arange(len(SIZES)), CHECKPOINTS)})


def test_errors_that_fade_along_a_curve_are_found():
    fits = [solve("chinchilla", checkpoints(seed, 0.9, 0.0), objective="log_squares") for seed in range(3)]
    found = [fitted.identified.ratio.dependence for fitted in fits]
    assert 0.8 <= np.median([each.decay for each in found]) <= 0.95
    # An autocorrelation of 0.9 leaves (1 - 0.81)/(1 + 0.81) of the rows for a variance: 80 of 762.
    assert 40 < np.median([each.rows for each in found]) < 160


def test_independent_rows_of_one_run_are_taken_as_nearly_independent():
    found = [solve("chinchilla", checkpoints(seed, 0.0, 0.0)).identified.ratio.dependence for seed in range(3)]
    assert np.median([each.decay for each in found]) <= 0.3 and np.median([each.rows for each in found]) > 500


def test_seeds_that_share_an_error_count_as_one():
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(40), 5)
    tokens = (10 ** rng.uniform(6, 10, 40))[cluster]
    shared = 0.05 * rng.standard_normal(40)[cluster]
    table = pd.DataFrame({"D": tokens, "G": 0.5 * tokens**-0.4 * np.exp(shared + 0.005 * rng.standard_normal(200))})
    found = solve("gap_n_free", table.assign(cluster=cluster)).identified.ratio.dependence
    assert found.offset >= 0.9 and found.rows == pytest.approx(40, rel=0.25)


def on_shared_documents(seed: int) -> pd.DataFrame:
    """Gaps of 60 runs with errors of 1e-3 on two texts; 60 % of the variance comes from the text's documents."""
    rng = np.random.default_rng(seed)
    tokens, text = np.tile(np.geomspace(1e4, 1e7, 30), 2), np.repeat([0, 1], 30)
    shared = 1e-3 * np.sqrt(0.6) * np.eye(2)[text]
    gaps = 0.4 * tokens**-0.25 + shared @ rng.standard_normal(2) + 1e-3 * np.sqrt(0.4) * rng.standard_normal(60)
    return pd.DataFrame({"D": tokens, "G": gaps, "G_se": 1e-3, "G_shared": [*map(tuple, shared)]})


@pytest.mark.slow
def test_errors_from_shared_documents_are_as_large_as_the_spread_of_the_estimates():
    found, told, alone = [], [], []
    for seed in range(60):
        table = on_shared_documents(seed)
        exponent = curvature_estimates(solve("gap_n_free", table))["b"]
        found.append(exponent.estimate)
        told.append(exponent.se)
        alone.append(curvature_estimates(solve("gap_n_free", table.drop(columns="G_shared")))["b"].se)
    assert np.median(told) == pytest.approx(np.std(found), rel=0.25)
    assert np.median(alone) < 0.6 * np.std(found)


@pytest.mark.slow
def test_intervals_of_gaps_on_shared_documents_hold_the_truth():
    """Of 60 tables 54 at least, and at most 50 if rows count as independent."""
    held = dict.fromkeys((True, False), 0)
    for seed in range(60):
        for known in held:
            table = on_shared_documents(seed)
            table = table if known else table.drop(columns="G_shared")
            b = fit("gap_n_free", table, bootstrap=0, sensitivity=False).parameters["b"]
            held[known] += (b.ci_low or 0.0) <= 0.25 <= (b.ci_high or 4.0)
    assert held[True] >= 54 and held[False] <= 50


@pytest.mark.slow
def test_intervals_of_checkpoints_hold_the_truth():
    """Of 10 tables with errors that fade along the curve 8 at least, and at most 7 if rows count as independent."""
    held, alone = 0, 0
    for seed in range(10):
        table = checkpoints(seed, 0.9, 0.002)
        for frame in (table, table.assign(cluster=np.arange(len(table)))):
            alpha = fit("chinchilla", frame, bootstrap=0, sensitivity=False).parameters["alpha"]
            within = (alpha.ci_low or 0.0) <= 0.3 <= (alpha.ci_high or 4.0)
            held, alone = (held + within, alone) if frame is table else (held, alone + within)
    assert held >= 8 and alone <= 7
