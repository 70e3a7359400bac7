import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.gaps import ClusteredMean, clustered_mean, gap


def simulate(runs: int, clusters: int, seed: int, shift: float = 0.0):
    """Token losses of documents of random difficulty (sd 0.5 nats) and random length, summed by document."""
    random = np.random.default_rng(seed)
    counts = random.integers(20, 400, size=(runs, clusters))
    difficulty = 3.0 + shift + 0.5 * random.standard_normal((runs, clusters))
    sums = counts * difficulty + np.sqrt(counts) * 2.0 * random.standard_normal((runs, clusters))
    return sums, counts


def test_with_one_token_a_cluster_it_is_the_mean_and_its_textbook_error():
    losses = np.random.default_rng(0).normal(3.0, 1.0, 50)
    mean, se = clustered_mean(losses, np.ones(50, dtype=int))
    assert mean == pytest.approx(losses.mean(), rel=1e-12)
    assert se == pytest.approx(losses.std(ddof=1) / np.sqrt(50), rel=1e-12)


def test_repeating_every_token_of_a_cluster_adds_no_information():
    losses = np.random.default_rng(1).normal(3.0, 1.0, 30)
    once = clustered_mean(losses, np.ones(30, dtype=int))
    often = clustered_mean(100 * losses, np.full(30, 100))
    assert often.mean == pytest.approx(once.mean) and often.se == pytest.approx(once.se)


def test_it_agrees_with_the_jackknife_over_clusters():
    (sums,), (counts,) = simulate(1, 400, 2)
    left_out = (sums.sum() - sums) / (counts.sum() - counts)
    jackknife = np.sqrt(399 / 400 * np.sum((left_out - left_out.mean()) ** 2))
    assert clustered_mean(sums, counts).se == pytest.approx(jackknife, rel=0.01)


@settings(max_examples=30)
@given(st.integers(2, 8), st.integers(0, 5), st.integers(0, 1000))
def test_empty_clusters_and_the_axis_of_runs_change_nothing(clusters, empty, seed):
    sums, counts = simulate(3, clusters, seed)
    padded = clustered_mean(np.pad(sums, ((0, 0), (0, empty))), np.pad(counts, ((0, 0), (0, empty))))
    for run in range(3):
        alone = clustered_mean(sums[run], counts[run])
        assert padded.mean[run] == pytest.approx(alone.mean) and padded.se[run] == pytest.approx(alone.se)


def test_a_lone_cluster_has_no_finite_error():
    mean, se = clustered_mean(np.asarray([30.0, 0.0]), np.asarray([10, 0]))
    assert mean == 3.0 and se == np.inf


@pytest.mark.parametrize("clusters", [30, 200])
def test_intervals_cover_the_truth_as_often_as_they_say(clusters):
    sums, counts = simulate(4000, clusters, 3)
    mean, se = clustered_mean(sums, counts)
    covered = np.mean(np.abs(mean - 3.0) < 1.96 * se)
    # 4000 repetitions: +-0.007 at two standard errors; with 30 clusters the normal quantile costs about 0.01.
    assert 0.925 < covered < 0.96
    # Errors that take tokens for independent (sd sqrt(2^2 + 0.5^2)) would cover far less often.
    naive = np.sqrt(4.25 / counts.sum(axis=-1))
    assert np.mean(np.abs(mean - 3.0) < 1.96 * naive) < 0.75


def test_a_placebo_gap_is_rejected_as_often_as_it_should():
    result = gap(clustered_mean(*simulate(4000, 100, 4)), clustered_mean(*simulate(4000, 100, 5)))
    assert 0.04 < np.mean(np.abs(result.gap) > 1.96 * result.se) < 0.07
    assert result.gap.min() < 0 < result.gap.max()  # negative gaps are kept


def test_a_gap_of_the_minimum_detectable_size_is_found_in_four_of_five_repetitions():
    null = gap(clustered_mean(*simulate(2000, 100, 6)), clustered_mean(*simulate(2000, 100, 7)))
    size = float(null.minimum_detectable.mean())
    true = gap(clustered_mean(*simulate(4000, 100, 8)), clustered_mean(*simulate(4000, 100, 9, shift=size)))
    assert true.gap.mean() == pytest.approx(size, abs=0.01)
    assert 0.77 < np.mean(np.abs(true.gap) > 1.96 * true.se) < 0.83


def test_the_errors_of_the_two_means_add_in_squares():
    result = gap(ClusteredMean(np.asarray(2.0), np.asarray(0.03)), ClusteredMean(np.asarray(2.5), np.asarray(0.04)))
    assert result.gap == 0.5 and result.se == pytest.approx(0.05)
    assert result.minimum_detectable == pytest.approx(0.14)
