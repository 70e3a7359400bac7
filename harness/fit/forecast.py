"""Predictions of a fit at new points, with intervals from its confidence set."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from harness.fit.laws.law import bind, stacked
from harness.fit.laws.registry import get_law
from harness.fit.problem.columns import SIZE_ROLES, column_of, read_columns
from harness.fit.problem.fit_status import FitWarning
from harness.fit.problem.objective import objective_named
from harness.fit.problem.program import float64
from harness.fit.problem.sizes import beyond, doubtful_points
from harness.fit.referee.extrapolation import scale_name, scale_of
from harness.fit.results.result import FitResult
from harness.fit.results.shown import (
    NOT_DETERMINED,
    Showable,
    Shown,
    TextTable,
    is_determined,
    spans_table,
    warning_lines,
)
from sweeps.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Predictions(Showable):
    """A fitted law at new points.

    Attributes:
        law, formula, response: those of the fit; a response L or G is in nats per token.
        columns: the roles that the law reads.
        table: the points with the columns that `predict` adds.
        warnings: of points whose sizes are doubtful.
    """

    law: str
    formula: str
    response: str
    columns: tuple[str, ...]
    table: pd.DataFrame
    warnings: tuple[FitWarning, ...]

    def shown(self) -> list[Shown]:
        """The points and the predictions, each with its interval."""
        return [predictions_table(f"{self.law}: {self.formula}", self.table), *warning_lines(self.warnings)]

    def figure(self) -> "go.Figure":
        """Draw the predictions against the column that varies most, with the intervals of the law and of a new run."""
        import plotly.graph_objects as go

        points = self.table
        values = {name: points[name].to_numpy(float) for name in self.columns if name in points.columns}
        spread = {name: v.max() / v.min() for name, v in values.items() if (v > 0).all()}
        across = max(spread, key=lambda name: spread[name], default=None)
        x = points.index if across is None else points[across]
        figure = go.Figure()
        for name, low, high in (("a new run", "run_low", "run_high"), ("the law", "low", "high")):
            limits = {"array": points[high] - points["prediction"], "arrayminus": points["prediction"] - points[low]}
            figure.add_scatter(x=x, y=points["prediction"], error_y=limits, mode="markers", name=f"95 % of {name}")
        figure.update_xaxes(type="linear" if across is None else "log", title=across or "point")
        return figure.update_yaxes(title=self.response)


def estimates(result: FitResult) -> dict[str, float]:
    """The estimate of every parameter; nan for one that has no finite value."""
    return {name: np.nan if value.estimate is None else value.estimate for name, value in result.parameters.items()}


def predictions_table(title: str, points: pd.DataFrame) -> TextTable:
    """The table that `predict` returns, each prediction with its 95 % intervals for the law and for a new run.

    A prediction whose interval spans more than a factor of `UNDETERMINED` is written as not determined.
    """
    limits = {"low": "prediction_low", "high": "prediction_high", "run_low": "new run_low", "run_high": "new run_high"}
    drawn = not np.isnan(points["run_low"].to_numpy(float)).all()
    told = [
        value if is_determined(low, high) else NOT_DETERMINED
        for value, low, high in points[["prediction", "low", "high"]].itertuples(index=False)
    ]
    table = points.assign(**{"prediction": told, "new run": told})
    if not drawn:
        table = table.drop(columns=["new run", "run_low", "run_high"])
    return spans_table(title, table.rename(columns=limits))


def predict(result: FitResult, points: pd.DataFrame, *, source: str = "points") -> pd.DataFrame:
    """Predict the response at new points, in the unit of the fitted one (nats per token for L and G).

    Beyond the largest fitted run both intervals carry the error by which fits to the smaller runs missed the larger
    ones (`referee.extrapolation`), in proportion to the distance in log scale.

    Args:
        points: the law's columns by role, raw counts.

    Returns:
        the points with `prediction`; `low`, `high`: the 95 % interval of the law (profile likelihood; nan without a
        confidence set); `run_low`, `run_high`: a 95 % prediction interval for one new run, to which the scatter of the
        fitted runs is added (but not its measurement error, which is unknown); `beyond`: the scale of the point divided
        by the largest fitted one, nan where the fit does not know it.

    Raises:
        InputError: a column of the law is missing or unusable.
    """
    law = get_law(result.law)
    center = at_points(result, points, {name: [value] for name, value in estimates(result).items()}, source)[0]
    times = np.full(len(points), np.nan)
    if result.extrapolation is not None:
        times = scale_of(law, read_columns(law, points, source)[0]) / result.extrapolation.largest
    table = points.assign(prediction=center, low=np.nan, high=np.nan, run_low=np.nan, run_high=np.nan, beyond=times)
    if not result.confidence_set:
        return table
    values = at_points(result, points, result.confidence_set, source)
    values = np.where(np.isfinite(values), values, center)
    objective = objective_named(result.objective.name)
    spare = max(result.rows - result.degrees, 1)
    student = float(stdtrit(spare, 0.975))
    scatter = student * objective.run_scatter(result.scatter, np.sqrt(result.rows / spare))
    excess = np.zeros(len(points))
    if result.extrapolation is not None:
        distance = np.log(np.maximum(times, 1.0)) / max(np.log(result.extrapolation.reach), 1e-9)
        excess = student * result.extrapolation.excess * distance
    for name, error in (("", excess), ("run_", np.hypot(excess, scatter))):
        if objective.log:
            low, high = np.log(center / values.min(axis=0)), np.log(values.max(axis=0) / center)
            table[f"{name}low"], table[f"{name}high"] = (
                center * np.exp(-np.hypot(low, error)),
                center * np.exp(np.hypot(high, error)),
            )
        else:
            error = error * np.abs(center) if objective.relative else error
            table[f"{name}low"] = center - np.hypot(center - values.min(axis=0), error)
            table[f"{name}high"] = center + np.hypot(values.max(axis=0) - center, error)
    return table


def doubts(result: FitResult, points: pd.DataFrame, source: str = "points") -> tuple[FitWarning, ...]:
    """Warnings of points with sizes out of proportion, or far above the fitted ones.

    Raises InputError if a size that the law reads is missing or unusable.
    """
    law = get_law(result.law)
    sizes = {
        role: column_of(points, role, source) for role in SIZE_ROLES if role in law.columns and role not in law.signed
    }
    warnings = list(doubtful_points(sizes, result.largest))
    if result.extrapolation is not None:
        scale = scale_of(law, read_columns(law, points, source)[0])
        warnings += beyond(scale, result.extrapolation.largest, scale_name(law))
    return tuple(warnings)


def at_points(
    result: FitResult, points: pd.DataFrame, values: Mapping[str, ArrayLike], source: str = "points"
) -> Float[np.ndarray, "draws points"]:
    """The fitted law at new points, for several values of its parameters (name -> one value per draw).

    Raises InputError if a column of the law is missing or unusable.
    """
    law = get_law(result.law)
    columns, names = read_columns(law, points, source)
    parameters = bind(law, names).parameters
    missing = [p.name for p in parameters if p.name not in result.parameters]
    if missing:
        raise InputError(source, "columns", ", ".join(missing), f"those of the fit: {', '.join(result.parameters)}")

    def of(draw) -> jax.Array:
        return law.predict(stacked(parameters, draw), columns) + jnp.zeros(len(points))

    with float64():
        return np.asarray(jax.vmap(of)({name: jnp.asarray(values[name]) for name in (p.name for p in parameters)}))
