"""CompleteP: a parametrisation in which a learning rate found at one size is right at other widths and depths.

Dey et al. 2025 (arXiv 2505.01618), table 1 with alpha = 1, for AdamW: muP (Yang et al. 2022, arXiv 2203.03466) in the
width, and branches of the residual that are divided by the depth. It was chosen over muP because the sizes of a sweep
differ in depth, too, and muP's rates move with the depth. With w = width / base width and d = depth / base depth:

| | variance of the start | in the forward pass | learning rate | epsilon |
|---|---|---|---|---|
| tables (embedding, head) | as usual | logits times 1/w | 1 | 1/w |
| matrices of the blocks | 1/inputs; `out`, `down` over 2 base depths | branches times 1/d | 1/w | 1/(w d) |
| router | base width / width^2 | | 1/w | 1/d |
| norms of the blocks | ones | | 1 | 1/(w d) |
| last norm | ones | | 1 | 1/w |

Scores of attention are divided by head_width / sqrt(base head_width) instead of sqrt(head_width). Weight decay is
multiplied by the run's learning rate, not by the matrix's own, which is table 1's decay times w. The router is an
output matrix, as it has few outputs however wide the model is: its 1/w is in its spread and rate, which for AdamW is
the same. Gradients are clipped by their joint norm as ever. At the base size every factor is 1, and the model is the
standard one to the last bit.
"""

from typing import Any, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from models.config import ModelConfig
from models.weights import is_router, is_table


def times(x: Float[Array, "*any"], factor: float) -> Float[Array, "*any"]:
    """x times a factor; where that is 1, x itself, so that the program is the one without it."""
    return x if factor == 1.0 else x * factor


def initial_depth(config: ModelConfig) -> int:
    """The depth by which the spread of the matrices that write to the residual stream is divided."""
    return config.base.depth if config.base else config.depth


def router_std(config: ModelConfig) -> float:
    """The spread of a router's initial values."""
    return config.width**-0.5 if config.width_ratio == 1.0 else (config.width * config.width_ratio) ** -0.5


class Multipliers(NamedTuple):
    """What a parameter's learning rate and AdamW's epsilon are multiplied by."""

    rate: float
    epsilon: float


def multipliers(config: ModelConfig, params: nnx.State) -> Any:
    """The `Multipliers` of every parameter, as a tree like the parameters; None for the standard parametrisation."""
    if config.base is None:
        return None
    width, depth = config.width_ratio, config.depth_ratio

    def of(path: tuple[Any, ...], leaf: Array) -> Multipliers:
        names = {getattr(part, "key", None) for part in path}
        if is_table(path) or "blocks" not in names:
            return Multipliers(1.0, 1 / width)
        if is_router(path):
            return Multipliers(1 / width, 1 / depth)
        return Multipliers(1.0 if leaf.ndim == 1 else 1 / width, 1 / (width * depth))

    return jax.tree_util.tree_map_with_path(of, params)
