"""Do the learning curves of two recipes cross, where, and how sure is that?

Each recipe's curve is fitted on its own, and rows are resampled within a recipe, so that no draw loses one. Where the
runs of both are paired, by text and seed, pairs are resampled: what the errors of a pair have in common is no error of
their difference. A flip of ranks is claimed only where the 95 % interval of the difference excludes zero at both ends
of the compute that both recipes were run at, with opposite signs; a crossing of best fits alone shows none.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from harness.fit.certainty.intervals import percentiles
from harness.fit.fitting import fit
from harness.fit.forecast import at_points, estimates
from harness.fit.laws.registry import get_law
from harness.fit.results.result import FitResult
from harness.fit.results.shown import Showable
from sweeps.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go

_POINTS = 400


@dataclass(frozen=True)
class Crossover(Showable):
    """Two fitted curves of loss against compute.

    Attributes:
        recipes: the names of the recipes; a difference is the first recipe's loss minus the second's.
        fits: the fit of each recipe.
        shared: the least and the most compute at which both were run.
        flops: where the best fits cross: the last crossing within `shared`, else the first beyond; None if they do not.
        interval: 95 % of the crossings of those draws that cross; None if fewer than half do.
        crosses_within: the share of draws that cross within `shared`.
        crosses: the share of draws that cross between `shared[0]` and `reach` times `shared[1]`.
        flips: whether the difference is beyond doubt, with opposite signs, at the two ends of `shared`.
    """

    recipes: tuple[str, str]
    fits: tuple[FitResult, FitResult]
    shared: tuple[float, float]
    flops: float | None
    interval: tuple[float, float] | None
    crosses_within: float
    crosses: float
    flips: bool

    def differences(self, flops: ArrayLike) -> Float[np.ndarray, "draws points"]:
        """Loss of the first recipe minus that of the second, one row per bootstrap draw."""
        first, second = (_curves(result, np.atleast_1d(np.asarray(flops, float)))[1] for result in self.fits)
        return first - second

    def log_ratio(self, flops: ArrayLike) -> Float[np.ndarray, "draws points"]:
        """Log loss of the first recipe less that of the second: of the best fits, then one row per bootstrap draw."""
        curves = (_curves(result, np.atleast_1d(np.asarray(flops, float))) for result in self.fits)
        first, second = (np.vstack([np.atleast_2d(best), draws]) for best, draws in curves)
        return np.log(first / second)

    def first_wins(self, flops: ArrayLike) -> Float[np.ndarray, "points"]:
        """Share of draws in which the first recipe has the lower loss."""
        return np.mean(self.differences(flops) < 0.0, axis=0)

    def shown(self) -> list[str]:
        """Where the curves cross, and whether the order flips, in a sentence."""
        first, second = self.recipes
        place = "do not cross" if self.flops is None else f"cross at {self.flops:.3g} FLOPs"
        span = "" if self.interval is None else f" (95 %: {self.interval[0]:.3g} to {self.interval[1]:.3g})"
        ranks = "flips beyond doubt" if self.flips else "is not shown to flip"
        return [
            f"The curves of {first} and {second} {place}{span}; the order {ranks} between {self.shared[0]:.3g} and"
            f" {self.shared[1]:.3g} FLOPs."
        ]

    def figure(self) -> "go.Figure":
        """Draw the difference of the two losses against compute, with its 95 % band."""
        import plotly.graph_objects as go

        flops = np.geomspace(*self.shared, 100)
        differences = self.differences(flops)
        (low, high), middle = percentiles(differences), np.median(differences, axis=0)
        figure = go.Figure(go.Scatter(x=flops, y=low, line={"width": 0}, showlegend=False))
        figure.add_scatter(x=flops, y=high, fill="tonexty", line={"width": 0}, name="95 %")
        figure.add_scatter(x=flops, y=middle, name=f"{self.recipes[0]} - {self.recipes[1]}")
        figure.add_hline(y=0.0)
        return figure.update_xaxes(type="log", title="FLOPs").update_yaxes(
            title="difference of losses (nats per token)"
        )


def _curves(result: FitResult, flops: Float[np.ndarray, "points"]):
    """The fitted curve, and one row per bootstrap draw."""
    points = pd.DataFrame({"flops": flops})
    return at_points(result, points, {k: [v] for k, v in estimates(result).items()})[0], at_points(
        result, points, result.draws
    )


def crossing(flops: Float[np.ndarray, "points"], difference: Float[np.ndarray, "points"], most: float) -> float | None:
    """Where a difference changes its sign, between points of a grid: the last place up to `most`, or the first beyond.

    Two floors that differ only by their errors make curves meet again far outside the data; that is not the crossing.
    """
    changes = np.flatnonzero(np.sign(difference[1:]) * np.sign(difference[:-1]) < 0)
    if not len(changes):
        return None
    within = changes[flops[changes + 1] <= most]
    i = within[-1] if len(within) else changes[0]
    share = difference[i] / (difference[i] - difference[i + 1])
    return float(flops[i] ** (1.0 - share) * flops[i + 1] ** share)


def find_crossover(
    frame: pd.DataFrame,
    *,
    law: str = "compute_power",
    objective: str | None = None,
    bootstrap: int = 200,
    seed: int = 0,
    reach: float = 10.0,
) -> Crossover:
    """Fit two recipes and find where their curves cross.

    Args:
        frame: columns `flops`, `L` and `group`, which names two recipes; optional `cluster`, rows to resample together.
            If both recipes have the same clusters, such as pairs of runs with the same text and seed, both are
            resampled in each draw.
        law: a law of compute alone: `compute_power`, `frontier` or `henighan_c`.
        objective: the id of an objective, in place of the law's own.
        bootstrap: number of draws for each recipe, at least 1.
        reach: how many times beyond the largest shared compute a crossing is looked for.

    Raises:
        InputError: not exactly two groups, no shared range of compute, no draws, or unusable columns.
    """
    if get_law(law).columns != ("flops",):
        raise InputError("crossover", "law", law, "a law of flops alone: compute_power, frontier, henighan_c")
    if bootstrap < 1:
        raise InputError("crossover", "bootstrap", bootstrap, "at least 1 draw")
    names = sorted(frame["group"].astype(str).unique()) if "group" in frame.columns else []
    if len(names) != 2:
        raise InputError("crossover", "group", ", ".join(names) or "none", "a column that names two recipes")
    tables = [frame.loc[frame["group"].astype(str) == name] for name in names]
    low = max(float(table["flops"].min()) for table in tables)
    high = min(float(table["flops"].max()) for table in tables)
    if not 0.0 < low < high:
        raise InputError("crossover", "flops", (low, high), "recipes whose ranges of compute overlap")
    own, other = (set(table["cluster"]) if "cluster" in table.columns else None for table in tables)
    # One seed draws the same clusters, since it draws from their sorted names.
    seeds = (seed, seed if own is not None and own == other else seed + 1)
    first, second = (
        fit(law, table, objective=objective, bootstrap=bootstrap, seed=each, sensitivity=False, source=name)
        for each, table, name in zip(seeds, tables, names, strict=True)
    )
    grid = np.geomspace(low, reach * high, _POINTS)
    (center1, draws1), (center2, draws2) = _curves(first, grid), _curves(second, grid)
    of_draws = [crossing(grid, difference, high) for difference in draws1 - draws2]
    places = np.array([place for place in of_draws if place is not None])
    ends = _curves(first, np.array([low, high]))[1] - _curves(second, np.array([low, high]))[1]
    lower, upper = percentiles(ends)
    interval = percentiles(places) if 2 * len(places) >= len(of_draws) else None
    sign = np.where(lower > 0.0, 1, np.where(upper < 0.0, -1, 0))
    return Crossover(
        recipes=(names[0], names[1]),
        fits=(first, second),
        shared=(low, high),
        flops=crossing(grid, center1 - center2, high),
        interval=None if interval is None else (float(interval[0]), float(interval[1])),
        crosses_within=float(np.sum(places <= high) / len(of_draws)),
        crosses=len(places) / len(of_draws),
        flips=bool(sign[0] * sign[1] < 0),
    )
