"""Step 2 of a report: judge a table of runs, by the verdict on its gaps or by the fit of any law to it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from harness.fit.allocation.allocation import Allocation, allocate_runs
from harness.fit.allocation.isoflop import SAME_BUDGET, profiles
from harness.fit.allocation.lines import FEWEST_BUDGETS, LossRuns, runs_to_allocate
from harness.fit.certainty.large_tables import is_large
from harness.fit.fitting import complete, fit, solve
from harness.fit.gap_law.verdict import Verdict, verdict
from harness.fit.known_truth import Truth, compare_with_truth
from harness.fit.laws.registry import get_law
from harness.fit.referee.extrapolation import extrapolate, scale_of, windows_of
from harness.fit.results.result import FitResult
from harness.gaps.roles import roles_for_runs
from harness.gaps.shared_documents import with_shared_errors
from harness.record.columns import MEASURED
from harness.report.fit_rows import FittedRows, LawCurve, fitted_rows, law_curves
from harness.report.gather import TableRecords
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


def judge_sweep(runs: pd.DataFrame, out: Path, *, bootstrap: int = 100, nulls: bool = True) -> Judged:
    """Judge the gaps of a sweep's runs, any number of them finished.

    Args:
        runs: one row per run, as in `harness.record.table.runs_table`.
        out: the sweep's folder.
        bootstrap: number of cluster bootstrap draws for the intervals.
        nulls: whether to also judge simulated gaps with a known answer.
    """
    marks, notes = None, ()
    try:
        rows, warnings = roles_for_runs(runs)
        rows = with_shared_errors(rows, out)
        marks, notes = marks_of(rows), tuple(warning.message for warning in warnings)
        return Judged(verdict(rows, bootstrap=bootstrap, nulls=nulls, source=out.name), marks, "", notes)
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


@dataclass(frozen=True)
class ScoredRows:
    """Rows that lay beyond the fitted ones in one of the windows of `harness.fit.referee.extrapolation`.

    Attributes:
        scale: the scale of each, by which the windows are ordered.
        error: |prediction/response - 1| of each.
        edges: the largest fitted scale of each window.
        names: what each row is called.
    """

    scale: np.ndarray
    error: np.ndarray
    edges: tuple[float, ...]
    names: np.ndarray


@dataclass(frozen=True)
class Budgets:
    """The isoFLOP profiles of a table and what approach 2 makes of them.

    Attributes:
        runs: the losses with their sizes and budgets.
        rows: the rows of each budget.
        found: the optima and the lines through them; None where there are none, and `missing` says why.
    """

    runs: LossRuns
    rows: list[np.ndarray]
    found: Allocation | None
    missing: str = ""


@dataclass(frozen=True)
class JudgedTable:
    """The fit of a law to anyone's table, with what the figures of its page need.

    Attributes:
        rows, curves: the rows beside their predictions, and the law along its widest column.
        scored: the rows that were predicted by fits to smaller ones; None where there are too few scales.
        budgets: the isoFLOP profiles; None for a table without budgets.
    """

    fit: FitResult
    rows: FittedRows | None
    curves: tuple[LawCurve, ...]
    scored: ScoredRows | None
    budgets: Budgets | None


def judge_any_table(records: TableRecords) -> JudgedTable:
    """Fit the law to the table as `isogap fit --bootstrap 0` does, and find out what the page of the fit shows.

    Raises:
        InputError: a table that the law cannot be fitted to.
    """
    solved = solve(records.law, records.runs, source=records.name)
    result = complete(solved, records.runs, draws=0, source=records.name)
    rows = fitted_rows(result, records.runs)
    scored = None
    if rows is not None and not is_large(solved.problem) and (beyond := extrapolate(solved.problem, solved.solutions)):
        scale = scale_of(solved.problem.law, solved.problem.raw_columns)
        edges = tuple(float(scale[train].max()) for train, _ in windows_of(solved.problem))
        scored = ScoredRows(scale[beyond.rows], beyond.relative, edges, rows.names[beyond.rows])
    curves = () if rows is None else law_curves(result, rows)
    return JudgedTable(result, rows, curves, scored, _budgets(records))


def _budgets(records: TableRecords) -> Budgets | None:
    """The isoFLOP profiles of a table of losses: three budgets, which hold at least half of its sizes and budgets."""
    if records.law.response != "L" or not {"N", "D", "L"} <= set(records.runs.columns):
        return None
    runs = runs_to_allocate(records.runs, records.name)
    rows = profiles(runs)
    pairs = set(zip(runs.n.tolist(), np.round(np.log(runs.flops) / SAME_BUDGET).tolist(), strict=True))
    if len(rows) < FEWEST_BUDGETS or 2 * sum(map(len, rows)) < len(pairs):
        return None
    budgets = [float(np.exp(np.log(runs.flops[each]).mean())) for each in rows]
    try:
        asked = np.geomspace(min(budgets), 3 * max(budgets), 25)
        found = allocate_runs(records.runs, asked.tolist(), 2, source=records.name)
        # Nobody asked for a budget: the page draws the lines a little further than the optima.
        warnings = tuple(warning for warning in found.warnings if warning.code != "extrapolated")
        return Budgets(runs, rows, replace(found, warnings=warnings))
    except InputError as error:
        return Budgets(runs, rows, None, f"{error.field}: {error.value} found, {error.expected} needed")
