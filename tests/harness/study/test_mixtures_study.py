"""The study of mixtures: its laws are those of the package, and known best shares are found."""

import math

import jax
import numpy as np
import pytest

from harness.fit.laws.registry import get_law
from harness.study.methods.mixture_fits import (
    AT_N,
    additive_mixture,
    exponential_mixture,
    joint_mixture,
    mixture_surface,
)
from harness.study.papers.domains.mixtures import Cells, _errors, _slope, best_shares, fits

RNG = np.random.default_rng(0)
SHARES = np.vstack([np.eye(3), RNG.dirichlet(np.ones(3), 6)])
SIZES = RNG.uniform(1e3, 1e5, len(SHARES))
C, G = np.array([1.8, 0.9, 1.2]), np.array([0.3, 0.7, 0.5])


def predicted(law, constants, columns):
    with jax.enable_x64(True):
        return np.log(np.asarray(get_law(law).predict(constants, columns)))


def logit(power):
    return np.log(power / (1 - power))


def test_the_additive_law_is_that_of_the_package():
    truth = {"E": 1.2, "A": 30.0, "alpha": 0.34, "C": C, "g": G}
    theta = [math.log(1.2), math.log(30 * AT_N**-0.34), math.log(0.34), *np.log(C), *logit(G)]
    expected = predicted("mixture_additive_n", truth, {"N": SIZES, "h": SHARES})
    np.testing.assert_allclose(additive_mixture(SHARES, SIZES)(np.array([theta]))[0], expected, rtol=1e-9)


def test_the_joint_law_is_that_of_the_package_without_its_term_of_tokens():
    worth, power = np.array([40.0, 90.0, 20.0]), 0.8
    truth = {
        "E": 1.2,
        "C": C,
        "g": G,
        "C_A": worth,
        "g_A": power,
        "alpha": 0.3,
        "C_B": np.full(3, 1e-9),
        "g_B": 1.0,
        "beta": 0.3,
    }
    level = power * np.log(worth) - 0.3 * math.log(AT_N)
    theta = [math.log(1.2), math.log(0.3), *np.log(C), *logit(G), *level, math.log(power)]
    expected = predicted("mixture_joint", truth, {"N": SIZES, "D": np.full(len(SIZES), 1e9), "h": SHARES})
    np.testing.assert_allclose(joint_mixture(SHARES, SIZES)(np.array([theta]))[0], expected, rtol=1e-6)


def test_the_exponential_law_is_that_of_the_package():
    t = np.array([-0.3, -2.0, -1.0])
    expected = predicted("mixture_exponential", {"c": 1.1, "t": t}, {"h": SHARES})
    found = exponential_mixture(SHARES, SIZES)(np.array([[math.log(1.1), *t]]))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_surface_of_one_size_is_the_additive_law_there():
    theta = np.array([[math.log(1.2), -40.0, 0.0, *np.log(C), *logit(G)]])
    expected = additive_mixture(SHARES, SIZES)(theta)  # with a term of the size of 1e-9
    np.testing.assert_allclose(mixture_surface(SHARES, SIZES)(theta[:, [0, 3, 4, 5, 6, 7, 8]]), expected, rtol=1e-7)


def simplex():
    return np.array([(a, b, 6 - a - b) for a in range(7) for b in range(7 - a)]) / 6


FEW = {(6, 0, 0), (0, 6, 0), (0, 0, 6), (3, 3, 0), (3, 0, 3), (0, 3, 3), (4, 1, 1), (1, 4, 1), (1, 1, 4), (2, 2, 2)}


def cells(of) -> Cells:
    """The design of the study with the losses of(shares, N), and one copy that is the same."""
    grid = simplex()
    few = np.array([tuple(np.round(6 * h).astype(int)) in FEW for h in grid])
    parts = [(grid[few], 1.5e3), (grid[few], 3.5e3), (grid[~few], 3.5e3), (grid[few], 1e4), (grid, 3e4)]
    shares = np.vstack([h for h, _ in parts])
    n = np.concatenate([np.full(len(h), size) for h, size in parts])
    block = np.concatenate([np.full(len(h), place) for place, (h, _) in enumerate(parts)])
    order = np.lexsort((*shares.T[::-1], n))
    shares, n, block = shares[order], n[order], block[order]
    logs = np.log(of(shares, n[:, None])).T[:, None]
    return Cells(shares, n, np.isin(block, (0, 1, 3)), block == 2, block == 4, np.repeat(logs, 2, axis=1))


def even(shares, n):
    """Each corpus is worth most for itself, and as much as any other: equal shares are best for the mean."""
    worth = 0.9 + 0.9 * np.eye(3)
    return 1.3 + 5 * n**-0.35 + 1 / (shares[:, None] ** 0.6 * worth).sum(axis=2)


def test_exact_losses_of_the_additive_law_are_foretold_with_their_best_shares():
    table = cells(even)
    found = fits(table)
    errors = _errors(table, found)
    assert errors["additive", "all, larger size"].max() < 2e-3
    assert errors["joint", "all, larger size"].max() < 2e-3
    best = best_shares(table, found)
    np.testing.assert_allclose(best["mean"].shares[0, 0], 1 / 3, atol=0.03)
    np.testing.assert_allclose(best["mean"].shares[2, 0], 1 / 3, atol=0.03)
    assert best["mean"].above[0, 0] < 1e-4 and best["mean"].gain[0] == pytest.approx(0.0, abs=1e-4)
    # For the loss on one corpus alone that corpus alone is best, for powers of its share below 1 outweigh the others'
    # only together.
    own = simplex_best(lambda h: even(h, 3e4)[:, 2])
    np.testing.assert_allclose(best["api_docs"].shares[2, 0], own, atol=0.05)


def simplex_best(loss):
    steps = np.arange(61)
    grid = np.array([(a, b, 60 - a - b) for a in steps for b in steps[: 61 - a]]) / 60
    return grid[np.argmin(loss(grid))]


def test_costs_have_slope_one_where_sizes_and_mixtures_add_and_more_where_larger_models_lose_more():
    assert _slope(cells(even), 0)[0] == pytest.approx(1.0, abs=1e-9)
    # 0.5 h N^-0.35 less at 3e4 than at 3.5e3, while costs fall with h: the slope is that of two exact lines.
    joint = cells(lambda shares, n: 2.0 - 0.4 * shares + 3 * shares * n**-0.35)
    of = {size: -0.4 + 3 * size**-0.35 for size in (3.5e3, 3e4)}
    assert _slope(joint, 1)[0] == pytest.approx(of[3e4] / of[3.5e3])
