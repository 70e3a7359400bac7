"""The deterministic equivalents beside experiments, closed forms of isotropic data, and limits."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.theory.random_features import best_ridge, experiment, losses, simulate_random_features
from harness.theory.spectrum import every_mode, power_law_spectrum
from sweeps.errors import InputError

# N, P, ridge at M = 2000, b = 1.5, a = 1.8, noise .05: fewer, as many and more features than samples.
SETTINGS = ((200, 400, 1e-3), (300, 300, 1.0), (100, 800, 0.1), (400, 200, 1e-3), (150, 150, 0.3), (60, 500, 10.0))


def standardised(spectrum, n, p, ridge, noise, draws, rng):
    """Theory less experiment over the standard error, of test and training loss."""
    theory = losses(spectrum, np.asarray([float(n)]), np.asarray([float(p)]), ridge, noise)
    scores = []
    for told, found in zip(
        (theory.test, theory.train), experiment(spectrum, n, p, ridge, noise, draws, rng), strict=True
    ):
        scores.append(float((told[0] - found.mean()) / (found.std(ddof=1) / math.sqrt(draws))))
    return scores


@pytest.mark.slow
def test_six_settings_agree_with_experiments():
    """12 scores of 24 draws; those of 150 draws at the first setting: 0.1948 for 0.1957 +- 0.0011."""
    rng = np.random.default_rng(5)
    spectrum = every_mode(2000, 1.5, 1.8)
    scores = [standardised(spectrum, n, p, ridge, 0.05, 24, rng) for n, p, ridge in SETTINGS]
    assert np.max(np.abs(scores)) < 3.5 and np.sqrt(np.mean(np.square(scores))) < 1.5


def test_random_settings_agree_as_often_as_chance_allows():
    """40 scores of the theory: 95 % within two standard errors of twelve draws (Student's t: 93 %), none far out."""
    rng = np.random.default_rng(11)
    scores = []
    for _ in range(20):
        n, p = rng.integers(40, 250, 2)
        a, b = rng.uniform(1.3, 2.2, 2)
        spectrum = every_mode(400, float(b), float(a))
        ridge, noise = 10 ** rng.uniform(-2, 1), rng.uniform(0, 0.3)
        scores += standardised(spectrum, int(n), int(p), float(ridge), float(noise), 12, rng)
    assert np.mean(np.abs(scores) < 2.0) >= 0.85 and np.max(np.abs(scores)) < 4.5
    assert abs(np.mean(scores)) < 0.5


def test_ordinary_least_squares_on_isotropic_data():
    """P > M samples, every feature: test = sigma^2/(1 - M/P), train = sigma^2 (1 - M/P)."""
    spectrum, p = every_mode(100, 0.0, 0.0), np.asarray([150.0, 400.0, 1e5])
    found = losses(spectrum, np.full(3, math.inf), p, 0.0, noise=0.7)
    assert found.test == pytest.approx(0.7 / (1 - 100 / p)) and found.train == pytest.approx(0.7 * (1 - 100 / p))
    assert found.degrees == pytest.approx(100.0)


def test_the_best_ridge_of_an_isotropic_prior_is_the_noise_over_the_signal():
    spectrum = every_mode(50, 0.0, 0.0)  # each weight has the square 1
    found = best_ridge(spectrum, np.full(3, math.inf), np.asarray([20.0, 50.0, 300.0]), noise=2.5)
    assert found.ridge == pytest.approx(2.5, rel=1e-3)


def test_interpolation_has_no_training_loss_and_an_infinite_peak():
    spectrum = power_law_spectrum(1e6, 1.5, 1.6)
    found = losses(spectrum, np.asarray([500.0, 400.0, 400.0]), np.asarray([300.0, 400.0, 401.0]), 0.0, 0.1)
    assert found.train[0] == 0.0 and math.isinf(found.test[1]) and found.test[2] > 10 * found.test[0]


@settings(max_examples=60)
@example(1e4, 1e4, 1.0, 0.0, 2.0, 2.0)  # features and samples for every mode, and no noise
@example(1e5, 1e5, 1e-8, 0.0, 2.0, 1.2)
@given(
    st.floats(1.0, 5.0).map(lambda x: 10**x), st.floats(1.0, 5.0).map(lambda x: 10**x),
    st.floats(-8.0, 4.0).map(lambda x: 10**x), st.floats(0.0, 2.0), st.floats(1.2, 2.5), st.floats(1.2, 2.5),
)  # fmt: skip
def test_losses_keep_their_order(n, p, ridge, noise, a, b):
    spectrum = power_law_spectrum(1e4, b, a)
    rows = (np.asarray([n]), np.asarray([p]))
    found, best = losses(spectrum, *rows, ridge, noise), best_ridge(spectrum, *rows, noise)
    assert found.test[0] > noise and 0 <= found.train[0] < found.test[0]
    assert found.degrees[0] < min(n, p, 1e4)
    assert best.test[0] <= found.test[0] * (1 + 1e-9)
    # The ridge it names gives these losses.
    again = losses(spectrum, *rows, best.ridge, noise)
    assert again.test == pytest.approx(best.test, rel=1e-5) and again.train == pytest.approx(best.train, rel=1e-3)


def test_as_many_samples_as_modes_learn_a_task_without_noise():
    spectrum = power_law_spectrum(1e4, 1.5, 1.6)
    sizes = np.asarray([1e4, 1e5]), np.asarray([1e5, 1e4])
    assert losses(spectrum, *sizes, 0.0).test == pytest.approx(0.0, abs=0.0)
    assert best_ridge(spectrum, *sizes).test == pytest.approx(0.0, abs=0.0)
    assert losses(spectrum, *sizes, 1e-13).test == pytest.approx(0.0, abs=1e-7)


def test_a_small_ridge_tends_to_none():
    spectrum = power_law_spectrum(1e6, 1.5, 1.6)
    n, p = np.asarray([1e3, 1e3, 50.0]), np.asarray([4e3, 2e2, 1e5])
    none, little = losses(spectrum, n, p, 0.0, 0.2), losses(spectrum, n, p, 1e-9, 0.2)
    assert little.test == pytest.approx(none.test, rel=1e-5)


def slopes(x, y):
    return np.diff(np.log(y)) / np.diff(np.log(x))


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.8])
def test_one_exponent_for_features_and_samples(alpha):
    """Maloney et al.: L ~ min(N, T)^-alpha, symmetric in N and T, at spectra i^-(1 + alpha)."""
    spectrum, sizes = power_law_spectrum(1e12, 1 + alpha, 1 + alpha), np.geomspace(100, 1e4, 5)
    many = np.full(5, 1e8)
    by_n, by_t = best_ridge(spectrum, sizes, many).test, best_ridge(spectrum, many, sizes).test
    assert slopes(sizes, by_n) == pytest.approx(-alpha, rel=0.05) and slopes(sizes, by_t) == pytest.approx(
        -alpha, rel=0.05
    )
    n, t = np.meshgrid(sizes, sizes)
    square = best_ridge(spectrum, n, t).test
    assert square == pytest.approx(square.T, rel=0.03)
    # The peak of double descent at N = T is gone: the diagonal falls as the sides do.
    assert np.all(np.diff(square, axis=0) < 0) and slopes(sizes, np.diag(square)) == pytest.approx(-alpha, rel=0.05)


