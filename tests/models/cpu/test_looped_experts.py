"""Experts over blocks of rows: both methods to compute them against numpy, one block after another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.cpu.feed_forward import LOOPED_FROM
from models.ffn import expert_feed_forward

WIDTH, HIDDEN, EXPERTS = 64, 128, 3
# Experts serve several blocks, one, or none.
SERVED = np.asarray([0, 2, 2, 0, 2], np.int32)


@pytest.mark.parametrize("method", ["looped", "batched"])
@pytest.mark.parametrize("gated", [False, True])
def test_each_block_is_its_experts_feed_forward(plain, method, gated):
    assert WIDTH * HIDDEN >= LOOPED_FROM
    rng = np.random.default_rng(0)
    x, toward = rng.normal(size=(2, len(SERVED), 7, WIDTH))
    up, gate = rng.normal(size=(2, EXPERTS, WIDTH, HIDDEN)) / 8
    down = rng.normal(size=(EXPERTS, HIDDEN, WIDTH)) / 11
    x, toward, up, down, gate = (jnp.asarray(z, jnp.float32) for z in (x, toward, up, down, gate))
    weights = up, down, gate if gated else None

    def objective(x, weights):
        y = expert_feed_forward(x, weights, jnp.asarray(SERVED), method)
        return (y * toward).sum(), y

    (_, found), (to_x, to_weights) = jax.jit(jax.value_and_grad(objective, argnums=(0, 1), has_aux=True))(x, weights)
    expected = [plain.feed_forward(x[b], up[e], down[e], gate[e] if gated else None) for b, e in enumerate(SERVED)]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # The gradient along a direction, by a difference in float64.
    rng = np.random.default_rng(1)
    arrays = [np.asarray(z, np.float64) for z in (x, up, down, gate)]
    steps = [rng.normal(size=z.shape) for z in arrays]
    slopes = [to_x, *to_weights[:2], to_weights[2] if gated else np.zeros(gate.shape)]

    def value(shift, moved):
        x, up, down, gate = (
            z + shift * s if n == moved else z for n, (z, s) in enumerate(zip(arrays, steps, strict=True))
        )
        ys = [plain.feed_forward(x[b], up[e], down[e], gate[e] if gated else None) for b, e in enumerate(SERVED)]
        return (np.stack(ys) * np.asarray(toward, np.float64)).sum()

    for moved, (slope, step) in enumerate(zip(slopes, steps, strict=True)):
        difference = (value(1e-5, moved) - value(-1e-5, moved)) / 2e-5
        assert (np.asarray(slope, np.float64) * step).sum() == pytest.approx(difference, rel=1e-3, abs=1e-3)
    assert not np.asarray(to_weights[0])[1].any(), "an expert without blocks has no gradient"


def test_a_pack_of_them_is_each_alone():
    """As slots of a pack are: other blocks of other experts in each."""
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(3, 5, 7, WIDTH)), jnp.float32)
    up = jnp.asarray(rng.normal(size=(3, EXPERTS, WIDTH, HIDDEN)) / 8, jnp.float32)
    down = jnp.asarray(rng.normal(size=(3, EXPERTS, HIDDEN, WIDTH)) / 11, jnp.float32)
    served = jnp.asarray(rng.integers(0, EXPERTS, (3, 5)), jnp.int32)

    def slope(x, up, down, served):
        return jax.grad(
            lambda *a: jnp.square(expert_feed_forward(a[0], (a[1], a[2], None), served, "looped")).sum(), (0, 1, 2)
        )(x, up, down)

    together = jax.jit(jax.vmap(slope))(x, up, down, served)
    for run in range(3):
        alone = jax.jit(slope)(x[run], up[run], down[run], served[run])
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[run], b, rtol=1e-4, atol=1e-4)
