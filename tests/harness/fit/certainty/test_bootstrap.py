import numpy as np
import pandas as pd
import pytest

from harness.fit.certainty.bootstrap import cluster_weights, resample
from harness.fit.certainty.information import covariance
from harness.fit.certainty.intervals import estimates_of, interval
from harness.fit.fitting import solve

ROWS, CLUSTERS = 174, 58


def power_law(seed: int, shared: float) -> pd.DataFrame:
    """G = 0.5 D^-0.4 in clusters of three: a power law is linear in logs, so least squares has a closed form."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(CLUSTERS), ROWS // CLUSTERS)
    tokens = (10 ** rng.uniform(6, 10, CLUSTERS))[cluster]
    scatter = 0.05 * rng.standard_normal(ROWS) + shared * rng.standard_normal(CLUSTERS)[cluster]
    return pd.DataFrame({"D": tokens, "G": 0.5 * tokens**-0.4 * np.exp(scatter), "cluster": cluster})


def test_fisher_errors_are_those_of_least_squares_in_logs():
    table = power_law(0, shared=0.0)
    fitted = solve("gap_n_free", table)
    spread = covariance(fitted.problem, fitted.identified.theta)
    logs = np.log(table.D)
    tau = np.exp(fitted.identified.theta[-1])
    assert np.sqrt(spread[1, 1]) == pytest.approx(tau / np.sqrt(np.sum((logs - logs.mean()) ** 2)), rel=0.01)


def test_clusters_are_drawn_whole_and_held_out_rows_never():
    cluster = np.repeat(np.arange(6), 4)
    fitted = cluster != 2
    weights = cluster_weights(cluster, fitted, 500, seed=0)
    assert np.all(weights[:, ~fitted] == 0)
    per_cluster = weights.reshape(500, 6, 4)
    assert np.all(per_cluster == per_cluster[:, :, :1])
    assert np.all(weights.sum(axis=1) == fitted.sum())


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.0, 0.1])
def test_bootstrap_intervals_cover_the_truth(shared):
    """95 % intervals of the slope over 40 tables; correlated seeds would halve the coverage if rows were resampled."""
    covered = 0
    for seed in range(40):
        fitted = solve("gap_n_free", power_law(seed, shared))
        sampled, ends = resample(fitted.problem, fitted.solutions, 99, seed)
        slope = estimates_of(fitted.problem, fitted.identified, sampled=sampled, ends=ends)["b"]
        assert slope.bootstrap_low is not None and slope.bootstrap_high is not None
        covered += slope.bootstrap_low <= 0.4 <= slope.bootstrap_high
    assert 33 <= covered <= 40


def test_an_interval_cut_off_by_a_range_is_open_there():
    draws = np.linspace(0.0, 1.0, 101)
    ends = np.where(draws > 0.9, 1, 0)
    assert interval(draws, ends) == (pytest.approx(0.025), None)
    assert interval(draws) == (pytest.approx(0.025), pytest.approx(0.975))
