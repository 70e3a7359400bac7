"""Freezing: parameters, or a random share of them, are held at their start, as in Hesslow and Poli 2021."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Interval

from models.config import ModelConfig
from models.count import count, parts
from models.intervention import Intervention, Moment

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, Bool, Key

Tensors = Literal["all", "embedding", "attention", "ffn"]


@dataclass(frozen=True)
class Freeze:
    """The fields.

    Attributes:
        share: the share of the numbers of each tensor that never change, drawn at random; 1 freezes it whole.
        tensors: which matrices: all, the vocabulary's tables, or those of attention or of the feed-forward layers with
            their routers. Norm scales are trained.
    """

    share: Annotated[float, Interval(ge=0, le=1)] = 0.0
    tensors: Tensors = "all"


def _begin(fields: Freeze, state: Any, key: Key[Array, ""]) -> Any:
    """Draw which numbers are held: true where they are."""
    import jax

    from models.weights import model_part

    def draw(place: int, path: tuple[Any, ...], leaf: Array) -> Bool[Array, ...]:
        chosen = leaf.ndim > 1 and _is_chosen(fields, model_part(path))
        share = fields.share if chosen else 0.0
        return jax.random.uniform(jax.random.fold_in(key, place), leaf.shape) < share

    leaves, structure = jax.tree_util.tree_flatten_with_path(state.params)
    return jax.tree.unflatten(structure, [draw(place, *each) for place, each in enumerate(leaves)])


def _is_chosen(fields: Freeze, part: str) -> bool:
    """Whether the matrices of this part of the model are held; routers go with the feed-forward layers."""
    return fields.tensors in ("all", "ffn" if part == "router" else part)


def _gradient(fields: Freeze, held: Any, gradient: nnx.State, moment: Moment) -> nnx.State:
    """Leave the held numbers out, also of the norm by which a gradient is scaled down."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda leaf, mask: jnp.where(mask, 0, leaf), gradient, held)


def _after(fields: Freeze, held: Any, before: nnx.State, params: nnx.State, moment: Moment) -> tuple[nnx.State, Any]:
    """Undo what weight decay did to the held numbers."""
    import jax
    import jax.numpy as jnp

    return jax.tree.map(lambda new, old, mask: jnp.where(mask, old, new), params, before, held), held


def _counts(fields: Freeze, model: ModelConfig, steps: int, tokens: int) -> dict[str, float]:
    sizes = parts(model)
    chosen = sum(size for part, size in sizes.items() if part != "norms" and _is_chosen(fields, part))
    return {"N_trainable": count(model).trainable - round(fields.share * chosen)}


FREEZE = Intervention(
    Freeze, begin=_begin, gradient=_gradient, after=_after, counts=_counts,
    copies=lambda _: 0.25, cost=lambda _: 0.01,
)  # fmt: skip
