"""One-pass SGD on power-law random features: phases, the exact recursion, its limit of large d, and envelopes."""

import math

import numpy as np
import pytest

from harness.theory import plrf
from harness.theory.minimum import envelope
from sweeps.errors import InputError

POINTS = {
    "Ia": (0.75, 0.25),
    "Ib": (0.4, 0.4),
    "Ic": (0.2, 0.7),
    "II": (0.8, 0.6),
    "III": (0.7, 1.3),
    "IVa": (0.4, 0.8),
    "IVb": (0.27, 0.8),
}


def powers(alpha, beta):
    """(p, q) of every part of the risk as d^p (gamma r)^q, with the largest stable gamma's power of d."""
    rate = min(0.0, 2 * alpha - 1)
    parts = [(-2 * alpha + max(0.0, 1 - 2 * beta), 0.0), (0.0, -(2 * alpha + 2 * beta - 1) / (2 * alpha))]
    if alpha > 0.25:
        parts.append((rate, -2 + 1 / (2 * alpha)))
    if 2 * alpha > 1 and 2 * beta > 1:
        parts.append((-1.0, -1 + 1 / (2 * alpha)))
    return rate, parts


@pytest.mark.parametrize("name", POINTS)
def test_exponents_minimise_the_sum_of_the_four_parts_of_the_risk(name):
    alpha, beta = POINTS[name]
    rate, parts = powers(alpha, beta)
    x = np.linspace(0.0, 1.0, 200001)
    # At d = f^x, gamma r = f^(1 - x + rate x); the largest part has the largest power of f.
    largest = np.max([p * x + q * (1 - x + rate * x) for p, q in parts], axis=0)
    found = plrf.phase(alpha, beta)
    assert found is not None and found.name == name
    assert found.size == pytest.approx(x[np.argmin(largest)], abs=1e-4)
    assert found.loss == pytest.approx(-largest.min(), abs=1e-4)
    assert found.floor == pytest.approx(-parts[0][0])


def test_there_is_no_phase_where_the_risk_is_infinite_and_no_jump_between_phases():
    assert plrf.phase(0.2, 0.25) is None
    pairs = [((0.5, 0.3), 0), ((0.7, 0.5), 1), ((0.5, 0.9), 0), ((0.8, 0.8), 1), ((1 - math.sqrt(0.5), 0.9), 0)]
    for point, axis in [*pairs, ((0.25, 0.9), 0), ((0.2, 0.5), 1)]:
        low, high = list(point), list(point)
        low[axis] -= 1e-9
        high[axis] += 1e-9
        below, above = plrf.phase(*low), plrf.phase(*high)
        assert below is not None and above is not None and below.name != above.name
        assert below.loss == pytest.approx(above.loss, abs=1e-6)
        # There the part that the steps' noise leaves is the same at every size.
        assert below.size == pytest.approx(above.size, abs=1e-6) or (below.name, above.name) == ("IVb", "IVa")


def stepped(rate, square, limit, steps, gamma, batch):
    """The recursion of the expected risk, step by step."""
    risks = []
    for _ in range(steps + 1):
        risks.append(rate @ square + limit)
        shrink = 1 - 2 * gamma * rate + (gamma * rate) ** 2 * (1 + 1 / batch)
        square = shrink * square + gamma**2 / batch * rate * risks[-1]
    return np.asarray(risks)


@pytest.mark.parametrize("batch", [1, 5])
def test_one_decomposition_gives_what_stepping_gives(batch):
    drawn = plrf.instance(0.7, 0.4, 64, 640, 0)
    gamma, at = plrf.stable_rate(0.7, 640), np.asarray([0, 1, 2, 100, 3000])
    slow = stepped(drawn.eigenvalue, drawn.square, drawn.limit, 3000, gamma, batch)
    np.testing.assert_allclose(plrf.risk(drawn, at, gamma, batch), slow[at], rtol=1e-10)


def test_the_recursion_is_the_mean_of_real_sgd():
    alpha, beta, d, v, batch, runs = 0.6, 0.3, 6, 30, 2, 4000
    j = np.arange(1.0, v + 1)
    features = np.stack([np.random.default_rng([3, k]).standard_normal(v) for k in range(d)]) / math.sqrt(d)
    gamma, rng = plrf.stable_rate(alpha, v), np.random.default_rng(0)
    theta = np.zeros((runs, d))
    for _ in range(60):
        x = rng.standard_normal((runs, batch, v)) * j**-alpha
        inputs = x @ features.T
        wrong = np.einsum("rbd,rd->rb", inputs, theta) - x @ j**-beta
        theta -= gamma * np.einsum("rb,rbd->rd", wrong, inputs) / batch
    risks = ((theta @ features - j**-beta) ** 2) @ j ** (-2 * alpha)
    told = plrf.risk(plrf.instance(alpha, beta, d, v, 3), np.asarray([60.0]), gamma, batch)[0]
    assert abs(risks.mean() - told) < 4 * risks.std() / math.sqrt(runs)


