"""Packs of small networks: a run among others is the run alone, and Adam is Adam."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.theory.small_networks import Task, advance, initial_state, train_networks

pytestmark = pytest.mark.usefixtures("quick_compile")

STEPS = 23


def sample(stream, step):
    x = jax.random.normal(jax.random.fold_in(stream, step), (8, 3))
    return x, jnp.sin(x).sum(axis=1)


def loss(params, batch):
    x, y = batch
    error = jnp.mean((jnp.tanh(x @ params["w"]) @ params["v"] - y) ** 2)
    return error, {"error": error}


TASK = Task(loss, sample)


@pytest.fixture
def pack():
    """Two streams of three runs of five neurons."""
    w, v = (jax.random.normal(jax.random.key(i), (2, 3, *shape)) for i, shape in enumerate([(3, 5), (5,)]))
    return {"w": w, "v": v}, jax.random.split(jax.random.key(7), 2), jnp.float32([[0.1, 0.01, 0.003]] * 2)


@pytest.mark.slow
def test_a_run_is_what_optax_makes_of_it_alone(pack):
    params, streams, peak = pack
    state, told = train_networks(TASK, params, streams, peak, STEPS, count=10)
    for s, r in ((0, 0), (1, 2)):
        alone = jax.tree.map(lambda leaf, s=s, r=r: leaf[s, r], params)
        adam = optax.adam(optax.cosine_decay_schedule(float(peak[s, r]), STEPS))
        moments, errors = adam.init(alone), []
        step = jax.jit(jax.value_and_grad(lambda p, b: loss(p, b)[0]))
        for at in range(STEPS):
            error, gradient = step(alone, sample(streams[s], at))
            updates: Any
            updates, moments = adam.update(gradient, moments)
            alone = {name: alone[name] + updates[name] for name in alone}
            errors.append(float(error))
        for name in alone:
            np.testing.assert_allclose(state.params[name][s, r], alone[name], rtol=1e-4, atol=1e-5)
        assert float(told["error"][s, r]) == pytest.approx(np.mean(errors), rel=1e-4)


@pytest.mark.slow
def test_a_run_of_a_pack_is_that_run_alone_however_the_steps_are_dispatched(pack):
    params, streams, peak = pack
    state, _ = train_networks(TASK, params, streams, peak, STEPS, count=10)
    one = jax.tree.map(lambda leaf: leaf[1:, 1:2], params)
    alone, _ = train_networks(TASK, one, streams[1:], peak[1:, 1:2], STEPS, count=STEPS)
    for name in params:
        np.testing.assert_allclose(alone.params[name][0, 0], state.params[name][1, 1], rtol=1e-5, atol=1e-6)
    again, _ = train_networks(TASK, params, streams, peak, STEPS, count=4)
    for name in params:
        np.testing.assert_array_equal(again.params[name], state.params[name])


def test_a_run_that_is_not_finite_is_frozen_and_the_others_go_on(pack):
    params, streams, peak = pack
    sick = {"w": params["w"], "v": params["v"].at[0, 1].set(jnp.inf)}
    state, _ = train_networks(TASK, sick, streams, peak, STEPS)
    well, _ = train_networks(TASK, params, streams, peak, STEPS)
    assert np.argwhere(~np.asarray(state.alive)).tolist() == [[0, 1]]
    np.testing.assert_array_equal(state.params["w"][0, 1], params["w"][0, 1])
    for s, r in ((0, 0), (0, 2), (1, 1)):
        np.testing.assert_allclose(state.params["w"][s, r], well.params["w"][s, r], rtol=1e-6)


def test_the_rate_falls_to_zero_and_steps_beyond_the_last_change_nothing(pack):
    params, streams, peak = pack
    first, _ = advance(TASK, STEPS, initial_state(params), streams, peak, jnp.int32(STEPS))
    more, _ = advance(TASK, 5, first, streams, peak, jnp.int32(STEPS))
    np.testing.assert_array_equal(more.params["w"], first.params["w"])
    assert np.asarray(more.alive).all()


def test_the_program_is_one_for_every_accelerator(pack):
    params, streams, peak = pack
    traced = jax.jit(advance, static_argnums=(0, 1)).trace(TASK, 3, initial_state(params), streams, peak, jnp.int32(9))
    assert traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
