"""Intervals and estimates of pass rates against simulated sampling, until r pass or no more are drawn."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from harness.fit.quantities.pass_rates import (
    pass_rate_error,
    pass_rate_interval,
    pass_rates_of_models,
    unbiased_pass_rate,
)
from sweeps.errors import InputError


def sampled(rng, p, r: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Passes, samples, whether r were reached) of one plan for each rate: until r pass, but at most `most` samples.

    The gaps between passes are geometric, so that no sample is drawn for itself.
    """
    places = np.cumsum(rng.geometric(p[:, None], (len(p), r)), axis=1)
    passes = (places <= most).sum(1)
    return passes, np.where(passes == r, places[:, -1], most), passes == r


@pytest.mark.parametrize("rate", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize(("r", "share"), [(3, np.inf), (20, np.inf), (3, 1.0), (20, 0.3)])
def test_intervals_hold_the_rate_and_estimates_have_no_bias(rate, r, share):
    """95 % intervals in 20,000 repetitions; `share`: the most samples, as a multiple of those that r passes take."""
    count, most = 20_000, 10**9 if share == np.inf else round(share * r / rate)
    plan = sampled(np.random.default_rng(1), np.full(count, rate), r, most)
    low, high = pass_rate_interval(*plan)
    assert np.mean((low <= rate) & (rate <= high)) > 0.946  # 0.95 less 2.6 errors
    estimate = unbiased_pass_rate(*plan)
    assert abs(estimate.mean() - rate) < 3 * estimate.std() / np.sqrt(count)
    assert np.mean(pass_rate_error(*plan) ** 2) == pytest.approx(estimate.var(), rel=0.1)
    if r == 20 and share == np.inf:
        assert np.mean(high - low) < 1.1 * rate


def test_limits_are_where_the_outcome_is_one_of_the_rarest_fortieth():
    """The 7th pass at sample 50 or before at the lower limit, at 50 or after at the upper one; and 2 of 50 likewise."""
    low, high = pass_rate_interval(7, 50)
    assert binom.sf(6, 50, low) == pytest.approx(0.025) and binom.cdf(6, 49, high) == pytest.approx(0.025)
    low, high = pass_rate_interval(2, 50, False)
    assert binom.sf(1, 50, low) == pytest.approx(0.025) and binom.cdf(2, 50, high) == pytest.approx(0.025)
    none, all_ = pass_rate_interval(0, 100, False), pass_rate_interval(5, 5)
    assert none[0] == 0 and none[1] == pytest.approx(1 - 0.025**0.01)
    assert all_[1] == 1 and all_[0] == pytest.approx(0.025**0.2)


MIXED = 10 ** np.random.default_rng(3).uniform(-4, -0.3, 40)


@pytest.mark.parametrize("r", [3, 20])
@pytest.mark.parametrize(
    "rates",
    [np.full(1, 1e-3), np.full(200, 1e-3), MIXED, np.array([1e-4, 0.5]), np.full(40, 3e-6)],
    ids=["one", "alike", "from 1e-4 to 0.5", "two", "hardly any"],
)
def test_means_over_items_have_intervals_that_hold(rates, r):
    """1,000 models, at most 20,000 samples of an item."""
    count = len(rates)
    passes, samples, reached = sampled(np.random.default_rng(2), np.tile(rates, 1000), r, 20_000)
    frame = pd.DataFrame({"N": np.repeat(np.arange(1000), count), "passes": passes, "samples": samples})
    models = pass_rates_of_models(frame.assign(reached=reached))
    low, high = models["PU_low"].to_numpy(), models["PU_high"].to_numpy()
    assert ((low <= rates.mean()) & (rates.mean() <= high)).mean() > 0.935  # 0.95 less 2.2 errors
    assert (low > rates.mean()).mean() < 0.04 and (high < rates.mean()).mean() < 0.04
    assert abs(models["PU"].mean() - rates.mean()) < 3 * models["PU"].std() / np.sqrt(1000)
    assert (low >= 0).all() and (high > 0).all() and set(models["questions"]) == {count}


@pytest.mark.parametrize(
    ("passes", "samples", "reached"), [(0, 5, True), (3, 2, False), (0, 0, False), (1, np.inf, True)]
)
def test_impossible_plans_are_the_users_error(passes, samples, reached):
    with pytest.raises(InputError, match="passes"):
        pass_rate_interval(passes, samples, reached)
