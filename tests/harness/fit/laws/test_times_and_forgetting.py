"""Step times and losses at a time budget; decay bounds of what was memorised."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.allocation.time_budget import best_in_time
from harness.fit.fitting import fit
from harness.fit.quantities.forgetting_bound import (
    cosine_rates,
    forgetting_time,
    observed_forgetting_time,
    remaining_share,
    with_remaining_share,
)
from sweeps.errors import InputError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shapes():
    """Sixty shapes whose steps copy weights and activations; FLOPs go with neither. Times with 3 % noise."""
    rng = np.random.default_rng(0)
    width, depth = rng.choice([256, 512, 1024, 2048], 60), rng.integers(4, 33, 60)
    n, tokens = 12.0 * depth * width**2, 2.0**16
    weights, activations = 16.0 * n, 40.0 * depth * width * tokens
    seconds = 0.004 + 2e-12 * weights + 5e-13 * activations
    return pd.DataFrame(
        {
            "N": n, "B": tokens, "width": width, "x[weights]": weights, "x[activations]": activations,
            "t": seconds * np.exp(0.03 * rng.standard_normal(60)), "flops": 6 * n * tokens,
        }
    )  # fmt: skip


def test_step_times_follow_what_is_copied(shapes):
    """Constants within 10 %, the widest shapes held out within 15 %, and better than FLOPs."""
    found = fit("time_law", shapes, holdout="width == 2048", bootstrap=0, sensitivity=False)
    values = [found.parameters[name].estimate for name in ("c0", "c[weights]", "c[activations]")]
    assert values == pytest.approx([0.004, 2e-12, 5e-13], rel=0.1)
    assert found.holdout.mean_abs_relative_error < 0.15
    rival = shapes.drop(columns=["x[weights]", "x[activations]"]).assign(**{"x[flops]": shapes["flops"]})
    by_flops = fit("time_law", rival, holdout="width == 2048", bootstrap=0, sensitivity=False)
    assert by_flops.holdout.r2 < found.holdout.r2


def times_and_losses(seed: int, noise: float = 0.003) -> pd.DataFrame:
    """Hoffmann's published law at its rounded exponents: E 1.69, A 406.4, B 410.7."""
    rng = np.random.default_rng(seed)
    n = 10 ** rng.uniform(6.5, 9, 150)
    d = n * np.exp(rng.uniform(np.log(2), np.log(600), 150))
    seconds = 1e-12 * n
    loss = 1.69 + 406.4 * n**-0.34 + 410.7 * d**-0.28
    return pd.DataFrame({"N": n, "T": d * seconds, "t": seconds, "L": loss * np.exp(noise * rng.standard_normal(150))})


@pytest.mark.parametrize("seed", [0, 1])
def test_coefficients_are_refitted_with_exponents_held(seed):
    found = fit("time_loss", times_and_losses(seed), bootstrap=0, sensitivity=False)
    assert found.status == "converged"
    values = [found.parameters[name].estimate for name in ("E", "A", "B")]
    assert values == pytest.approx([1.69, 406.4, 410.7], rel=0.05)


def test_the_best_shape_of_a_time_budget_is_the_law_s(shapes):
    times = fit("time_law", shapes, bootstrap=0, sensitivity=False)
    losses = fit("time_loss", times_and_losses(2), bootstrap=0, sensitivity=False)
    best = []
    for budget in (1e3, 1e7):
        found = best_in_time(times, losses, shapes, budget)
        ranked = found.shapes
        assert found.best["N"] == ranked["N"].iloc[0] and f"{budget:g} s" in found._repr_html_()
        np.testing.assert_array_equal(found.figure().data[0].y, ranked["prediction"])
        seconds = 0.004 + 2e-12 * shapes["x[weights]"] + 5e-13 * shapes["x[activations]"]
        truth = 1.69 + 406.4 * shapes["N"] ** -0.34 + 410.7 * (shapes["B"] * budget / seconds) ** -0.28
        assert float(ranked["prediction"].iloc[0]) == pytest.approx(truth.min(), rel=0.02)
        best.append(float(ranked["N"].iloc[0]))
        assert truth[np.isclose(shapes["N"], best[-1])].min() < truth.min() * 1.01
    assert best[1] > best[0]
    with pytest.raises(InputError, match="time_law"):
        best_in_time(losses, losses, shapes, 1.0)


TOKENS_PER_STEP = 524_288


@pytest.mark.parametrize(
    ("times_chinchilla", "weight_decay", "share", "within"),
    [(1, 0.1, 0.857, 0.001), (1, 1.0, 0.214, 0.001), (15, 0.01, 0.79, 0.005), (15, 0.1, 0.098, 0.002)],
)
def test_decay_left_in_the_paper_s_runs(times_chinchilla, weight_decay, share, within):
    """124M parameters, 20 tokens a parameter times the factor, peak 6e-4, warm-up of 700 steps, cosine to a tenth."""
    steps = round(20 * 124e6 * times_chinchilla / TOKENS_PER_STEP)
    assert remaining_share(cosine_rates(steps, 6e-4, 700), weight_decay) == pytest.approx(share, abs=within)


def test_decay_is_a_product_and_its_time_the_inverse_of_rate_times_decay():
    rates = cosine_rates(2000, 1e-3, 100)
    middle = remaining_share(rates, 0.1, 0, 700) * remaining_share(rates, 0.1, 700, 2000)
    assert middle == pytest.approx(remaining_share(rates, 0.1))
    constant = np.full(50_000, 1e-3)
    assert forgetting_time(constant, 0.1) == pytest.approx(1 / (1e-3 * 0.1), rel=1e-3)
    assert forgetting_time(constant[:100], 0.1) is None and forgetting_time(constant, 0.0) is None


@pytest.mark.parametrize("gamma", [0.6, 2.5])
def test_gaps_that_fall_faster_or_slower_than_the_bound_are_told_apart(gamma):
    """Measured after an exposure that ended at step 4000, 10 % noise; rows before it are left out."""
    rates, rng = cosine_rates(20_000, 6e-4, 700), np.random.default_rng(7)
    steps = np.arange(0, 20_001, 500)
    left = remaining_share(rates, 0.3, 4000, np.maximum(steps, 4000))
    gap = np.where(steps < 4000, 0.1, 0.8 * left**gamma) * (1 + 0.1 * rng.standard_normal(len(steps)))
    rows = with_remaining_share(pd.DataFrame({"step": steps + 1e-9, "G": gap, "G_se": 0.02}), rates, 0.3, 4000)
    assert len(rows) == 33
    found = fit("forgetting", rows, bootstrap=0, sensitivity=False).parameters["gamma"]
    assert found.ci_low is not None and found.ci_high is not None and found.ci_low < gamma < found.ci_high
    assert (found.ci_low > 1.0) == (gamma > 1.0) and (found.ci_high < 1.0) == (gamma < 1.0)
    bound, seen = forgetting_time(rates, 0.3, 4000, 0.5), observed_forgetting_time(steps, 0.8 * left**gamma, 4000, 0.5)
    assert bound is not None
    assert (seen is not None and seen < bound) == (gamma > 1.0)


def test_impossible_decay_is_the_users_error():
    with pytest.raises(InputError, match="rates"):
        remaining_share([0.5], 3.0)
    for since, until in ((2, None), (1, 0)):
        with pytest.raises(InputError, match="steps"):
            remaining_share([0.1], 0.1, since, until)
    with pytest.raises(InputError, match="above zero"):
        observed_forgetting_time([0, 1], [-1.0, 0.0], 0)
