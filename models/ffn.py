"""The feed-forward: dense, or the same over a stack of experts."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.config import Activation
from models.weights import weight

# Rows of so many float32 begin every 2 KiB: the first-level cache has two places for all their beginnings.
ALIASED = 512


def feed_forward(
    x: Float[Array, "*lead rows width"],
    up: Float[Array, "*lead width hidden"],
    down: Float[Array, "*lead hidden width"],
    gate: Float[Array, "*lead width hidden"] | None,
) -> Float[Array, "*lead rows width"]:
    """GELU(x up) down, or, with a gate, (SiLU(x gate) * x up) down (SwiGLU, Shazeer 2020); leading axes are experts."""
    hidden = jnp.matmul(x, up)
    hidden = jax.nn.gelu(hidden) if gate is None else jax.nn.silu(jnp.matmul(x, gate)) * hidden
    return jnp.matmul(hidden, down)


class FeedForward(nnx.Module):
    """One feed-forward, or with `experts` a stack of them along a leading axis.

    Attributes:
        up, gate: [experts, width, hidden] (no leading axis for a single one); gate only for swiglu.
        down: [experts, hidden, width], drawn smaller by sqrt(2 depth) so that the residual's variance stays put.
    """

    def __init__(self, width: int, hidden: int, depth: int, activation: Activation, experts: int | None = None):
        lead = () if experts is None else (experts,)
        self.up = weight(*lead, width, hidden, std=width**-0.5)
        self.down = weight(*lead, hidden, width, std=(2 * depth * hidden) ** -0.5)
        self.gate = weight(*lead, width, hidden, std=width**-0.5) if activation == "swiglu" else None

    def weights(self) -> tuple[Array, Array, Array | None]:
        """(up, down, gate or None), the arrays `feed_forward` takes."""
        return self.up[...], self.down[...], None if self.gate is None else self.gate[...]

    def __call__(self, x: Float[Array, "*lead rows width"], spare: int = 0) -> Float[Array, "*lead rows width"]:
        """Args: spare: see `models.transformer.Compute`."""
        up, down, gate = self.weights()
        if spare and up.shape[-1] % ALIASED == 0:
            up, down = _padded(up, -1, spare), _padded(down, -2, spare)
            gate = None if gate is None else _padded(gate, -1, spare)
        return feed_forward(x, up, down, gate)


def _padded(matrix: Float[Array, "*lead rows columns"], axis: int, spare: int) -> Float[Array, "*lead more columns"]:
    widths = [(0, 0)] * matrix.ndim
    widths[axis] = (0, spare)
    return jnp.pad(matrix, widths)
