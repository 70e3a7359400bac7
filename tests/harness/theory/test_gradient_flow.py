"""Gradient flow on reused and on fresh samples: against small steps, closed forms and the published exponents."""

import math

import numpy as np
import pytest

from harness.theory import gradient_flow, resolvent
from harness.theory.gradient_flow import FlowWorld, mean_and_error, reused_and_fresh
from harness.theory.random_features import losses
from harness.theory.spectrum import power_law_spectrum
from sweeps.errors import InputError

ENDLESS = power_law_spectrum(math.inf, 1.25, 1.5)


def slopes(x, y):
    return np.diff(np.log(y)) / np.diff(np.log(x))


@pytest.mark.parametrize("N, P", [(8, 20), (20, 8)])
def test_one_decomposition_gives_what_small_steps_give(N, P):
    world, t = FlowWorld(modes=40, noise=0.09), np.asarray([0.5, 3.0])
    found = reused_and_fresh(world, N, P, t, draws=1, seed=5)[0]
    rng = np.random.default_rng(5)
    features = gradient_flow._features(world, N, rng)
    teachers = gradient_flow._teachers(world, features.shape[1], rng)
    inputs, noise = gradient_flow._samples(world, P, features.shape[1], rng)
    phi, labels = inputs @ features.T, inputs @ teachers + noise
    weights, step = np.zeros((phi.shape[1], labels.shape[1])), 1e-3
    for index in range(2):
        for _ in range(round((t[index] - (t[index - 1] if index else 0.0)) / step)):
            half = weights + step / 2 * phi.T @ (labels - phi @ weights) / P
            weights += step * phi.T @ (labels - phi @ half) / P
        train = np.mean((labels - phi @ weights) ** 2)
        test = world.unlearned + np.mean(np.sum((teachers - features.T @ weights) ** 2, axis=0))
        assert found.train[0, index] == pytest.approx(train, rel=1e-5)
        assert found.test[0, index] == pytest.approx(test, rel=1e-5)
        assert found.raw_gap[0, index] == pytest.approx(test - train, abs=1e-4)


def test_fresh_samples_leave_no_gap_and_the_curve_of_the_resolvent():
    world, t = FlowWorld(modes=400), np.asarray([1.0, 30.0, 1e3])
    curves = reused_and_fresh(world, 80, 200, t, draws=30)[1]
    gap, error = mean_and_error(curves.gap)
    assert np.all(np.abs(gap) < 2.05 * error) and np.all(error < 0.02 * curves.test.mean(axis=0))
    told = resolvent.excess(ENDLESS, 80, t)
    loss, error = mean_and_error(curves.test)
    assert np.all(np.abs(loss - told) < 3 * error + 0.01 * told)


def test_the_control_of_reused_samples_is_the_flow_on_fresh_ones():
    world, t = FlowWorld(modes=60), np.asarray([1.0, 30.0])
    reused, fresh = reused_and_fresh(world, 12, 40, t, draws=3, seed=5)
    np.testing.assert_array_equal(reused.gap, reused.raw_gap - fresh.gap)
    np.testing.assert_array_equal(fresh.gap, fresh.test - fresh.train)


def test_the_gap_of_reused_samples_grows_and_starts_as_one_over_their_number():
    world, t = FlowWorld(modes=300), np.asarray([1.0, 3.0, 10.0, 30.0, 100.0, 300.0])
    gaps = []
    for P in (200, 400, 800):
        curves = reused_and_fresh(world, 60, P, t, draws=16)[0]
        gap, error = mean_and_error(curves.gap)
        assert np.all(np.diff(gap) > 0) and gap[0] > 3 * error[0] > 0
        # What the twin takes away is most of the early noise, and nothing on average.
        raw, raw_error = mean_and_error(curves.raw_gap)
        assert raw_error[0] > 3 * error[0] and np.all(np.abs(raw - gap) < 4 * raw_error)
        gaps.append(gap * P)
    at_30 = np.asarray(gaps)[:, 3]
    assert np.ptp(at_30) < 0.2 * at_30.mean()


