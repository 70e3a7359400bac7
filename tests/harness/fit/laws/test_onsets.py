"""Laws of abilities that appear: pass-until, and two forms of an onset."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.compare import aicc
from harness.fit.fitting import fit, solve
from harness.fit.quantities.pass_rates import (
    most_likely_pass_rate,
    pass_rate_error,
    pass_rates_of_models,
    unbiased_pass_rate,
)
from sweeps.errors import InputError

pytestmark = pytest.mark.slow

R, ALPHA, C = 20, 0.35, 7.0 * 3e7**0.35


def sampled(rng, sizes, questions: int, bend: float = 0.0) -> pd.DataFrame:
    """Questions of equal difficulty, each sampled until R answers pass: K = R + negative binomial failures."""
    s = np.log(C) - ALPHA * np.log(sizes)
    p = np.exp(-np.exp(s - bend * s**2))
    failures = rng.negative_binomial(R, np.repeat(p, questions))
    return pd.DataFrame({"N": np.repeat(sizes, questions), "passes": R, "samples": R + failures})


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pass_rates_of_five_models_predict_a_four_times_larger_one(seed):
    """r = 20 and 20 questions: alpha within 5 %, the next model's PU within 10 %."""
    models = pass_rates_of_models(sampled(np.random.default_rng(seed), np.geomspace(3e7, 6e8, 5), 20))
    found = fit("pass_until", models, bootstrap=0, sensitivity=False)
    scale, alpha = (float(found.parameters[name].estimate or np.nan) for name in ("N_c", "alpha"))
    assert alpha == pytest.approx(ALPHA, rel=0.05)
    assert np.exp(-((scale / 2.4e9) ** alpha)) == pytest.approx(np.exp(-C * 2.4e9**-ALPHA), rel=0.1)
    assert found.objective.starts_within_1_percent > 0.5
    log_c = found.combinations["log c"]
    assert log_c.estimate == pytest.approx(np.log(C), abs=0.35)


def test_a_bend_is_told_from_a_straight_line():
    """An accelerating curve has q above zero beyond its error; a straight one does not."""
    sizes = np.geomspace(3e7, 6e9, 8)
    found = {}
    for bend in (0.0, 0.15):
        models = pass_rates_of_models(sampled(np.random.default_rng(3), sizes, 60, bend))
        found[bend] = fit("pass_until_bent", models, bootstrap=0, sensitivity=False).parameters["q"]
    assert found[0.15].ci_low is not None and found[0.15].ci_low > 0.05
    assert found[0.0].ci_low is not None and found[0.0].ci_low < 0.0 < found[0.0].ci_high


def test_the_estimator_is_unbiased_and_the_obvious_one_is_not():
    rng = np.random.default_rng(4)
    p, count = 0.05, 40_000
    samples = 4 + rng.negative_binomial(4, p, count)
    values = unbiased_pass_rate(4, samples)
    error = values.std() / np.sqrt(count)
    assert abs(values.mean() - p) < 3 * error
    assert most_likely_pass_rate(4, samples).mean() > p + 10 * error
    assert np.mean(pass_rate_error(4, samples) ** 2) == pytest.approx(values.var(), rel=0.05)


def test_a_pass_in_ten_thousand_is_measured_where_a_hundred_samples_see_none():
    rng = np.random.default_rng(5)
    assert rng.binomial(100, 1e-4, 200).mean() < 0.05
    measured = pass_rates_of_models(sampled(rng, np.array([C ** (1 / ALPHA) / np.log(1e4) ** (1 / ALPHA)]), 10))
    assert float(measured["PU"].iloc[0]) == pytest.approx(1e-4, rel=0.25)
    assert float(measured["PU_se"].iloc[0]) == pytest.approx(1e-4 / np.sqrt(R * 10), rel=0.3)


@pytest.mark.parametrize(("passes", "samples"), [(1, 5), (3, 2), (2, np.nan)])
def test_impossible_counts_are_the_users_error(passes, samples):
    with pytest.raises(InputError, match="passes"):
        unbiased_pass_rate(passes, samples)


DISTANCE = np.geomspace(0.02, 2.0, 24)
FORMS = {
    "essential_singularity": 2.0 * np.exp(-0.6 / np.sqrt(DISTANCE)),
    "power_onset": 2.0 * DISTANCE**1.3,
}


@pytest.mark.parametrize("truth", FORMS)
def test_the_form_of_an_onset_and_its_place_are_recovered(truth):
    """3 % noise: the onset at x = 1 within 2 %, and AICc takes the right form in 90 % of the draws or more."""
    (rival,) = (law for law in FORMS if law != truth)
    wins, onsets = [], []
    for seed in range(10):
        noise = np.exp(0.03 * np.random.default_rng(seed).standard_normal(24))
        table = pd.DataFrame({"x": 1.0 + DISTANCE, "y": FORMS[truth] * noise})
        right, wrong = (solve(law, table) for law in (truth, rival))
        rows = len(table)
        wins.append(aicc(right.log_likelihood, right.degrees, rows) < aicc(wrong.log_likelihood, wrong.degrees, rows))
        onsets.append(right.problem.scales["x"] * right.identified.theta[2])
        share = np.mean(right.solutions.loss <= right.solutions.loss.min() * 1.01)
        assert share >= 0.5  # the others begin beyond the first row
    assert np.mean(wins) >= 0.9
    assert np.all(np.abs(np.array(onsets) - 1.0) < 0.02)
