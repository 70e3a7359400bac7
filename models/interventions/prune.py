"""Gradual magnitude pruning: the smallest weights of every matrix become zero, more of them as training goes on.

The ramp is that of Zhu and Gupta 2017 (arXiv 1710.01878), or linear. With it The Journey Matters (arXiv 2501.12486)
found that the loss follows the number of parameters averaged over training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Interval

from models.config import ModelConfig
from models.count import count, parts
from models.intervention import Intervention, Moment

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, Bool, Float, Int, Key

# Halvings of the range of float32's positive numbers, read as integers, that find a threshold exactly.
BISECTIONS = 31


@dataclass(frozen=True)
class Prune:
    """The fields.

    Attributes:
        sparsity: the share of zeros at the end, in every matrix of attention and of the feed-forward layers. The
            vocabulary's tables, routers and norm scales are not pruned.
        start, end: the shares of the run between which the share of zeros grows from 0.
        ramp: `cubic`, sparsity (1 - (1 - x)^3), or `linear`, with x from 0 to 1 between start and end.
        every: steps from one choice of zeros to the next. Zeros stay zeros.
    """

    sparsity: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    start: Annotated[float, Interval(ge=0, le=1)] = 0.25
    end: Annotated[float, Interval(ge=0, le=1)] = 0.75
    ramp: Literal["cubic", "linear"] = "cubic"
    every: Annotated[int, Ge(1)] = 10

    def __post_init__(self):
        known = isinstance(self.start, float) and isinstance(self.end, float)  # not inside a compiled program
        if known and self.sparsity and self.start > self.end:
            raise ValueError(f"prune_start {self.start:g} must not be after prune_end {self.end:g}")


def is_prunable(path: tuple[Any, ...], leaf: Any) -> bool:
    """Whether the parameter at this path of the tree is pruned."""
    from models.weights import model_part

    return leaf.ndim > 1 and model_part(path) in ("attention", "ffn")


def density(fields: Prune, progress: Any) -> Any:
    """The share of weights that are not zero, at a share of the run."""
    x = ((progress - fields.start) / (fields.end - fields.start + 1e-9)).clip(0, 1)
    return 1 - fields.sparsity * (x if fields.ramp == "linear" else 1 - (1 - x) ** 3)


def _begin(fields: Prune, state: Any, key: Key[Array, ""]) -> Any:
    """Keep all weights: a mask that is true everywhere."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), state.params)


def _gradient(fields: Prune, kept: Any, gradient: nnx.State, moment: Moment) -> nnx.State:
    """Leave zeros out, also of the norm by which a gradient is scaled down."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda leaf, mask: jnp.where(mask, leaf, 0), gradient, kept)


def _after(fields: Prune, kept: Any, before: nnx.State, params: nnx.State, moment: Moment) -> tuple[nnx.State, Any]:
    import jax
    import jax.numpy as jnp

    done = moment.step + 1
    # Also after the last step at which zeros grow, which need not be a multiple of `every`.
    last = jnp.ceil(fields.end * moment.steps.astype(jnp.float32)).astype(jnp.int32)
    due = (done % fields.every == 0) | (done == jnp.clip(last, 1, moment.steps))
    share = density(fields, done.astype(jnp.float32) / moment.steps.astype(jnp.float32))

    def choose(path: tuple[Any, ...], leaf: Array, mask: Bool[Array, ...]) -> Bool[Array, ...]:
        if not is_prunable(path, leaf):
            return mask
        size = jnp.abs(jnp.where(mask, leaf, 0))
        zeros = leaf.size - jnp.round(share * leaf.size).astype(jnp.int32)
        return jnp.where(due, mask & (size > threshold(size, zeros, due)), mask)

    kept = jax.tree_util.tree_map_with_path(choose, params, kept)
    return jax.tree.map(lambda leaf, mask: jnp.where(mask, leaf, 0), params, kept), kept


def threshold(size: Float[Array, "*shape"], zeros: Int[Array, ""], due: Bool[Array, ""]) -> Float[Array, ""]:
    """The smallest number that at least `zeros` of these sizes do not exceed; -1 for none.

    Float32 numbers above zero are in the order of their bits read as integers, so that a bisection finds it exactly.
    Where the choice is not due there are no rounds of it: in a pack none, as long as it is due in no run.
    """
    import jax
    import jax.numpy as jnp

    bits = jax.lax.bitcast_convert_type(size, jnp.int32)

    def halve(_: Any, ends: tuple[Int[Array, ""], Int[Array, ""]]) -> tuple[Int[Array, ""], Int[Array, ""]]:
        low, high = ends  # fewer than `zeros` are at most low, and as many or more at most high
        middle = low + (high - low) // 2
        enough = (bits <= middle).sum(dtype=jnp.int32) >= zeros
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    ends = jnp.int32(-1), jnp.int32(2**31 - 1 - 2**23)  # the bits of the largest number
    _, high = jax.lax.fori_loop(0, jnp.where(due, BISECTIONS, 0), halve, ends)
    return jnp.where(zeros > 0, jax.lax.bitcast_convert_type(high, jnp.float32), jnp.float32(-1))


def _counts(fields: Prune, model: ModelConfig, steps: int, tokens: int) -> dict[str, float]:
    """`N_average` is the mean of the non-embedding parameters that are not zero, over the tokens of the run, and
    `flops_6nd` counts as many. The hardware multiplies by zeros all the same, which `flops` counts.
    """
    if not fields.sparsity:
        return {"N_average": count(model).nonembedding, "flops_6nd": 6 * count(model).active * tokens}
    sizes = parts(model)
    prunable = sizes["attention"] + sizes["ffn"]
    # Step k + 1 is computed with the zeros that were chosen after step k, or before where none were chosen then.
    chosen = np.arange(steps) // fields.every * fields.every
    last = min(max(math.ceil(fields.end * steps), 1), steps)
    chosen = np.where(np.arange(steps) >= last, np.maximum(chosen, last), chosen)
    mean = float(density(fields, chosen / steps).mean())
    counts = count(model)
    visited = prunable - (counts.total - counts.active)  # by a token, of those that are pruned
    return {
        "N_average": counts.nonembedding - prunable * (1 - mean),
        "flops_6nd": 6 * (counts.active - round(visited * (1 - mean))) * tokens,
    }


PRUNE = Intervention(
    Prune, begin=_begin, gradient=_gradient, after=_after, counts=_counts,
    copies=lambda _: 0.25, cost=lambda _: 0.07,
)  # fmt: skip
