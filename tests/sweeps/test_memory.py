"""Bytes of a run: the state as the arrays have it, the activations against what the compiler asks for."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
import pytest

from models.compute import Compute
from models.config import make_config
from models.transformer import init, token_losses
from sweeps.shape import Shape, run_bytes, state_bytes


def run(architecture: str, kind: Literal["adamw", "sgd"] = "adamw", batch: int = 8) -> Shape:
    model = make_config(architecture, vocab=257, context=128, width=32, depth=2, heads=2)
    return Shape(model, batch, False, kind, 128)


@pytest.mark.parametrize(
    ("kind", "transform"), [("adamw", optax.adamw(1e-3)), ("sgd", optax.sgd(1e-3, momentum=0.9))], ids=["adamw", "sgd"]
)
def test_the_state_is_parameters_gradients_and_moments(kind, transform):
    config = run("dense", kind)
    params, _ = jax.eval_shape(lambda key: init(config.model, key), jax.random.key(0))
    leaves = [
        leaf for tree in (params, params, jax.eval_shape(transform.init, params)) for leaf in jax.tree.leaves(tree)
    ]
    assert state_bytes(config) == pytest.approx(4 * sum(leaf.size for leaf in leaves), rel=1e-3)


def test_activations_are_near_what_xla_needs():
    config = run("dense")
    params, biases = jax.eval_shape(lambda key: init(config.model, key), jax.random.key(0))

    def loss(params, biases, tokens):
        return token_losses(config.model, params, biases, tokens, training=True, compute=Compute())[0].mean()

    tokens = jax.ShapeDtypeStruct((8, 129), jnp.int32)
    report = jax.jit(jax.grad(loss)).lower(params, biases, tokens).compile().memory_analysis()
    assert report is not None
    needed = report.temp_size_in_bytes
    assert 0.5 < (run_bytes(config) - state_bytes(config)) / needed < 2


def test_memory_grows_with_batch_and_not_beyond_the_logits_chunks():
    small, large = run("top2", batch=8), run("top2", batch=64)
    activations = [run_bytes(config) - state_bytes(config) for config in (small, large)]
    assert 6 < activations[1] / activations[0] <= 8


def test_what_is_added_up_over_turns_takes_one_more_copy_of_the_parameters():
    whole = run("dense")
    shape = Shape(whole.model, whole.micro_batch, True, whole.optimizer, whole.probe_windows)
    assert state_bytes(shape) == pytest.approx(1.25 * state_bytes(whole))
