"""The numbers that judges share, against scipy, plain least squares and closed forms."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.study.contrasts import (
    NOT_KNOWN,
    Interval95,
    constants_of,
    difference,
    log_ratio,
    mean_interval,
    paired,
    ratio_of_means,
    slopes,
)


def test_the_mean_has_students_interval():
    values = np.random.default_rng(0).standard_normal(7)
    low, high = stats.t.interval(0.95, 6, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx((values.mean(), low, high))
    assert mean_interval([2.0]) == (2.0, None, None) and mean_interval([]) == NOT_KNOWN


def test_independent_errors_add_in_squares():
    assert difference(Interval95(5.0, 2.0, 8.0), Interval95(1.0, -3.0, 5.0)) == pytest.approx((4.0, -1.0, 9.0))
    assert difference(Interval95(5.0, None, 8.0), Interval95(1.0, -3.0, 5.0)) == (4.0, None, 9.0)
    assert difference(NOT_KNOWN, Interval95(1.0, 0.0, 2.0)) == NOT_KNOWN
    assert Interval95(math.e, 0.0, None).map_log() == (1.0, None, None)


def test_a_ratio_of_means_has_the_ends_at_which_a_t_test_begins_to_doubt():
    rng = np.random.default_rng(3)
    two = 2 + 0.4 * rng.standard_normal(6)
    one = 1.4 * two + 0.5 * rng.standard_normal(6)
    ratio, low, high = ratio_of_means(one, two)
    assert ratio == pytest.approx(one.mean() / two.mean()) and low is not None and high is not None
    for end, doubt in ((low, 0.05), (high, 0.05), (one.mean() / two.mean(), 1.0)):
        assert stats.ttest_1samp(one - end * two, 0.0)[1] == pytest.approx(doubt)
    # A second mean that may be zero sets no limit, and neither does one unit.
    assert ratio_of_means(one, two - two.mean() + 0.01)[1:] == (None, None)
    assert ratio_of_means([3.0], [2.0]) == (1.5, None, None) and ratio_of_means([], []) == NOT_KNOWN


def test_a_pair_is_two_rows_that_agree_in_the_keys():
    first = pd.DataFrame({"N": [1, 2, 3], "seed": 0, "L": [2.0, 4.0, 5.0]})
    second = pd.DataFrame({"N": [2, 1], "seed": 0, "L": [8.0, 1.0]})
    both = paired(first, second, ["N", "seed"])
    assert both["N"].tolist() == [1, 2] and both["other"].tolist() == [1.0, 8.0]
    assert both["effect"].tolist() == pytest.approx([math.log(2), -math.log(2)])


def test_one_slope_is_that_of_scipy():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(12)
    y = 3 * x + rng.standard_normal(12)
    value, _, _, _, error = stats.linregress(x, y)
    half = error * stats.t.ppf(0.975, 10)
    (slope,) = slopes(x, y)
    assert slope == pytest.approx((value, value - half, value + half))


def test_slopes_with_levels_are_those_within_groups_and_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(5), 4)
    x = rng.standard_normal((20, 2)) + groups[:, None]
    held = 0
    for _ in range(400):
        y = x @ [1.0, -2.0] + 10 * groups + rng.standard_normal(20)
        first, second = slopes(x, y, groups)
        held += first.holds(1.0) + second.holds(-2.0)
    # Of 800 intervals at 95 % between 730 and 785 hold the truth in all but one of 5,000 such tests, even if the two
    # of a table held it together.
    assert 730 <= held <= 785
    inside = x - np.array([x[groups == group].mean(axis=0) for group in range(5)])[groups]
    expected = np.linalg.lstsq(inside, y, rcond=None)[0]
    assert [first.estimate, second.estimate] == pytest.approx(expected)


def test_a_ratio_of_means_has_the_error_of_leaving_out_each_unit():
    assert log_ratio([2.0, 4.0, 6.0], [1.0, 2.0, 3.0]) == pytest.approx((np.log(2.0),) * 3)
    first, second = np.exp(0.1 * np.random.default_rng(0).standard_normal((2, 40)))
    without = [np.log(np.delete(first, k).mean() / np.delete(second, k).mean()) for k in range(40)]
    value, low, high = log_ratio(first, second)
    assert value == pytest.approx(np.log(first.mean() / second.mean())) and low is not None and high is not None
    assert (high - low) / 2 == pytest.approx(2.0227 * np.std(without) * np.sqrt(39), rel=0.01)  # t(39) at 0.975


def test_slopes_that_the_rows_do_not_tell_are_unknown():
    assert slopes([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == [NOT_KNOWN]
    assert slopes([1.0, 2.0], [1.0, 2.0]) == [NOT_KNOWN] and slopes([], []) == [NOT_KNOWN]


def test_the_constants_of_a_known_law_are_found():
    n, d = (axis.ravel() for axis in np.meshgrid(np.geomspace(1e4, 1e6, 4), np.geomspace(1e5, 1e8, 5)))
    loss = (1.5 + 60 / n**0.4 + 80 / d**0.3) * np.exp(1e-4 * np.random.default_rng(0).standard_normal(20))
    status, found = constants_of("chinchilla", pd.DataFrame({"N": n, "D": d, "L": loss}))
    assert status == "converged"
    for name, value in {"E": 1.5, "alpha": 0.4, "beta": 0.3}.items():
        assert found[name].estimate == pytest.approx(value, rel=0.02) and found[name].holds(value)
    assert constants_of("chinchilla", pd.DataFrame({"N": [1.0], "D": [1.0], "L": [1.0]}))[0].startswith("not fitted")


def test_an_interval_of_a_bounded_number_holds_the_truth_as_often_when_it_is_clipped():
    """Means of eight rank correlations of four ranks, most of them 1, as in the study of features."""
    assert Interval95(0.9, 0.8, 1.1).clip(-1.0, 1.0) == (0.9, 0.8, 1.0)
    assert Interval95(0.01, -0.02, None).clip(least=0.0) == (0.01, 0.0, None)
    noise = np.random.default_rng(0).normal(0.0, 1.0, (400, 8, 4))
    ranks = (np.arange(4) + noise).argsort(-1).argsort(-1)
    found = 1 - 6 * ((ranks - np.arange(4)) ** 2).sum(-1) / (4 * 15)
    wide = [mean_interval(values) for values in found]
    clipped = [each.clip(-1.0, 1.0) for each in wide]
    assert any((each.high or 0.0) > 1 for each in wide) and all((each.high or 0.0) <= 1 for each in clipped)
    assert [each.holds(float(found.mean())) for each in clipped] == [each.holds(float(found.mean())) for each in wide]