@pytest.mark.parametrize("N, P, noise", [(40, 200, 0.0), (40, 200, 0.25), (150, 40, 0.0), (150, 40, 0.25)])
def test_after_long_training_the_loss_is_that_of_the_deterministic_equivalent(N, P, noise):
    world = FlowWorld(modes=300, noise=noise)
    curves = reused_and_fresh(world, N, P, np.asarray([1e9]), draws=16, seed=1)[0]
    told = float(losses(ENDLESS, np.asarray(N), np.asarray(P), 0.0, noise).test)
    loss, error = mean_and_error(curves.test)
    assert abs(loss[0] - told) < 3 * error[0] + 0.02 * told
    # Generalized cross-validation: the training loss is smaller by (1 - min(N, P)/P)^2.
    assert curves.train.mean() == pytest.approx(max(0.0, 1 - N / P) ** 2 * told, rel=0.06, abs=1e-6)


def test_floors_and_times_have_the_published_exponents():
    t, n = np.geomspace(1e2, 1e6, 5), np.geomspace(1e3, 1e6, 4)
    assert slopes(t, resolvent.excess(ENDLESS, math.inf, t)) == pytest.approx(-0.4, rel=0.03)
    assert slopes(n, losses(ENDLESS, n, np.asarray(math.inf), 0.0).test) == pytest.approx(-0.5, rel=0.03)
    assert slopes(n, losses(ENDLESS, np.asarray(math.inf), n, 0.0).test) == pytest.approx(-0.5, rel=0.03)
    # Easy tasks: a - 1 = 3 exceeds 2 b for samples, and b for features.
    easy = power_law_spectrum(math.inf, 1.25, 4.0)
    assert slopes(n, losses(easy, np.asarray(math.inf), n, 0.0).test) == pytest.approx(-2.5, rel=0.03)
    assert slopes(n, losses(easy, n, np.asarray(math.inf), 0.0).test) == pytest.approx(-1.25, rel=0.03)


def test_simulated_floors_fall_with_samples_as_published():
    # At few features a sample the floor of features joins in: their ratio is kept.
    P, t = np.asarray([16, 32, 64, 128]), np.asarray([1e8])
    losses = [reused_and_fresh(FlowWorld(modes=500), 4 * p, p, t, draws=12)[0].test.mean() for p in P]
    assert np.polyfit(np.log(P), np.log(losses), 1)[0] == pytest.approx(-0.5, rel=0.08)


def test_compute_optimal_sizes_and_losses_have_the_published_exponents():
    best = gradient_flow.compute_optimal(ENDLESS, np.geomspace(30, 3e5, 17), np.geomspace(1e5, 1e8, 7))
    assert best.size_slope == pytest.approx(1 / 2.25, rel=0.02)
    assert best.loss_slope == pytest.approx(0.5 / 2.25, rel=0.02)


def test_one_wide_model_beats_four_narrow_ones_which_beat_one():
    world, t = FlowWorld(modes=600), np.asarray([30.0, 1e3])
    losses = [
        gradient_flow.ensemble(world, N, models, t, draws=4).mean(axis=0) for N, models in ((160, 1), (40, 4), (40, 1))
    ]
    assert np.all(losses[0] < 0.97 * losses[1]) and np.all(losses[1] < 0.97 * losses[2])


def test_a_simulated_table_has_gaps_where_samples_are_reused_and_none_where_they_are_fresh():
    table, truth = gradient_flow.simulate_gradient_flow(modes=300, sizes=(16, 64), samples=(100, 300), draws=4)
    assert truth.parameters == pytest.approx({"E": 0, "alpha": 0.5, "beta": 0.4, "beta/(alpha + beta)": 1 / 2.25})
    again, fresh = table[table["data"] == "reused"], table[table["data"] == "fresh"]
    assert np.all(again["gap_probe"] > 0) and np.all(again["U"] == again["P"])
    assert np.all(np.abs(fresh["gap_probe"]) < 6 * fresh["gap_probe_se"]) and np.all(fresh["U"] == fresh["D"])
    np.testing.assert_allclose(table["raw_gap"], table["val_loss_final100"] - table["train_loss_final100"], atol=1e-12)


@pytest.mark.parametrize(
    "settings, field",
    [
        ({"a": 1.0}, "--a"),
        ({"sizes": (2000,)}, "--sizes"),
        ({"times": (0.1,)}, "times"),
        ({"draws": 1}, "--draws"),
    ],
)
def test_unusable_settings_are_named(settings, field):
    with pytest.raises(InputError) as error:
        gradient_flow.simulate_gradient_flow(**settings)
    assert error.value.field == field
