"""The study of crossings: a known crossing of two curves is found."""

import numpy as np
import pandas as pd
import pytest

from harness.study.papers.recipes.crossover import _crossing, _crossings, _deviations

# L = E + A C^-a of two recipes: they cross where A_1 C^-a_1 = A_2 C^-a_2.
FLOOR, FIRST, SECOND = 1.0, (400.0, 0.25), (1.2, 0.02)
CROSSING = (FIRST[0] / SECOND[0]) ** (1 / (FIRST[1] - SECOND[1]))
FLOPS = CROSSING * np.geomspace(1 / 16, 16, 5)


def curves() -> np.ndarray:
    return np.stack([FLOOR + a * FLOPS**-power for a, power in (FIRST, SECOND)])


def test_exact_curves_cross_where_their_constants_say():
    assert np.exp(_crossing(np.log(FLOPS), curves()[None])[0]) == pytest.approx(CROSSING, rel=0.02)


def test_a_crossing_is_found_within_15_percent_where_losses_err_by_2_percent():
    rng = np.random.default_rng(0)
    losses = curves() * np.exp(0.02 * rng.standard_normal((400, 2, len(FLOPS))))
    error = np.abs(_crossing(np.log(FLOPS), losses) - np.log(CROSSING))
    assert np.median(error) < np.log(1.15)


def test_the_interval_of_the_bootstrap_holds_a_known_crossing():
    first, second = np.repeat(curves(), 4, axis=1)
    size = np.repeat(np.arange(5.0), 4)
    held, trials = 0, 40
    for seed in range(trials):
        other = second * np.exp(0.01 * np.random.default_rng([1, seed]).standard_normal(20))
        effect = np.log(first / second) + 0.02 * np.random.default_rng([2, seed]).standard_normal(20)
        rows = pd.DataFrame({"N": size, "C": np.repeat(FLOPS, 4), "other": other, "effect": effect})
        place, inside = _crossings(rows)
        held += place.holds(CROSSING)
        assert inside == pytest.approx(1.0)
    # 95 % intervals hold the truth in fewer than 33 of 40 tables once in 500 such tests.
    assert held >= 33


def test_deviations_have_the_variance_of_a_pair():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"N": np.repeat(np.arange(2000.0), 2), "effect": 0.03 * rng.standard_normal(4000)})
    assert np.sqrt(np.mean(_deviations(rows) ** 2)) == pytest.approx(0.03, rel=0.05)
