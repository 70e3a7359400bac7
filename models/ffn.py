"""The feed-forward layer: a dense one, or a stack of experts."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from models.compute import ExpertsMethod
from models.config import Activation
from models.cpu.feed_forward import LOOPED_FROM, looped_feed_forward, pad_hidden
from models.weights import weight


def feed_forward(
    x: Float[Array, "*lead rows width"],
    up: Float[Array, "*lead width hidden"],
    down: Float[Array, "*lead hidden width"],
    gate: Float[Array, "*lead width hidden"] | None,
) -> Float[Array, "*lead rows width"]:
    """The output of a feed-forward; leading axes are batched.

    It is GELU(x up) down, or with a gate (SiLU(x gate) * x up) down (SwiGLU, Shazeer 2020).
    """
    hidden = jnp.matmul(x, up)
    hidden = jax.nn.gelu(hidden) if gate is None else jax.nn.silu(jnp.matmul(x, gate)) * hidden
    return jnp.matmul(hidden, down)


def expert_feed_forward(
    x: Float[Array, "blocks rows width"],
    weights: tuple[
        Float[Array, "E width hidden"], Float[Array, "E hidden width"], Float[Array, "E width hidden"] | None
    ],
    expert: Int[Array, " blocks"],
    method: ExpertsMethod,
) -> Float[Array, "blocks rows width"]:
    """`feed_forward` of each block of rows, with the matrices (up, down, gate) of the block's expert.

    Batched products copy an expert's matrices for each of its blocks; the loop copies nothing. Both agree up to
    rounding.
    """
    up, down, gate = weights
    if uses_loop(up, method):
        return looped_feed_forward(x, up, down, gate, expert)
    expert = expert.clip(0, up.shape[0] - 1)
    return feed_forward(x, up[expert], down[expert], None if gate is None else gate[expert])


def uses_loop(up: Float[Array, "E width hidden"], method: ExpertsMethod) -> bool:
    """Whether `expert_feed_forward` takes the blocks one by one: if the method is `looped` and matrices are large."""
    return method == "looped" and up.shape[1] * up.shape[2] >= LOOPED_FROM


class FeedForward(nnx.Module):
    """One feed-forward, or with `experts` a stack of them along a leading axis.

    Attributes:
        up, gate: matrices [experts, width, hidden], for a single feed-forward [width, hidden]; gate only for swiglu.
        down: matrix [experts, hidden, width], whose initial values are divided by sqrt(2 depth) so that the variance of
            the residual stream does not grow with the depth.
    """

    def __init__(self, width: int, hidden: int, depth: int, activation: Activation, experts: int | None = None):
        lead = () if experts is None else (experts,)
        self.up = weight(*lead, width, hidden, std=width**-0.5)
        self.down = weight(*lead, hidden, width, std=(2 * depth * hidden) ** -0.5)
        self.gate = weight(*lead, width, hidden, std=width**-0.5) if activation == "swiglu" else None

    def weights(self) -> tuple[Array, Array, Array | None]:
        """(up, down, gate or None), the arrays that `feed_forward` takes."""
        return self.up[...], self.down[...], None if self.gate is None else self.gate[...]

    def __call__(self, x: Float[Array, "*lead rows width"], padding: int = 0) -> Float[Array, "*lead rows width"]:
        """`feed_forward` of x; for `padding` see `models.compute.Compute`."""
        return feed_forward(x, *pad_hidden(*self.weights(), padding))
