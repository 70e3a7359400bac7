"""Fits a law to each group of a table: per corpus, per model, per tokenizer."""

from dataclasses import replace

import numpy as np
import pandas as pd

from harness.fit.fitting import fit
from harness.fit.forecast import predict
from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.fit.problem.columns import column_of, held_out
from harness.fit.problem.fit_status import FitWarning
from harness.fit.referee.scores import errors_of
from harness.fit.results.held_out import HeldOutErrors
from harness.fit.results.result import FitResult
from sweeps.errors import InputError


def fit_by(
    law: str | Law, frame: pd.DataFrame, by: str, *, holdout: str | None = None, source: str = "table", **choices
) -> tuple[dict[str, FitResult], HeldOutErrors, tuple[FitWarning, ...]]:
    """Fit a law once per value of a column, and find the errors on the held-out rows of all groups together.

    Args:
        by: a column of the table.
        choices: further arguments of `fit`.

    Returns:
        fits by group, the pooled errors as in a fit's `holdout`, and a warning per group that could not be fitted.

    Raises:
        InputError: no such column, or no group that can be fitted.
    """
    law = get_law(law)
    if by not in frame.columns:
        raise InputError(source, "--by", by, f"one of the columns {', '.join(map(str, frame.columns))}")
    marked = frame.assign(holdout=held_out(frame, holdout, source))
    fits: dict[str, FitResult] = {}
    warnings, observed, predicted, listed = [], [], [], []
    for name, rows in marked.groupby(by, sort=True):
        rows = rows.reset_index(drop=True)
        try:
            fits[str(name)] = fit(law, rows, source=f"{source}, {by} {name}", **choices)
        except InputError as error:
            warnings.append(FitWarning("group_left_out", str(error)))
            continue
        beyond = rows.loc[rows["holdout"]].reset_index(drop=True)
        if len(beyond):
            observed.append(column_of(beyond, law.response, source, signed=True))
            predicted.append(predict(fits[str(name)], beyond)["prediction"].to_numpy(float))
            listed += [replace(row, run=f"{name} {row.run}") for row in fits[str(name)].holdout.by_row]
    if not fits:
        raise InputError(
            source, "--by", by, f"at least one group that {law.id} can be fitted to ({warnings[0].message})"
        )
    seen, met = (np.concatenate(parts or [np.empty(0)]) for parts in (observed, predicted))
    return fits, errors_of(seen, met, listed), tuple(warnings)
