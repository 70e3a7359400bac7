"""What is odd about a table before any law is fitted to it."""

import itertools

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.fit.problem import Problem, Warned

SIZES = ("N", "D", "U", "flops")
# Bits per byte and nats per token differ by a factor of two and more: a quarter in logs is far beyond any scatter.
UNIT_GAP = 0.25
CLEAR = 2.0
FEWEST_SHARE = 0.05
MANY_ROWS = 30


def oddities(problem: Problem, frame: pd.DataFrame) -> tuple[Warned, ...]:
    """Sizes that never vary, rows that stand twice, and losses that look like two units."""
    fitted, found = problem.fitted, []
    for role in (name for name in SIZES if name in problem.columns):
        if np.ptp(problem.columns[role][fitted]) == 0.0:
            value = float(problem.raw_columns[role][0])
            found.append(Warned("one_value", f"{role} is {value:.4g} in every row: nothing can be said of it"))
    twice = int(frame.loc[fitted].drop(columns=["holdout", "cluster"], errors="ignore").duplicated().sum())
    if twice:
        found.append(Warned("duplicated_rows", f"{twice} rows stand twice in the table: they count twice in the fit"))
    if problem.model.objective.log and (split := _two_groups(problem)):
        low, high = split
        found.append(
            Warned(
                "mixed_units",
                f"at like sizes {problem.law.response} falls into two groups, around {low:.3g} and {high:.3g},"
                " with nothing between: losses per byte beside losses per token?",
            )
        )
    return tuple(found)


def _two_groups(problem: Problem) -> tuple[float, float] | None:
    """Medians of two groups of responses that remain apart when a parabola in the log sizes is taken out; None if one."""
    fitted = problem.fitted
    response = np.log(problem.response[fitted])
    sizes = [np.log(problem.columns[n][fitted]) for n in SIZES if n in problem.columns]
    squares = [a * b for a, b in itertools.combinations_with_replacement(sizes, 2)] if len(response) > MANY_ROWS else []
    design = np.stack([np.ones(len(response)), *sizes, *squares], axis=1)
    above = _sorted_gap(response - design @ np.linalg.lstsq(design, response, rcond=None)[0])
    if above is None:
        return None
    raw = problem.response[fitted] * problem.scales[problem.law.response]
    return float(np.median(raw[~above])), float(np.median(raw[above]))


def _sorted_gap(values: Float[np.ndarray, "rows"]) -> np.ndarray | None:
    """Which values lie above the widest gap, if it is wide enough to part two groups."""
    order = np.sort(values)
    gaps = np.diff(order)
    few = max(int(FEWEST_SHARE * len(values)), 2)
    if len(values) < 2 * few + 1:
        return None
    inner = gaps[few - 1 : len(gaps) - few + 1]
    at = few - 1 + int(np.argmax(inner))
    low, high = order[: at + 1], order[at + 1 :]
    if gaps[at] < UNIT_GAP or gaps[at] < CLEAR * max(np.std(low), np.std(high)):
        return None
    return values > order[at]
