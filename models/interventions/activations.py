"""Compressed activations: what the residual stream gives to the matrices of a block has few bits, as with weights.

Gradients pass as if nothing were rounded (the straight-through estimator).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from models.intervention import Intervention, Place, Tap
from models.interventions.quantize import represent

if TYPE_CHECKING:
    from jaxtyping import Array, Key


@dataclass(frozen=True)
class Activations:
    """The fields.

    Attributes:
        format: that of the normalised input of attention and of the feed-forward layer, with a scale for each token.
    """

    format: Literal["none", "int8", "int6", "int4"] = "none"


def _evaluation_tap(fields: Activations) -> Tap:
    import jax

    def compress(place: Place, activations: Any) -> Any:
        if place != "branch_in":
            return activations
        seen = represent(activations.T, fields.format).T
        return activations + jax.lax.stop_gradient(seen - activations)

    return compress


def _tap(fields: Activations, key: Key[Array, ""]) -> Tap:
    return _evaluation_tap(fields)


ACTIVATIONS = Intervention(Activations, tap=_tap, evaluation_tap=_evaluation_tap, cost=lambda _: 0.01)
