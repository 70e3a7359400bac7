"""Token masking: in training a random share of the input tokens is hidden, while all tokens are predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval

from models.intervention import Intervention, Place, Tap

if TYPE_CHECKING:
    from jaxtyping import Array, Key


@dataclass(frozen=True)
class Masking:
    """The fields.

    Attributes:
        rate: the share of input tokens whose row of the embedding is replaced by zeros.
    """

    rate: Annotated[float, Interval(ge=0, lt=1)] = 0.0


def _tap(fields: Masking, key: Key[Array, ""]) -> Tap:
    import jax
    import jax.numpy as jnp

    def mask(place: Place, activations: Any) -> Any:
        if place != "embedded":
            return activations
        shown = jax.random.uniform(key, (activations.shape[0], 1)) >= fields.rate
        return jnp.where(shown, activations, 0)

    return mask


MASKING = Intervention(Masking, tap=_tap, cost=lambda _: 0.06)
