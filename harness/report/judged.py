"""Step 2 of a report: judge a table of runs, which gives a verdict and the rows that it is about."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from harness.fit.fitting import fit
from harness.fit.gap_law.verdict import Verdict, verdict
from harness.fit.known_truth import Truth, compare_with_truth
from harness.fit.laws.registry import get_law
from harness.fit.results.result import FitResult
from harness.gaps.roles import roles_for_runs
from harness.record.columns import MEASURED
from harness.report.marks import Marks, marks_of
from harness.tables.read import assign_roles
from sweeps.errors import InputError


@dataclass(frozen=True)
class Judged:
    """The judgement of a table's gaps.

    Attributes:
        verdict: the verdict, or None where nothing can be fitted; `missing` says what was lacking.
        marks: the finished runs that the verdict is about; None without any.
        notes: what was left out of the fit, in sentences.
        true_fit: the fit of a simulated table's true law; None for a sweep.
    """

    verdict: Verdict | None
    marks: Marks | None
    missing: str
    notes: tuple[str, ...]
    true_fit: FitResult | None = None


def judge_sweep(runs: pd.DataFrame, name: str, *, bootstrap: int = 100, nulls: bool = True) -> Judged:
    """Judge the gaps of a sweep's runs, any number of them finished.

    Args:
        runs: one row per run, as in `harness.record.table.runs_table`.
        name: the name of the sweep, for messages.
        bootstrap: number of cluster bootstrap draws for the intervals.
        nulls: whether to also judge simulated gaps with a known answer.
    """
    marks, notes = None, ()
    try:
        rows, warnings = roles_for_runs(runs)
        marks, notes = marks_of(rows), tuple(warning.message for warning in warnings)
        return Judged(verdict(rows, bootstrap=bootstrap, nulls=nulls, source=name), marks, "", notes)
    except InputError as error:
        return Judged(None, marks, f"{error.field}: {error.value} found, {error.expected} needed", notes)


def judge_simulated_table(
    source: Path, table: pd.DataFrame, truth: Truth, *, bootstrap: int = 100, nulls: bool = True
) -> Judged:
    """Judge the gaps of a simulated table like those of a sweep, and fit the table's true law.

    Raises:
        InputError: too few rows for the law.
    """
    rows, warnings = roles_for_runs(table.assign(**{name: np.nan for name in MEASURED if name not in table}))
    judged = verdict(rows, bootstrap=bootstrap, nulls=nulls, source=source.name)
    notes = tuple(warning.message for warning in warnings)
    return Judged(judged, marks_of(rows), "", notes, fit_true_law(source, rows, truth, bootstrap=bootstrap))


def fit_true_law(source: Path, rows: pd.DataFrame, truth: Truth, *, bootstrap: int = 100) -> FitResult:
    """Fit the true law of a simulated table to the rows for which it holds, and compare with the true constants.

    Args:
        rows: the rows of the table, in roles.

    Raises:
        InputError: the law cannot be fitted to that table.
    """
    rows, _ = assign_roles(rows, dict(truth.roles), where=truth.where, laws=[get_law(truth.law)], source=str(source))
    fitted = fit(truth.law, rows, bootstrap=bootstrap, sensitivity=False, source=source.name)
    return replace(fitted, truth=tuple(compare_with_truth(fitted, truth)))
