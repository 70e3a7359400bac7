"""Best learning rates and their rule, on simulated grids whose optima are known."""

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter

from harness.fit.allocation.best_rates import LEAST_SE, RateGrid, best_rates
from harness.fit.allocation.rate_rule import fit_rule
from sweeps.rules import RateRule

FACTORS = np.log(2) / 2 * np.arange(-4, 5)


def grid(rng, best: float, *, noise: float, seeds: int = 1, cubic: float = 0.004, tanh: float = 0.0) -> RateGrid:
    """Nine rates about 1e-3 whose loss is least at `best`; every seed has a level of its own."""
    x = np.tile(FACTORS, seeds)
    seed = np.repeat(np.arange(seeds), len(FACTORS))
    away = x + np.log(1e-3) - np.log(best)
    log_loss = 1 + 0.015 * away**2 * (1 + tanh * np.tanh(away)) + cubic * away**3
    log_loss = log_loss + 0.02 * rng.standard_normal(seeds)[seed] + noise * rng.standard_normal(len(x))
    return RateGrid(1e-3 * np.exp(x), np.exp(log_loss), seed, np.zeros(len(x), bool))


def test_without_noise_the_optimum_is_exact():
    rng = np.random.default_rng(0)
    (found,), _ = best_rates([grid(rng, 1.3e-3, noise=0.0, seeds=2)])
    assert found.status == "ok" and found.lr == pytest.approx(1.3e-3, rel=1e-3)
    assert found.log_se == pytest.approx(LEAST_SE, rel=0.01)


@pytest.mark.parametrize("tanh", [0.0, 0.4], ids=["cubic", "not a cubic"])
@pytest.mark.parametrize("sizes", [1, 4])
def test_intervals_cover_the_optimum(sizes, tanh):
    rng, inside, seen, flat = np.random.default_rng(sizes), 0, 0, 0
    for _ in range(150):
        truth = 1e-3 * np.exp(rng.uniform(-0.5, 0.5, sizes))
        cubic = 0.0 if tanh else 0.004
        found, _ = best_rates([grid(rng, best, noise=0.006, seeds=2, cubic=cubic, tanh=tanh) for best in truth])
        for one, best in zip(found, truth, strict=True):
            flat += one.status == "flat"
            if one.lr is not None:
                seen += 1
                inside += (one.low or 0) <= best <= (one.high or np.inf)
    assert flat < 0.1 * seen
    assert 0.93 * seen <= inside  # the binomial s.e. of 150 is .018; the floor of the errors makes it more than .95


def test_a_shared_skew_is_not_taken_for_a_lower_optimum():
    rng = np.random.default_rng(1)
    best = np.array([0.8e-3, 1e-3, 1.2e-3])
    found, _ = best_rates([grid(rng, b, noise=1e-4, cubic=0.006) for b in best])
    assert [one.lr for one in found] == pytest.approx(best, rel=0.01)


def test_no_number_where_the_optimum_may_lie_beyond_what_was_tried():
    rng = np.random.default_rng(2)
    low, high = grid(rng, 1e-4, noise=0.0, cubic=0.0), grid(rng, 1e-2, noise=0.0, cubic=0.0)
    unstable = RateGrid(high.lr, np.where(high.lr > 2e-3, np.nan, high.loss), high.replicate, high.lr > 2e-3)
    few = RateGrid(low.lr[:3], low.loss[:3], low.replicate[:3], low.diverged[:3])
    flat = grid(rng, 1e-3, noise=0.5)
    found, _ = best_rates([low, high, unstable, few])
    assert [one.status for one in found] == ["lowest", "highest", "unstable", "few"]
    (vague,), _ = best_rates([flat])
    assert vague.status in ("flat", "lowest", "highest", "few")
    assert all(one.lr is one.low is one.high is one.log_se is None for one in [*found, vague])