def test_a_plateau_beyond_the_latent_dimension():
    spectrum, noise = power_law_spectrum(1000, 1.5, 1.5), 0.1
    n = np.geomspace(1000, 1e5, 8)
    assert slopes(n, best_ridge(spectrum, n, np.full(8, 1e4), noise).test) == pytest.approx(0.0, abs=0.02)
    assert slopes(n, losses(spectrum, n, np.full(8, 1e4), 0.0, noise).test) == pytest.approx(0.0, abs=1e-9)
    below = np.geomspace(100, 900, 4)
    assert np.all(slopes(below, best_ridge(spectrum, below, np.full(4, 1e4), noise).test) < -0.4)


def test_a_table_with_experiments_and_its_truth():
    table, truth = simulate_random_features(sizes=(20, 60), modes=300, noise=0.1, ridge=0.5, draws=8, seed=3)
    assert len(table) == 4 and table["gap_probe"].to_numpy() == pytest.approx(
        table["val_loss_final100"] - table["train_loss_final100"]
    )
    error = np.abs(table["val_loss_final100"] - table["simulated_test"]) / table["simulated_test_se"]
    assert np.all(error < 4)
    assert truth.where == "apart > 300"


@pytest.mark.parametrize(
    ("a", "b", "noise", "ridge"),
    [(1.5, 1.5, 0.0, None), (1.5, 1.5, 0.1, None), (4.0, 1.25, 0.0, None), (4.0, 1.25, 0.0, 0.0), (1.8, 1.5, 0.2, 1.0)],
)
def test_the_exponents_told_are_the_slopes_of_the_limits(a, b, noise, ridge):
    told = simulate_random_features(a=a, b=b, noise=noise, ridge=ridge, sizes=(100, 1000))[1].parameters
    spectrum, sizes, many = power_law_spectrum(math.inf, b, a), np.geomspace(1e8, 1e10, 3), np.full(3, 1e15)

    def excess(n, p):
        found = best_ridge(spectrum, n, p, noise) if ridge is None else losses(spectrum, n, p, ridge, noise)
        return found.test - noise

    assert slopes(np.geomspace(1e2, 1e4, 3), excess(np.geomspace(1e2, 1e4, 3), many)) == pytest.approx(
        -told["alpha"], rel=0.05
    )
    assert "beta" in told or ridge == 1.0
    if "beta" in told:
        assert slopes(sizes, excess(np.full(3, math.inf), sizes)) == pytest.approx(-told["beta"], rel=0.05)


@pytest.mark.parametrize(
    "asked", [{"a": 1.0}, {"b": 0.5}, {"modes": 1.0}, {"sizes": ()}, {"draws": 1}, {"modes": 1e6, "draws": 4}]
)
def test_unusable_values_are_refused(asked):
    with pytest.raises(InputError, match="simulate random_features"):
        simulate_random_features(**asked)
