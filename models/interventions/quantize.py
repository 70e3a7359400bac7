"""Training of compressed weights: the forward pass sees weights in a format of few bits, or with few that are not zero.

The gradient is taken there and applied to the weights in float32 (the straight-through estimator). Panferov et al. 2025
(arXiv 2506.01863) predict the loss from how well a format represents Gaussian numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from models.config import ModelConfig
from models.intervention import Intervention
from models.interventions.prune import is_prunable, threshold

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, Float

Format = Literal["none", "int8", "int6", "int4", "int3", "int2", "ternary", "2of4", "sparse50", "sparse75", "sparse90"]

# The distance of neighbouring levels in standard deviations with which 2^bits equal steps, symmetric about 0, represent
# Gaussian numbers with the least mean square error; found by minimising it (tests).
STEPS = {2: 0.9957, 3: 0.5860, 4: 0.3352, 6: 0.1041, 8: 0.0308}
# Of three levels -a, 0, a with the least error: below the threshold a number becomes 0.
TERNARY_LEVEL, TERNARY_THRESHOLD = 1.2240, 0.6120
# The share of zeros of each format that keeps the largest numbers of a matrix.
SPARSITIES = {"sparse50": 0.5, "sparse75": 0.75, "sparse90": 0.9}

# The mean square error with which each format represents standard normal numbers: integrals of the normal density; for
# 2of4 the mean over the two smallest of four.
ERRORS: dict[str, float] = {
    "none": 0.0, "int8": 8.77e-5, "int6": 1.04e-3, "int4": 0.01154, "int3": 0.03744, "int2": 0.1188, "ternary": 0.1902,
    "2of4": 0.1324, "sparse50": 0.0713, "sparse75": 0.2757, "sparse90": 0.5616,
}  # fmt: skip


@dataclass(frozen=True)
class Quantize:
    """The fields.

    Attributes:
        weights: the format of the matrices of attention and of the feed-forward layers: `int8` to `int2` and `ternary`
            have a scale for each column; `2of4` keeps the two largest of every four inputs; `sparse50`, `sparse75` and
            `sparse90` keep the largest weights of a matrix.
    """

    weights: Format = "none"


def _seen(fields: Quantize, own: Any, params: nnx.State) -> nnx.State:
    import jax

    def compress(path: tuple[Any, ...], leaf: Array) -> Array:
        return represent(leaf, fields.weights) if is_prunable(path, leaf) else leaf

    return jax.tree_util.tree_map_with_path(compress, params)


def represent(weights: Float[Array, "*lead inputs outputs"], kind: Format) -> Float[Array, "*lead inputs outputs"]:
    """The weights as a format represents them."""
    import jax.numpy as jnp

    if kind == "none":
        return weights
    if kind in SPARSITIES:
        size = jnp.abs(weights)
        zeros = jnp.int32(round(SPARSITIES[kind] * weights.size))
        return jnp.where(size > threshold(size, zeros, jnp.bool_(True)), weights, 0)
    if kind == "2of4":
        return _two_of_four(weights)
    spread = jnp.sqrt(jnp.square(weights).mean(-2, keepdims=True)) + 1e-12
    unit = weights / spread
    if kind == "ternary":
        return jnp.where(jnp.abs(unit) > TERNARY_THRESHOLD, spread * TERNARY_LEVEL * jnp.sign(unit), 0)
    bits = int(kind.removeprefix("int"))
    step, most = STEPS[bits], 2 ** (bits - 1) - 1
    levels = spread * step * (jnp.clip(jnp.floor(unit / step), -most - 1, most) + 0.5)
    return jnp.where(weights == 0, 0, levels)  # what was pruned stays so, although no level is 0


def _two_of_four(weights: Float[Array, "*lead inputs outputs"]) -> Float[Array, "*lead inputs outputs"]:
    """The two largest of every four consecutive inputs; inputs that are left over stay."""
    import jax.numpy as jnp

    inputs = weights.shape[-2]
    whole = inputs - inputs % 4
    blocks = weights[..., :whole, :].reshape(*weights.shape[:-2], whole // 4, 4, weights.shape[-1])
    size = jnp.abs(blocks)
    # How many of the block are larger; of equal ones the first counts as larger.
    places = jnp.arange(4)
    first = jnp.expand_dims(places[:, None] < places[None, :], (*range(weights.ndim - 1), weights.ndim + 1))
    one, other = size[..., :, None, :], size[..., None, :, :]
    larger = (one > other) | ((one == other) & first)
    kept = jnp.where(larger.sum(-3) < 2, blocks, 0)
    return jnp.concatenate([kept.reshape(*weights.shape[:-2], whole, -1), weights[..., whole:, :]], -2)


def _counts(fields: Quantize, model: ModelConfig, steps: int, tokens: int) -> dict[str, float]:
    """`weight_error` is the mean square error with which the format represents standard normal numbers."""
    return {"weight_error": ERRORS[fields.weights]}


def _cost(fields: Quantize) -> float:
    """Unstructured zeros need the size below which a weight is one; steps of integers need a maximum only."""
    return 0.2 if fields.weights.startswith("sparse") else 0.07 if fields.weights == "2of4" else 0.01


QUANTIZE = Intervention(Quantize, seen=_seen, counts=_counts, cost=_cost)
