"""Takes each group of a table on its own: per corpus, per model, per tokenizer."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pandas as pd

from harness.fit.compare import Comparison, compare
from harness.fit.fitting import fit
from harness.fit.forecast import predict
from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.fit.problem.columns import column_of, held_out, names_of
from harness.fit.problem.fit_status import FitWarning
from harness.fit.referee.scores import errors_of
from harness.fit.results.held_out import HeldOutErrors
from harness.fit.results.result import FitResult
from sweeps.errors import InputError

Found = TypeVar("Found")


def for_each_group(
    frame: pd.DataFrame, by: str, work: Callable[[pd.DataFrame, str], Found], source: str = "table"
) -> tuple[dict[str, Found], tuple[FitWarning, ...]]:
    """Do some work on the rows of each value of a column.

    Args:
        work: takes the rows of a group, and a text that names the source and the group.

    Returns:
        what the work returned, by group in order; and a warning per group whose rows it refused, and of rows that have
        no value in the column.

    Raises:
        InputError: no such column, or no group of which the work accepts the rows.
    """
    if by not in frame.columns:
        raise InputError(source, "--by", by, f"one of the columns {names_of(frame)}")
    found: dict[str, Found] = {}
    warnings = []
    for name, rows in frame.groupby(by, sort=True):
        try:
            found[str(name)] = work(rows.reset_index(drop=True), f"{source}, {by} {name}")
        except InputError as error:
            warnings.append(FitWarning("group_left_out", str(error)))
    if not found:
        reason = warnings[0].message if warnings else "every row lacks it"
        raise InputError(source, "--by", by, f"at least one group with usable rows ({reason})")
    if lacking := int(np.sum(pd.isna(frame[by]))):
        warnings.append(FitWarning("rows_dropped", f"{lacking} of {len(frame)} rows dropped: {by} is missing"))
    return found, tuple(warnings)


def fit_by(
    law: str | Law, frame: pd.DataFrame, by: str, *, holdout: str | None = None, source: str = "table", **choices
) -> tuple[dict[str, FitResult], HeldOutErrors, tuple[FitWarning, ...]]:
    """Fit a law once per value of a column, and find the errors on the held-out rows of all groups together.

    Args:
        by: a column of the table.
        choices: further arguments of `fit`.

    Returns:
        fits by group, the pooled errors as in a fit's `holdout`, and the warnings of `for_each_group`.

    Raises:
        InputError: no such column, or no group that can be fitted.
    """
    law = get_law(law, frame.columns)
    marked = frame.assign(holdout=held_out(frame, holdout, source))
    observed, predicted, listed = [np.empty(0)], [np.empty(0)], []

    def fit_one(rows: pd.DataFrame, name: str) -> FitResult:
        result = fit(law, rows, source=name, **choices)
        beyond = rows.loc[rows["holdout"]].reset_index(drop=True)
        if len(beyond):
            observed.append(column_of(beyond, law.response, source, signed=True))
            predicted.append(predict(result, beyond)["prediction"].to_numpy(float))
            group = name.removeprefix(f"{source}, ")
            listed.extend(replace(row, run=f"{group}, {row.run}") for row in result.holdout.by_row)
        return result

    fits, warnings = for_each_group(marked, by, fit_one, source)
    return fits, errors_of(np.concatenate(observed), np.concatenate(predicted), listed), warnings


def points_of_groups(
    by: str | None, groups: Collection[str], points: pd.DataFrame, source: str = "points"
) -> tuple[dict[str, pd.DataFrame], tuple[str, ...]]:
    """Split points over the groups of a fit: all points are of every group, unless they name theirs in the column `by`.

    Returns:
        the points by group, for the groups that have some; and the groups that points name and that were not fitted.

    Raises:
        InputError: no point is of a group that was fitted.
    """
    if by is None or by not in points.columns:
        return dict.fromkeys(groups, points), ()
    named = points[by].astype(str)
    own = {name: points.loc[named == name].reset_index(drop=True) for name in groups}
    own = {name: rows for name, rows in own.items() if len(rows)}
    if not own:
        raise InputError(source, by, ", ".join(sorted(set(named))), f"one of the groups {', '.join(groups)}")
    return own, tuple(sorted({*named} - {*groups}))


def compare_by(
    laws: Sequence[str | Law], frame: pd.DataFrame, by: str, *, source: str = "table", **choices
) -> tuple[dict[str, Comparison], tuple[FitWarning, ...]]:
    """Rank laws on the rows of each value of a column; arguments as for `compare`, errors as for `for_each_group`."""
    return for_each_group(frame, by, lambda rows, name: compare(laws, rows, source=name, **choices), source)