@pytest.mark.parametrize("batch", [1, 5])
def test_the_limit_of_large_d_is_exact_step_by_step(batch):
    # A student of many more features than modes learns each mode by itself.
    modes, gamma = plrf.plrf_spectrum(0.7, 0.4, 50), plrf.stable_rate(0.7, 50)
    slow = stepped(modes.eigenvalue, modes.power / modes.eigenvalue, 0.0, 5000, gamma, batch)
    at = np.asarray([32, 33, 200, 5000])
    np.testing.assert_allclose(plrf.expected_risk(modes, 1e15, at, gamma, batch), slow[at], rtol=1e-8)


@pytest.mark.parametrize("name", ["Ia", "II", "III", "IVa"])
def test_the_limit_of_large_d_is_the_mean_of_draws(name):
    alpha, beta = POINTS[name]
    steps, gamma = np.asarray([32.0, 300.0, 1e4, 1e7]), plrf.stable_rate(alpha, 960)
    draws = [plrf.instance(alpha, beta, 96, 960, seed) for seed in range(20)]
    risks = np.asarray([np.append(plrf.risk(drawn, steps, gamma), drawn.limit) for drawn in draws])
    told = plrf.expected_risk(plrf.plrf_spectrum(alpha, beta, 960), 96, steps, gamma)
    told = np.append(told, plrf.expected_limit(alpha, beta, 96, 960))
    se = risks.std(axis=0, ddof=1) / math.sqrt(len(draws))
    assert np.all(np.abs(risks.mean(axis=0) - told) < 3 * se + 0.01 * told)
    assert np.all(se < 0.07 * told)


@pytest.mark.parametrize("name", POINTS)
def test_floors_fall_with_d_as_predicted(name):
    alpha, beta = POINTS[name]
    found, d = plrf.phase(alpha, beta), np.geomspace(1e8, 1e10, 5)
    assert found is not None
    floors = [plrf.expected_limit(alpha, beta, size, 10 * size) for size in d]
    assert -np.polyfit(np.log(d), np.log(floors), 1)[0] == pytest.approx(found.floor, rel=0.05)


@pytest.mark.parametrize("name, small, large", [("Ia", 6e5, 2e13), ("II", 3e5, 3e12), ("III", 6e4, 5e10)])
def test_envelopes_come_nearer_to_the_predicted_slopes_at_larger_d(name, small, large):
    alpha, beta = POINTS[name]
    found, misses = plrf.phase(alpha, beta), []
    assert found is not None
    for scale, most in ((1, small), (1024, large)):
        sizes, flops = np.geomspace(32, 512, 7) * scale, np.geomspace(most / 10, most, 5)
        risks = plrf.isoflops(alpha, beta, sizes, flops, seeds=0)
        best = envelope(sizes, flops, risks)
        slopes = np.asarray([np.mean(best.loss_slope[1:-1]), np.mean(best.size_slope[1:-1])])
        misses.append(np.abs(slopes / [found.loss, found.size] - 1))
    assert np.all(misses[0] < 0.15) and np.all(misses[1] < 0.5 * misses[0])


def test_an_optimum_beyond_the_sizes_is_not_one():
    sizes, flops = [32, 45, 64, 91, 128], np.asarray([1e4, 1e9])
    best = envelope(sizes, flops, plrf.isoflops(0.75, 0.25, sizes, flops, seeds=0))
    assert 32 < best.N[0] < 128 and np.isnan(best.N[1])


def test_a_simulated_table_has_the_phase_s_frontier():
    table, truth = plrf.simulate_plrf(
        sizes=(32, 45, 64, 91, 128, 181, 256), flops=tuple(np.geomspace(4e3, 1e5, 12)), seeds=4
    )
    assert truth.law == "compute_power" and truth.parameters == {"alpha": 0.4}
    best = table[table["frontier"]]
    slope = -np.polyfit(np.log(best["flops"]), np.log(best["val_loss_final100"]), 1)[0]
    assert slope == pytest.approx(0.4, rel=0.15)
    np.testing.assert_allclose(table["D"] * table["N_total"], table["flops"])
    assert np.all(table["gap_probe"] == 0) and np.all(table["steps"] >= plrf.LEAST_STEPS)


@pytest.mark.parametrize(
    "settings, field",
    [
        ({"alpha": 0.2, "beta": 0.2}, "--alpha, --beta"),
        ({"sizes": (32, 64)}, "--sizes"),
        ({"seeds": -1}, "--seeds"),
        ({"ratio": math.inf, "seeds": 2}, "ratio"),
        ({"flops": (1e9, 1e10), "seeds": 0}, "flops"),
    ],
)
def test_unusable_settings_are_named(settings, field):
    with pytest.raises(InputError) as error:
        plrf.simulate_plrf(**settings)
    assert error.value.field == field


def test_what_diverges_is_refused():
    drawn = plrf.instance(0.7, 0.4, 16, 64, 0)
    with pytest.raises(ValueError, match="diverges"):
        plrf.risk(drawn, np.asarray([10.0]), 8 * plrf.stable_rate(0.7, 64))
    with pytest.raises(ValueError, match="gamma"):
        plrf.expected_risk(plrf.plrf_spectrum(0.7, 0.4, 64), 16, np.asarray([100.0]), 3 * plrf.stable_rate(0.7, 64))
    with pytest.raises(ValueError, match="modes"):
        plrf.instance(0.7, 0.4, 16, 8, 0)
