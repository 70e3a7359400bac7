"""Averaging: an exponential moving average of the parameters, which is evaluated beside the last ones.

Busbridge et al. 2023 (arXiv 2307.13813) keep it equal under another batch, kappa times as large, by decay^kappa.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval

from models.intervention import Intervention, Moment

if TYPE_CHECKING:
    from flax import nnx
    from jaxtyping import Array, Key


@dataclass(frozen=True)
class Average:
    """The fields.

    Attributes:
        decay: the weight of the average so far in each step's average; the new parameters have the rest. The average
            begins at the first parameters.
    """

    decay: Annotated[float, Interval(ge=0, lt=1)] = 0.0


def _begin(fields: Average, state: Any, key: Key[Array, ""]) -> Any:
    return state.params


def _after(
    fields: Average, average: Any, before: nnx.State, params: nnx.State, moment: Moment
) -> tuple[nnx.State, Any]:
    import jax

    return params, jax.tree.map(lambda mean, new: mean + (1 - fields.decay) * (new - mean), average, params)


def _view(fields: Average, average: Any) -> nnx.State:
    return average


AVERAGE = Intervention(
    Average, begin=_begin, after=_after, view=_view, copies=lambda _: 1.0, cost=lambda _: 0.04, late=True
)
