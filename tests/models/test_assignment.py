"""Balanced assignments against scipy's linear assignment: equal loads, and the largest sum of scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from models.assignment import balanced_assignment, sinkhorn_prices

SIZES = [(7, 1), (3, 8), (8, 4), (11, 4), (64, 16)]
assign = jax.jit(balanced_assignment)


def best_sum(scores: np.ndarray) -> float:
    """Every expert has a column for each row that it must have, which is preferred, and one for a row that it may."""
    rows, experts = scores.shape
    least = rows // experts
    columns = np.tile(np.arange(experts), least + (rows % experts > 0))
    bonus = np.where(np.arange(len(columns)) < experts * least, 10 * np.ptp(scores) + 1, 0)
    chosen = linear_sum_assignment(scores[:, columns] + bonus[None], maximize=True)[1]
    return scores[np.arange(rows), columns[chosen]].sum()


def check(scores: np.ndarray):
    rows, experts = scores.shape
    expert = np.asarray(assign(scores))
    loads = np.bincount(expert, minlength=experts)
    assert loads.min() == rows // experts and loads.max() == -(-rows // experts)
    wide = scores.astype(np.float64)
    largest = (wide.max(1) - wide.min(1)).max()
    assert wide[np.arange(rows), expert].sum() == pytest.approx(best_sum(wide), abs=2e-7 * rows * largest + 1e-12)


@given(st.sampled_from(SIZES), st.integers(0, 2**31), st.sampled_from(["plain", "skewed", "tied", "low rank", "equal"]))
def test_loads_are_equal_and_the_sum_is_the_largest(size, seed, kind):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=size) * 10 ** rng.uniform(-3, 3)
    if kind == "skewed":  # everybody likes the same experts
        scores += 10 * np.abs(scores).max() * rng.normal(size=size[1])
    if kind == "tied":
        scores = rng.integers(0, 3, size)
    if kind == "low rank":
        scores = rng.normal(size=(size[0], 2)) @ rng.normal(size=(2, size[1]))
    if kind == "equal":
        scores = np.full(size, seed % 7)
    check(scores.astype(np.float32))


def test_many_rows_and_copies_of_a_few():
    rng = np.random.default_rng(0)
    check(rng.normal(size=(512, 8)).astype(np.float32))
    check(rng.normal(size=(9, 6))[rng.integers(0, 9, 200)].astype(np.float32))


def test_prices_balance_the_softmax_at_the_last_temperature():
    of_expert = (
        np.random.default_rng(1).normal(size=(6, 600)).astype(np.float32) + np.arange(6, dtype=np.float32)[:, None]
    )
    price = np.asarray(jax.jit(sinkhorn_prices)(of_expert), np.float64)
    spread = (of_expert - of_expert.mean(1, keepdims=True)).std()
    exponents = (of_expert - price[:, None]) / (0.01 * spread)
    share = np.exp(exponents - exponents.max(0))
    np.testing.assert_allclose((share / share.sum(0)).sum(1), 100, rtol=0.15)
    assert np.all(np.diff(price) > 0.8)  # who is liked more costs more


def test_packs_of_problems_are_solved_as_each_alone():
    scores = np.random.default_rng(2).normal(size=(3, 40, 8)).astype(np.float32)
    together = jax.jit(jax.vmap(balanced_assignment))(scores)
    np.testing.assert_array_equal(together, [assign(each) for each in scores])


def test_what_is_not_finite_ends_too():
    scores = jnp.full((12, 4), jnp.nan).at[3].set(jnp.inf)
    assert np.bincount(np.asarray(assign(scores)), minlength=4).tolist() == [3, 3, 3, 3]
