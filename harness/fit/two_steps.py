"""Predictions in two steps: of a loss from the sizes of a run, and from that loss of what follows from it."""

import numpy as np
import pandas as pd

from harness.fit.forecast import predict
from harness.fit.laws.registry import get_law
from harness.fit.results.result import FitResult
from sweeps.errors import InputError


def predict_through(
    result: FitResult, first: FitResult, points: pd.DataFrame, *, source: str = "points"
) -> pd.DataFrame:
    """Predict the response of a fit whose law reads what another fit predicts, such as an accuracy through a loss.

    The errors of both steps are taken as independent: on each side the squares of their distances are added. An
    interval of the law holds the two laws' errors, that of a new run also the scatter of both, since the loss of a run
    differs from the law's, and the accuracy follows the run's.

    Args:
        result: the fit of the second step, such as of `accuracy`.
        first: the fit of the first step; its response is one of the columns that the second law reads.
        points: the columns of the first law by role, and any others of the second.

    Returns:
        the points with the first step's prediction under its role, and the columns that `predict` adds, without
        `beyond`.

    Raises:
        InputError: a second law that does not read the first one's response, or a column that is missing or unusable.
    """
    law, role = get_law(result.law), get_law(first.law).response
    if role not in law.columns:
        reads = ", ".join(law.columns)
        raise InputError("--through", "response", role, f"the fit of a law that predicts what {law.id} reads ({reads})")
    before = predict(first, points, source=source)

    def after(column: str) -> pd.DataFrame:
        values = before[column].to_numpy(float)
        return predict(result, points.assign(**{role: np.where(np.isfinite(values), values, before["prediction"])}))

    table = after("prediction").drop(columns="beyond")
    center = table["prediction"].to_numpy(float)
    for name in ("", "run_"):
        ends = np.array([after(f"{name}{side}")["prediction"] for side in ("low", "high")])
        table[f"{name}low"] = center - np.hypot(center - table[f"{name}low"], center - ends.min(axis=0))
        table[f"{name}high"] = center + np.hypot(table[f"{name}high"] - center, ends.max(axis=0) - center)
    return table
