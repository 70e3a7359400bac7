"""Feed-forwards for a CPU: experts computed block by block, without copies of their matrices; padded hidden features.

Sizes: E experts; `hidden` is the number of hidden features of one expert.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# If an expert's matrix has at least this many elements, the loop is faster than batched products. A step of top2 on two
# cores took 222 ms in the loop and 333 batched with 4 layers of 128 x 256, and 26.6 and 23.8 with 2 layers of 32 x 64.
LOOPED_FROM = 2**13
# Hidden widths that are multiples of this are padded: rows that begin 2 KiB apart share two sets of the L1 cache.
ALIASED = 512


def looped_feed_forward(
    x: Float[Array, "blocks rows width"],
    up: Float[Array, "E width hidden"],
    down: Float[Array, "E hidden width"],
    gate: Float[Array, "E width hidden"] | None,
    expert: Int[Array, " blocks"],
) -> Float[Array, "blocks rows width"]:
    """`models.ffn.feed_forward` of each block with the matrices of its expert, one block after another."""
    return _looped(x, up if gate is None else jnp.concatenate([up, gate], axis=2), down, expert)


def _activate(pre: Float[Array, "rows both"], hidden: int) -> Float[Array, "rows hidden"]:
    up, gate = pre[:, :hidden], pre[:, hidden:]
    return jax.nn.silu(gate) * up if gate.shape[1] else jax.nn.gelu(up)


@jax.custom_vjp
def _looped(x, into, down, expert):
    # `into` holds up, or up and gate side by side. The gradient is written out so that each expert's sum over its
    # blocks is added up in place; autodiff of the gather would add up transposed copies of the matrices of all blocks.
    return _forward(x, into, down, expert)[0]


def _forward(x, into, down, expert):
    def block(index, outputs):
        y, pre = outputs
        e = expert[index]
        of_block = jnp.matmul(x[index], into[e])
        rows = jnp.matmul(_activate(of_block, down.shape[1]), down[e])
        return y.at[index].set(rows), pre.at[index].set(of_block)

    empty = jnp.zeros(x.shape, x.dtype), jnp.zeros((*x.shape[:2], into.shape[2]), x.dtype)
    y, pre = jax.lax.fori_loop(0, _filled(expert, down), block, empty)
    return y, (x, into, down, expert, pre)


def _filled(expert, down):
    return (expert < down.shape[0]).sum()


def _backward(residuals, cotangent):
    x, into, down, expert, pre = residuals
    # Transposed once for all blocks: products that transpose a factor ran at 34 GFLOP/s on one core, these at 58.
    into_t, down_t = jax.lax.optimization_barrier((into.swapaxes(1, 2), down.swapaxes(1, 2)))

    def block(index, sums):
        d_x, d_into, d_down = sums
        rows, e, d_y = x[index], expert[index], cotangent[index]
        hidden, pullback = jax.vjp(lambda pre: _activate(pre, down.shape[1]), pre[index])
        (d_pre,) = pullback(jnp.matmul(d_y, down_t[e]))
        d_into, d_down = d_into.at[e].add(_sum_over_rows(rows, d_pre)), d_down.at[e].add(_sum_over_rows(hidden, d_y))
        return d_x.at[index].set(jnp.matmul(d_pre, into_t[e])), d_into, d_down

    zeros = jnp.zeros_like(x), jnp.zeros_like(into), jnp.zeros_like(down)
    d_x, d_into, d_down = jax.lax.fori_loop(0, _filled(expert, down), block, zeros)
    return d_x, d_into, d_down, None


def _sum_over_rows(left: Float[Array, "rows a"], right: Float[Array, "rows b"]) -> Float[Array, "a b"]:
    # `left.T @ right` would first copy the transpose, which took a tenth of the experts' time with 64 rows of 256.
    return jnp.einsum("ra,rb->ab", left, right)


_looped.defvjp(_forward, _backward)


def pad_hidden(
    up: Float[Array, "*lead width hidden"],
    down: Float[Array, "*lead hidden width"],
    gate: Float[Array, "*lead width hidden"] | None,
    padding: int,
) -> tuple[Array, Array, Array | None]:
    """Append `padding` zero hidden features to a feed-forward's matrices if `hidden` is a multiple of ALIASED.

    The result of the feed-forward stays the same. The products for its weight gradients ran at 43 to 53 GFLOP/s on one
    core with 512 hidden features, and at 70 to 76 with 528.
    """
    if not padding or up.shape[-1] % ALIASED:
        return up, down, gate
    columns, rows = ([(0, 0)] * (up.ndim - 2) + pair for pair in ([(0, 0), (0, padding)], [(0, padding), (0, 0)]))
    return jnp.pad(up, columns), jnp.pad(down, rows), None if gate is None else jnp.pad(gate, columns)
