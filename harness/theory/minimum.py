"""The least point of many functions of one variable at once."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

GOLDEN = (np.sqrt(5.0) - 1.0) / 2.0
# Of the two intervals about the least place of the grid, 40 golden sections leave 4e-9.
SECTIONS = 40


def argmin(
    function: Callable[[Float[np.ndarray, "*rows"]], Float[np.ndarray, "*rows"]],
    low: Float[np.ndarray, "*rows"],
    high: Float[np.ndarray, "*rows"],
    places: int,
) -> Float[np.ndarray, "*rows"]:
    """Where each row of the function is least between its ends: on a grid of `places`, and by golden section about it.

    Values may be infinite. A row must have one least point between neighbours of the grid.
    """
    shares = np.linspace(0.0, 1.0, places)
    best = np.argmin([function(low + share * (high - low)) for share in shares], axis=0)
    left, right = (low + shares[np.clip(best + side, 0, places - 1)] * (high - low) for side in (-1, 1))
    for _ in range(SECTIONS):
        first, second = right - GOLDEN * (right - left), left + GOLDEN * (right - left)
        less = function(first) < function(second)
        left, right = np.where(less, left, first), np.where(less, second, right)
    return (left + right) / 2.0
