"""Checks of a table before a law is fitted to it: constant sizes, duplicated rows, two units of loss."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from harness.fit.problem.centred import Problem
from harness.fit.problem.columns import SIZE_ROLES, levels, numbers_or_nan
from harness.fit.problem.fit_status import FitWarning
from harness.fit.problem.sizes import doubtful_table

# A difference of two log losses at similar sizes that is too large for scatter; that of two units is about log 2.
UNIT_GAP = 0.25
FEWEST_APART = 0.05  # share of neighbours whose log losses must differ by more than UNIT_GAP
NEIGHBOURS = 4  # runs of the nearest sizes that each run is compared with
# No log loss falls faster than this in a log size: Chinchilla's exponents are below 0.4, and the floor flattens it.
STEEPEST = 0.5


def oddities(problem: Problem, frame: pd.DataFrame) -> Iterator[FitWarning]:
    """Warn of sizes out of proportion, of sizes that never vary, of duplicated rows, of losses in two units."""
    fitted, sizes = problem.fitted, problem.sizes
    if "flops" in frame.columns:
        flops = numbers_or_nan(frame, "flops")[fitted]
        sizes |= {"flops": flops} if np.all(np.isfinite(flops) & (flops > 0)) else {}
    yield from doubtful_table(sizes, small_data=problem.law.contrast)
    for role, values in problem.sizes.items():
        if len(levels(values)) == 1:
            value = float(values[0])
            yield FitWarning("one_value", f"{role} is {value:.4g} in every row: nothing can be said of it")
    twice = int(frame.loc[fitted].drop(columns=["holdout", "cluster", "file_row"], errors="ignore").duplicated().sum())
    if twice:
        yield FitWarning("duplicated_rows", f"{twice} rows stand twice in the table: they count twice in the fit")
    if problem.model.objective.log and (split := _two_groups(problem)):
        low, high = split
        yield FitWarning(
            "mixed_units",
            f"at like sizes {problem.law.response} falls into two groups, around {low:.3g} and {high:.3g},"
            " with nothing between: losses per byte beside losses per token?",
        )


def _two_groups(problem: Problem) -> tuple[float, float] | None:
    """The medians of two groups of responses, if neighbours in size often differ, always by about the same factor."""
    fitted = problem.fitted
    response = np.log(problem.response[fitted])
    sizes = [
        np.log(problem.columns[n][fitted]) for n in SIZE_ROLES if n in problem.columns and n not in problem.law.signed
    ]
    if not sizes or len(response) <= NEIGHBOURS:
        return None
    points = np.stack(sizes, axis=1)
    distance, near = (np.asarray(part)[:, 1:] for part in KDTree(points).query(points, NEIGHBOURS + 1, p=1))
    difference = np.abs(response[near] - response[:, None])
    apart = difference - STEEPEST * distance
    far, half = np.mean(apart > UNIT_GAP), np.mean((apart > UNIT_GAP / 2) & (apart <= UNIT_GAP))
    if far < FEWEST_APART or half > far / 4:
        return None
    # Losses in two units differ by a constant factor, so these differences of log losses are nearly equal. If the
    # outliers were diverged runs, the differences would vary widely.
    low, middle, high = np.percentile(difference[apart > UNIT_GAP], [25, 50, 75])
    if high - low > middle / 3:
        return None
    raw = problem.response[fitted] * problem.scales[problem.law.response]
    above = np.median(response[near], axis=1) < response - UNIT_GAP / 2
    below = np.median(response[near], axis=1) > response + UNIT_GAP / 2
    if not above.any() or not below.any():
        return None
    return float(np.median(raw[below])), float(np.median(raw[above]))
