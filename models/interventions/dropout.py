"""Dropout: in training a random share of what is added to the residual stream is zero (Srivastava et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval

from models.intervention import Intervention, Place, Tap

if TYPE_CHECKING:
    from jaxtyping import Array, Key


@dataclass(frozen=True)
class Dropout:
    """The fields.

    Attributes:
        rate: the share of zeros among the rows of the embedding and the outputs of each block's branches; the others
            are divided by 1 - rate.
    """

    rate: Annotated[float, Interval(ge=0, lt=1)] = 0.0


def _tap(fields: Dropout, key: Key[Array, ""]) -> Tap:
    import jax
    import jax.numpy as jnp

    places = 0

    def drop(place: Place, activations: Any) -> Any:
        nonlocal places
        if place not in ("embedded", "branch_out"):
            return activations
        places += 1
        kept = jax.random.uniform(jax.random.fold_in(key, places), activations.shape) >= fields.rate
        return jnp.where(kept, activations / jnp.asarray(1 - fields.rate, activations.dtype), 0)

    return drop


DROPOUT = Intervention(Dropout, tap=_tap, cost=lambda _: 0.13)
