"""Checks sizes against each other: units that differ by a factor of a thousand or more are seen in their ratios."""

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from harness.fit.problem.fit_status import FitWarning

# Training FLOPs per parameter and token, forward and backward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
FLOPS_PER_PARAMETER_TOKEN = 6.0
# How the one of N and D that a table lacks is computed from training FLOPs and the other.
FROM_FLOPS = {"N": "flops/(6 D)", "D": "flops/(6 N)"}
# The tokens per parameter of a table's middle run. Of eleven public tables the least middle is 0.36 (and 1.9 where D
# is in tokens), the largest 440. A wrong unit moves a middle of 20 to 0.02 or 20,000.
TABLE_RATIOS = (0.1, 1e4)
# The tokens per parameter of one point, and of an optimum: no published optimum is below 1 (Kaplan's is 1.7 at GPT-3).
POINT_RATIOS = (0.01, 1e6)
OPTIMAL_RATIOS = (1.0, 1e4)
# FLOPs against 6 N D of a table's middle run. They differ by up to about 60 where N counts all experts of a mixture, by
# 10 for a large embedding; a wrong unit is a factor of 1000 at least.
FLOPS_RATIOS = (0.01, 100.0)
ROUNDED = 0.01  # a value larger by less than this share is the largest seen one, rounded
MOST_TIMES_LARGER = 100.0  # sizes that are further above the fitted ones than any published extrapolation

Sizes = Mapping[str, Float[np.ndarray, "rows"]]  # any of N, D, U and flops, in raw counts


def doubtful_table(sizes: Sizes, small_data: bool = False) -> Iterator[FitWarning]:
    """Warn of counts below one, and of a middle run whose tokens per parameter or FLOPs are out of proportion.

    Args:
        small_data: whether few tokens per parameter are what the table is about, as for a law of the gap.
    """
    yield from _below_one(sizes)
    if {"N", "D"} <= sizes.keys():
        low, high = TABLE_RATIOS
        yield from _ratio(
            float(np.median(sizes["D"] / sizes["N"])), (0.0 if small_data else low, high), "the middle run"
        )
    if {"N", "D", "flops"} <= sizes.keys():
        ratio = float(np.median(sizes["flops"] / (FLOPS_PER_PARAMETER_TOKEN * sizes["N"] * sizes["D"])))
        if not FLOPS_RATIOS[0] <= ratio <= FLOPS_RATIOS[1]:
            message = f"flops is {ratio:.2g} times 6 N D in the middle run: do flops, N and D count single units?"
            yield FitWarning("flops_not_6nd", message)


def doubtful_points(sizes: Sizes, largest: Mapping[str, float], optimal: bool = False) -> Iterator[FitWarning]:
    """Warn of points whose tokens per parameter are out of proportion, or whose sizes are far above the fitted ones.

    Args:
        largest: the largest fitted value of each size.
        optimal: whether the points are compute-optimal ones, whose proportions are known better.
    """
    yield from _below_one(sizes)
    if {"N", "D"} <= sizes.keys():
        ratios = sizes["D"] / sizes["N"]
        limits = OPTIMAL_RATIOS if optimal else POINT_RATIOS
        for ratio in (float(np.min(ratios)), float(np.max(ratios))):
            yield from _ratio(ratio, limits, "an optimum" if optimal else "a point")
            if np.ptp(ratios) == 0.0:
                break
    for role, known in largest.items():
        top = float(np.max(sizes[role])) if role in sizes else 0.0
        if top > MOST_TIMES_LARGER * known:
            message = f"{role} goes to {top:.3g}, {top / known:.3g} times the largest fitted {role} of {known:.3g}"
            yield FitWarning("far_beyond", message)


def beyond(asked: ArrayLike, largest: float, what: str) -> Iterator[FitWarning]:
    """Say how many times larger than the largest seen value the largest asked one is; nothing if it is not larger."""
    furthest = float(np.max(asked))
    if (times := furthest / largest) > 1.0 + ROUNDED:
        yield FitWarning("extrapolated", f"{furthest:.3g} is {times:.3g} times the largest {what} seen, {largest:.3g}")


def _below_one(sizes: Sizes) -> Iterator[FitWarning]:
    for role in (role for role in ("N", "D", "U", "flops") if role in sizes):
        least = float(np.min(sizes[role]))
        if least < 1.0:
            message = f"{role} is {least:.3g} at its least, and a count is 1 or more: is it in millions or billions?"
            yield FitWarning("count_below_one", message)


def _ratio(ratio: float, limits: tuple[float, float], what: str) -> Iterator[FitWarning]:
    if not limits[0] <= ratio <= limits[1]:
        message = f"{what} has {ratio:.2g} tokens per parameter: are N and D in the same unit?"
        yield FitWarning("tokens_per_parameter", message)
