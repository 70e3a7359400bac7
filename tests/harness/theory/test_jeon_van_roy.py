"""The information-theoretic bound: the general theorem in a world solved by enumeration, the explicit form's optima."""

import math

import numpy as np
import pytest

from harness.theory.jeon_van_roy import best_split, bound, estimation, local_slope, misspecification, simulate_bound
from sweeps.errors import InputError


def coin_world(T):
    """(excess log-loss of the Bayes mixture over 4 coarse biases, misspecification) of a coin of 16 possible biases.

    By the counts of heads, which tell all that T throws tell.
    """
    fine = (np.arange(16) + 0.5) / 16
    coarse = np.repeat(fine.reshape(4, 4).mean(axis=1), 4)
    heads = np.arange(T + 1)
    ways = np.array([math.lgamma(T + 1) - math.lgamma(h + 1) - math.lgamma(T - h + 1) for h in heads])
    true = heads * np.log(fine)[:, None] + (T - heads) * np.log1p(-fine)[:, None]
    mixed = np.logaddexp.reduce(heads * np.log(coarse[::4, None]) + (T - heads) * np.log1p(-coarse[::4, None]))
    mixed -= math.log(4)
    excess = np.sum(np.exp(true + ways) * (true - mixed)) / 16 / T
    apart = fine * np.log(fine / coarse) + (1 - fine) * np.log((1 - fine) / (1 - coarse))
    return excess, apart.mean()


def test_theorem_holds_and_is_not_vacuous_in_a_world_that_can_be_enumerated():
    for T in (1, 2, 4, 16, 64, 256, 1024):
        excess, apart = coin_world(T)
        told = math.log(4) / T + apart  # theorem 3.1: information over samples, and misspecification
        assert excess <= told
        assert T < 4 or told < math.log(2)  # less than what guessing a fair coin costs at most
    # With much data the mixture is as good as the coarse bias nearest in KL, at best the misspecification.
    assert excess > 0.5 * told


# Published nowhere: an independent implementation of the same formula. C, n*, T*, L*.
TABLE = [
    (1e8, 305.1, 3.28e4, 0.2486),
    (1e10, 1674, 5.97e5, 0.03933),
    (1e12, 1.151e4, 8.69e6, 5.73e-3),
    (1e14, 8.81e4, 1.14e8, 7.67e-4),
    (1e18, 5.97e6, 1.68e10, 1.17e-5),
    (1e24, 3.99e9, 2.50e13, 1.79e-8),
]


def test_optima_are_those_of_an_independent_implementation():
    C, n, T, L = np.array(TABLE).T
    found = best_split(C)
    for ours, theirs in ((found.n, n), (found.T, T), (found.L, L)):
        np.testing.assert_allclose(ours, theirs, rtol=0.01)
    np.testing.assert_allclose(found.p * found.T, C)
    unknown, inexpressible = estimation(found.n, found.T, 10, 100.0), misspecification(found.n, 100.0)
    np.testing.assert_allclose(unknown + inexpressible, found.L)
    ratio = inexpressible / unknown
    assert np.all((ratio > 1.05) & (ratio < 1.6))


def test_exponents_of_the_optima_tend_to_one_and_a_half_from_above():
    C = np.array([1e10, 1e12, 1e14, 1e16, 1e18, 1e20, 1e24, 1e30])
    found = best_split(C)
    slopes = local_slope(found.p, found.T)
    np.testing.assert_allclose(slopes, [1.39, 1.26, 1.20, 1.17, 1.14, 1.115, 1.09], atol=0.006)
    assert np.all(np.diff(slopes) < 0) and np.all(slopes > 1)
    losses = local_slope(C, found.L)
    np.testing.assert_allclose(
        losses[[0, 1, 2, 3, 4, 6]], [-0.418, -0.437, -0.450, -0.459, -0.465, -0.478], atol=0.0006
    )


def test_a_budget_is_spent_worst_at_the_ends():
    for C in (1e6, 1e9, 1e15, 1e21):
        n = np.geomspace(1, C / 10, 300)
        falls = np.diff(bound(n, C / (10 * n), 10, 100.0)) < 0
        assert falls[0] and not falls[-1] and np.sum(np.diff(falls)) == 1
    misallocated = bound(50.0, 1e10 / 500, 10, 100.0)
    assert misallocated > best_split(1e8).L  # a hundred times the compute, and worse


def test_limits_of_the_formula():
    # One neuron: one atom, whatever K. Few draws from many: as many atoms as draws. eps^2 = 1 up to n = K.
    assert bound(1.0, 7.0, 10, 100.0) == pytest.approx(
        (math.log(2) + 5 * math.log(9)) / 7 + 100 / 8 + (1 + 101) / 4, rel=1e-12
    )
    assert misspecification(1e9, 3.0) == pytest.approx(3 / 8e9 + 3 / 4e9, rel=1e-6)
    # Wider networks and more data at once: no floor.
    assert bound(1e12, 1e18, 10, 100.0) < 1e-8


def test_table_has_curves_and_their_least_points():
    table, truth = simulate_bound(budgets=(1e6, 1e8, 1e10), widths=15)
    assert list(table.kind.value_counts()) == [45, 3]
    np.testing.assert_allclose(table.flops, table.N_total * table.D)
    best = table[table.kind == "optimum"].set_index("flops").val_loss_final100
    assert np.all(table.val_loss_final100 >= table.flops.map(best) * (1 - 1e-12))
    assert truth.law == "chinchilla" and "1.704" in truth.regime  # the slope between 1e8 and 1e10


@pytest.mark.parametrize("bad", [{"d": 0}, {"K": 0.0}, {"budgets": (10.0,)}, {"budgets": (1e9, 1e8)}, {"widths": 2}])
def test_bad_settings_are_refused_in_a_line(bad):
    with pytest.raises(InputError):
        simulate_bound(**bad)
