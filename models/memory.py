"""What lets a layer compute some positions of a sequence without the others: the part of decoding that layers see."""

from typing import Protocol

from jaxtyping import Array, Float

from models.compute import AttentionMethod
from models.routers import Choice


class Memory(Protocol):
    """Stands in for the whole window where one position depends on another; `models.decode` has two of them."""

    def attend(
        self,
        q: Float[Array, "BH T head"],
        k: Float[Array, "BH T head"],
        v: Float[Array, "BH T head"],
        rope_base: float,
        method: AttentionMethod,
    ) -> Float[Array, "BH T head"]:
        """Causal attention of queries that are not turned by their positions yet, nor are the keys."""
        ...

    def choose_by_expert(self, probability: Float[Array, "n experts"], k: int, batch: int) -> Choice:
        """What `models.routers.choose_by_expert` gives for these rows."""
        ...