def test_a_rate_at_which_one_seed_diverged_is_none():
    rng = np.random.default_rng(3)
    one = grid(rng, 1.2e-3, noise=1e-3, seeds=2)
    last = one.lr == one.lr.max()
    diverged = last & (one.replicate == 1)
    broken = RateGrid(one.lr, np.where(diverged, np.nan, np.where(last, 1.0, one.loss)), one.replicate, diverged)
    (found,), _ = best_rates([broken])  # the other seed's loss at that rate would be the least by far
    assert found.status == "ok" and found.lr == pytest.approx(1.2e-3, rel=0.15)


def test_an_optimum_is_not_beyond_a_rate_that_is_far_worse_or_diverges():
    rng, opened, closed = np.random.default_rng(6), 0, 0
    for _ in range(60):
        vague = grid(rng, 1e-3, noise=0.02, seeds=2, cubic=0.0)
        first, last = vague.lr == vague.lr.min(), vague.lr == vague.lr.max()
        loss = np.where(first, 4.0, np.where(last, np.nan, vague.loss))
        (open_one,), _ = best_rates([vague])
        (closed_one,), _ = best_rates([RateGrid(vague.lr, loss, vague.replicate, last)])
        opened += open_one.status == "ok" and None in (open_one.low, open_one.high)
        if closed_one.lr is not None:
            closed += 1
            assert (
                vague.lr.min() <= (closed_one.low or 0) < closed_one.lr < (closed_one.high or np.inf) <= vague.lr.max()
            )
    assert opened > 10 and closed > 30


def simulated_optima(rng, sizes: int, scatter: float):
    width = np.array([16.0, 32, 64, 128, 256])[:sizes]
    batch = np.array([2048.0, 8192, 2048, 4096, 16384])[:sizes]
    log_se = np.full(sizes, 0.06)
    lr = 0.004 * (width / 64) ** -0.9 * (batch / 4096) ** 0.5 * np.exp(scatter * rng.standard_normal(sizes))
    return lr, log_se, {"width": width, "batch_tokens": batch, "tokens": 20.0 * 12 * width**2}


def test_the_rule_is_recovered_and_pastes_into_a_sweep():
    lr, log_se, quantities = simulated_optima(np.random.default_rng(4), 5, 0.0)
    rule, warnings = fit_rule(lr, log_se, 20, quantities)
    assert [warning.code for warning in warnings] == ["not_told_apart"] and "tokens follows width" in warnings[
        0
    ].message
    assert rule.powers["width"][0] == pytest.approx(-0.9) and rule.powers["batch_tokens"][0] == pytest.approx(0.5)
    setting = yaml.safe_load(rule.setting)["lr"]
    pasted = TypeAdapter(RateRule).validate_python(setting)
    for k, rate in enumerate(lr):
        sizes = {name: int(values[k]) for name, values in quantities.items()}
        assert pasted.rate(params=1, **sizes) == pytest.approx(rate, rel=3e-3)


@pytest.mark.parametrize("scatter", [0.06, 0.3], ids=["as the errors say", "more than they say"])
def test_limits_of_the_powers_cover_the_truth(scatter):
    rng, inside, warned = np.random.default_rng(5), 0, 0
    for _ in range(400):
        rule, warnings = fit_rule(*_with_degrees(simulated_optima(rng, 5, scatter)))
        inside += rule.powers["width"][1] <= -0.9 <= rule.powers["width"][2]
        warned += "rule_misses_optima" in {warning.code for warning in warnings}
    assert 0.91 * 400 < inside
    assert warned < 0.1 * 400 if scatter < 0.1 else warned > 0.9 * 400


def _with_degrees(optima):
    lr, log_se, quantities = optima
    return lr, log_se, 20, {name: quantities[name] for name in ("width", "batch_tokens")}


def test_one_size_gives_a_number():
    rule, warnings = fit_rule(np.array([0.0031234]), np.array([0.05]), 8, {"width": np.array([64.0])})
    assert rule.setting == "lr: 0.00312" and rule.powers == {} and warnings == ()
    assert rule.c[1] < 0.0031234 < rule.c[2]
