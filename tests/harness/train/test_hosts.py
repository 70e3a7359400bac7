"""Alone, a process decides by itself, and what it fetches is its own."""

import jax
import jax.numpy as jnp
import numpy as np

from harness.train import hosts


def test_what_is_fetched_is_nobody_elses_to_change():
    array = jnp.arange(1000.0)
    kept = hosts.fetch({"a": array})["a"]
    doubled = jax.jit(lambda x: 2 * x, donate_argnums=0)(array)
    np.testing.assert_array_equal(kept, np.arange(1000.0))
    assert float(doubled[3]) == 6.0 and kept.flags.owndata


def test_alone_every_decision_is_ones_own():
    assert hosts.alone() and hosts.leads()
    assert hosts.agree([True, 3, 0]).tolist() == [1, 3, 0]
    hosts.meet("here")
