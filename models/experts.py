"""The experts' feed-forwards over blocks of rows, each block one expert's: one interface, two ways to compute it.

Sizes: E experts, hidden features an expert.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from models.ffn import feed_forward

Way = Literal["looped", "batched"]

# Elements of an expert's matrix from which on a CPU takes its blocks one by one. On two cores, a step of top2 took 333
# ms with all blocks in batched products and 222 one by one, of 4 layers at 128 x 256; 23.8 and 26.6, of 2 at 32 x 64.
LOOPED_FROM = 2**13


def expert_feed_forward(
    x: Float[Array, "blocks rows width"],
    weights: tuple[
        Float[Array, "E width hidden"], Float[Array, "E hidden width"], Float[Array, "E width hidden"] | None
    ],
    expert: Int[Array, " blocks"],
    way: Way,
) -> Float[Array, "blocks rows width"]:
    """`models.ffn.feed_forward` of each block by the weights (up, down, gate) of its expert.

    Args:
        way: `batched`, a copy of its expert's matrices for each block, in batched products; `looped`, block by block
            where the matrices are large enough, which copies nothing. They agree to rounding.
    """
    up, down, gate = weights
    if are_looped(up, way):
        return _looped(x, up if gate is None else jnp.concatenate([up, gate], axis=2), down, expert)
    return feed_forward(x, up[expert], down[expert], None if gate is None else gate[expert])


def are_looped(up: Float[Array, "E width hidden"], way: Way) -> bool:
    """Whether `expert_feed_forward` takes its blocks one by one."""
    return way == "looped" and up.shape[1] * up.shape[2] >= LOOPED_FROM


def block_rows(mean_load: float, looped: bool) -> int:
    """Rows of a block: a quarter of an expert's mean load, which its last block, half empty, makes an eighth of the
    work for nothing; an eighth where blocks are looped over, if that leaves 32: a step of top2 of 4 layers at 128 x 256
    took 117 ms with 32 rows, 122 with 64, but one of 64 small experts 126 with 16 and 124 with 32."""
    quarter = max(8, 8 * round(mean_load / 32))
    return max(min(32, quarter), 8 * round(mean_load / 64)) if looped else quarter


def _activated(pre: Float[Array, "rows both"], hidden: int) -> Float[Array, "rows hidden"]:
    up, gate = pre[:, :hidden], pre[:, hidden:]
    return jax.nn.silu(gate) * up if gate.shape[1] else jax.nn.gelu(up)


@jax.custom_vjp
def _looped(x, into, down, expert):
    """`into`: up, or up and gate side by side. The gradient is written out so that the sums over an expert's blocks
    stay in place: that of a gather adds up a copy of all blocks' matrices, laid out the other way round."""
    return _forward(x, into, down, expert)[0]


def _forward(x, into, down, expert):
    def block(_, one):
        rows, e = one
        pre = jnp.matmul(rows, into[e])
        return None, (jnp.matmul(_activated(pre, down.shape[1]), down[e]), pre)

    _, (y, pre) = jax.lax.scan(block, None, (x, expert))
    return y, (x, into, down, expert, pre)


def _backward(saved, cotangent):
    x, into, down, expert, pre = saved
    # Turned once for all blocks: products with the other side turned ran at 34 GFLOP/s on one core, these at 58.
    turned = jax.lax.optimization_barrier((into.swapaxes(1, 2), down.swapaxes(1, 2)))

    def block(sums, one):
        rows, e, pre, d_y = one
        d_into, d_down = sums
        hidden, pull = jax.vjp(lambda pre: _activated(pre, down.shape[1]), pre)
        (d_pre,) = pull(jnp.matmul(d_y, turned[1][e]))
        sums = d_into.at[e].add(_over_rows(rows, d_pre)), d_down.at[e].add(_over_rows(hidden, d_y))
        return sums, jnp.matmul(d_pre, turned[0][e])

    nothing = jnp.zeros_like(into), jnp.zeros_like(down)
    (d_into, d_down), d_x = jax.lax.scan(block, nothing, (x, expert, pre, cotangent))
    return d_x, d_into, d_down, None


def _over_rows(left: Float[Array, "rows a"], right: Float[Array, "rows b"]) -> Float[Array, "a b"]:
    # A product of left.T copies it the other way round first, with 64 rows of 256 a tenth of the experts' time.
    return jnp.einsum("ra,rb->ab", left, right)


_looped.defvjp(_forward, _backward)
