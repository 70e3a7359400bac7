"""What the figures of a fit draw: every row beside its prediction, and the law along the column that varies most."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from harness.fit.forecast import predict
from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.fit.problem.columns import column_of, vector_columns
from harness.fit.problem.objective import objective_named
from harness.fit.referee.scores import row_numbers
from harness.fit.results.result import FitResult
from sweeps.complaints import shorten

# A page of a million rows could not be opened: so many are drawn, those farthest from the law among them.
MOST_DRAWN = 3000
# A curve for each value of a column that has no more; else one at each quarter of its rows.
MOST_LINES = 8
MEANINGS = {
    "N": "parameters", "D": "tokens", "U": "unique tokens", "flops": "training FLOPs", "L": "loss", "G": "gap",
    "L_train": "training loss", "B": "batch", "lr": "learning rate", "epochs": "passes over the text",
}  # fmt: skip


@dataclass(frozen=True)
class FittedRows:
    """The rows of a table beside the predictions of a fit.

    Attributes:
        columns: the columns of numbers that the law reads, by role, the widest range first; of a role of several
            columns each as `role[column]`.
        titles: what a figure calls each of these roles, and the response.
        response: the role of the response.
        observed, predicted: the response and the fitted law, in the unit of the table.
        residual: the response less the law, in standard deviations.
        deviation: what a standard deviation is, in words.
        held_out: which rows were not fitted.
        names: what each row is called.
    """

    columns: Mapping[str, Float[np.ndarray, "rows"]]
    titles: Mapping[str, str]
    response: str
    observed: Float[np.ndarray, "rows"]
    predicted: Float[np.ndarray, "rows"]
    residual: Float[np.ndarray, "rows"]
    deviation: str
    held_out: Bool[np.ndarray, "rows"]
    names: np.ndarray

    def take(self, rows: np.ndarray) -> "FittedRows":
        """The rows of this mask, or at these positions."""
        parts = ("observed", "predicted", "residual", "held_out", "names")
        columns = {role: values[rows] for role, values in self.columns.items()}
        return replace(self, columns=columns, **{part: getattr(self, part)[rows] for part in parts})

    @property
    def coloured_by(self) -> str | None:
        """The role whose values are the colours of the rows: the second of the columns, if it is above zero."""
        return next((role for role in list(self.columns)[1:2] if self.columns[role].min() > 0), None)

    def drawn(self) -> "FittedRows":
        """The rows that are drawn: all; or of a large table those farthest from the law, and others at equal steps."""
        if len(self.observed) <= MOST_DRAWN:
            return self
        far = np.argsort(-np.abs(self.residual))[: MOST_DRAWN // 10]
        even = np.linspace(0, len(self.observed) - 1, MOST_DRAWN - len(far)).astype(int)
        return self.take(np.unique(np.concatenate([far, even])))


@dataclass(frozen=True)
class LawCurve:
    """The fitted law along a column, at one value of the other.

    Attributes:
        at: the value of the other column; None where the law reads one column only.
        x, y: the column and the law.
        low, high: the 95 % interval of the law; nan where there is none.
    """

    at: float | None
    x: Float[np.ndarray, "points"]
    y: Float[np.ndarray, "points"]
    low: Float[np.ndarray, "points"]
    high: Float[np.ndarray, "points"]


def fitted_rows(result: FitResult, frame: pd.DataFrame) -> FittedRows | None:
    """Predict the rows that a law was fitted to; None where the fit has no finite prediction.

    Args:
        frame: the table in roles (`harness.source.read_runs`).
    """
    law = get_law(result.law)
    observed = column_of(frame, law.response, result.source, signed=True)
    predicted = predict(replace(result, draws={}), frame, source=result.source)["prediction"].to_numpy(float)
    if not np.isfinite(predicted).all():
        return None
    residual, deviation = _residuals(result, law, frame, observed, predicted)
    members = [column for role in law.vectors for column in vector_columns(frame, role).values()]
    columns = {role: frame[role].to_numpy(float) for role in (*law.columns, *members)}
    roles = frame.attrs.get("roles", {})
    return FittedRows(
        columns=dict(sorted(columns.items(), key=lambda item: -_range(item[1]))),
        titles={role: _title(role, str(roles.get(role, role))) for role in (*columns, law.response)},
        response=law.response,
        observed=observed,
        predicted=predicted,
        residual=residual,
        deviation=deviation,
        held_out=frame["holdout"].to_numpy(bool) if "holdout" in frame.columns else np.zeros(len(frame), bool),
        names=_names(frame),
    )


def _range(values: Float[np.ndarray, "rows"]) -> float:
    """The range of a column in decades; below zero if it is not one of positive numbers."""
    return float(np.log10(values.max() / values.min())) if values.min() > 0 else -1.0


def _title(role: str, column: str) -> str:
    meaning = f"{role}, {MEANINGS[role]}" if role in MEANINGS else role
    return meaning if column in role or meaning.endswith(column) else f"{meaning} ({column})"


def _residuals(
    result: FitResult, law: Law, frame: pd.DataFrame, observed: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, str]:
    """The residuals in standard deviations, and what one is."""
    objective, scatter = objective_named(result.objective.name), result.scatter
    residual = -objective.residuals(predicted, observed)
    if objective.variance is not None:
        errors = f"{law.response}_se"
        known = np.nan_to_num(frame[errors].to_numpy(float)) if errors in frame.columns else np.zeros(len(frame))
        spread = np.hypot(known, (scatter.tau or 0.0) * predicted)
        deviation = f"the measured error of the row and the scatter tau = {scatter.tau or 0:.3g} of the prediction"
    elif objective.log:
        spread, deviation = scatter.log_residual_sd, f"{scatter.log_residual_sd:.3g} in the logarithm"
    else:
        spread, deviation = scatter.residual_sd, f"{scatter.residual_sd:.3g} in the unit of {law.response}"
    return residual / np.maximum(spread, 1e-300), deviation


def _names(frame: pd.DataFrame) -> np.ndarray:
    """The number of each row in its file, behind the cell that names it: the run, or a text that no other row has."""
    labels = [
        column
        for name, column in frame.items()
        if name == "run" or (not pd.api.types.is_numeric_dtype(column) and column.nunique() == len(frame))
    ]
    rows = [f"row {number}" for number in row_numbers(frame)]
    if labels:
        rows = [f"{shorten(str(cell))}, {row}" for cell, row in zip(labels[0], rows, strict=True)]
    return np.asarray(rows, object)


def law_curves(result: FitResult, rows: FittedRows, points: int = 80) -> tuple[LawCurve, ...]:
    """The law along the column with the widest range, at a few values of the other; none if it reads more than two.

    Args:
        points: how many points a curve has.
    """
    law = get_law(result.law)
    if law.vectors or law.labels or law.derive or not 1 <= len(rows.columns) <= 2:
        return ()
    (across, along), *rest = rows.columns.items()
    if along.min() <= 0:
        return ()
    grid = np.geomspace(along.min(), along.max(), points)
    other, values = rest[0] if rest else (None, np.ones(1))
    places = np.unique(values)
    if len(places) > MOST_LINES:
        places = np.unique(np.quantile(values, [0, 0.25, 0.5, 0.75, 1], method="nearest"))
    table = pd.DataFrame({across: np.tile(grid, len(places)), **({other: np.repeat(places, points)} if other else {})})
    with np.errstate(all="ignore"):  # a draw of a law with a pole may be infinite somewhere; it gets no band
        said = predict(result, table, source=result.source)
    columns = [said[name].to_numpy(float).reshape(len(places), points) for name in ("prediction", "low", "high")]
    return tuple(
        LawCurve(float(at) if other else None, grid, *each) for at, *each in zip(places, *columns, strict=True)
    )
