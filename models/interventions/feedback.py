"""Direct feedback alignment: blocks learn from the error at the end of the model, sent to each by a random matrix.

As in Noekland 2016 (arXiv 1609.01596), and for transformers Launay et al. 2020 (arXiv 2006.12878) and the scaling laws
of Filipovich et al. 2022 (arXiv 2210.14593). Inside a block, and from the loss to the output of the last block,
gradients are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from models.intervention import Intervention, Place, Tap

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Key

# The seed of the random matrices, which are the same in all runs of one width and depth.
SEED = 20


@dataclass(frozen=True)
class Feedback:
    """The fields.

    Attributes:
        kind: `backward` is backpropagation; with `direct` the output of each block but the last, and the rows of the
            embedding, get the error at the output of the last block times a matrix of their own.
    """

    kind: Literal["backward", "direct"] = "backward"


def _tap(fields: Feedback, key: Key[Array, ""]) -> Tap:
    import jax

    outputs: list[Any] = []

    def cut(place: Place, activations: Any) -> Any:
        if place in ("embedded", "block_out"):
            outputs.append(activations)
        if place == "block_in":
            return jax.lax.stop_gradient(activations)
        return send_back(activations, tuple(outputs[:-1])) if place == "final" else activations

    return cut


def send_back(last: Float[Array, "n width"], outputs: tuple[Float[Array, "n width"], ...]) -> Float[Array, "n width"]:
    """The last output itself; its gradient goes to it and, times a random matrix for each, to the other outputs."""
    import jax
    import jax.numpy as jnp

    @jax.custom_vjp
    def forward(last: Array, outputs: tuple[Array, ...]) -> Array:
        return last

    def backward(_: None, error: Array) -> tuple[Array, tuple[Array, ...]]:
        width = error.shape[1]
        keys = jax.random.split(jax.random.key(SEED), len(outputs))
        matrices = [jax.random.normal(key, (width, width), jnp.float32) / width**0.5 for key in keys]
        return error, tuple(error @ matrix.astype(error.dtype) for matrix in matrices)

    forward.defvjp(lambda last, outputs: (last, None), backward)
    return forward(last, outputs)


# Late, so that the error goes to the embedding as masking and dropout have left it.
FEEDBACK = Intervention(Feedback, tap=_tap, cost=lambda _: 0.02, late=True)
