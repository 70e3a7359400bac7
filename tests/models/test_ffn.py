"""The feed-forward against numpy, and its stack of experts against single ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.cpu.feed_forward import ALIASED
from models.ffn import FeedForward, feed_forward
from models.weights import draw_parameters


@pytest.mark.parametrize("gated", [False, True])
def test_values_are_those_of_the_formula(plain, gated):
    rng = np.random.default_rng(0)
    x, up, down, gate = (rng.normal(size=shape) for shape in ((7, 6), (6, 10), (10, 6), (6, 10)))
    arrays = [jnp.asarray(z, jnp.float32) for z in (x, up, down, gate)]
    found = jax.jit(feed_forward)(*arrays[:3], arrays[3] if gated else None)
    np.testing.assert_allclose(found, plain.feed_forward(x, up, down, gate if gated else None), rtol=1e-4, atol=1e-4)


def test_a_stack_is_its_experts_one_by_one(plain):
    rng = np.random.default_rng(1)
    x, up, down, gate = (rng.normal(size=(3, *shape)) for shape in ((5, 6), (6, 10), (10, 6), (6, 10)))
    together = jax.jit(feed_forward)(*(jnp.asarray(z, jnp.float32) for z in (x, up, down, gate)))
    for e in range(3):
        np.testing.assert_allclose(together[e], plain.feed_forward(x[e], up[e], down[e], gate[e]), rtol=1e-4, atol=1e-4)


def test_initial_spreads_keep_the_variance_and_shrink_the_residual_branch_with_depth():
    graph, declared = nnx.split(nnx.eval_shape(lambda: FeedForward(64, 192, 8, "swiglu")))
    up, down, gate = nnx.merge(graph, draw_parameters(declared, jax.random.key(1))).weights()
    assert gate is not None
    for matrix, expected in ((up, 64**-0.5), (gate, 64**-0.5), (down, 192**-0.5 / 4)):
        assert float(matrix.std()) == pytest.approx(expected, rel=0.04)  # 3 standard errors of 12,288 draws are 2%


@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_spare_columns_change_nothing(activation):
    """Of 512 hidden features, which are padded, and of 500, which are not."""
    rng = np.random.default_rng(3)
    for hidden in (ALIASED, 500):
        graph, shapes = nnx.split(nnx.eval_shape(lambda hidden=hidden: FeedForward(6, hidden, 2, activation)))
        state = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 4, jnp.float32), shapes)
        x = jnp.asarray(rng.normal(size=(7, 6)), jnp.float32)

        def both(spare, graph=graph, state=state, x=x):
            loss = lambda state, x: jnp.square(nnx.merge(graph, state)(x, spare)).sum()  # noqa: E731
            traced = jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).trace(state, x)
            return traced.lower().compile()(state, x), str(traced.jaxpr)

        (padded, program), (bare, _) = both(16), both(0)
        assert (f"{hidden + 16}" in program) == (hidden == ALIASED)
        for a, b in zip(jax.tree.leaves(padded), jax.tree.leaves(bare), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
