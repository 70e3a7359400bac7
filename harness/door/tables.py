"""Fitting, comparing, predicting and reporting from Python.

Runs may be a sweep's folder; a file: CSV with commas, semicolons or tabs, JSON, JSON lines or parquet, also compressed;
the URL of either on an object store; or a pandas DataFrame. The keyword arguments of `Reading` say which columns mean
what.
"""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import pandas as pd
from numpy.typing import ArrayLike

from harness.fit.allocation.allocation import Allocation, allocate_fit, allocate_runs
from harness.fit.compare import Comparison, compare
from harness.fit.fitting import fit
from harness.fit.forecast import Predictions, doubts, predict
from harness.fit.gap_law.verdict import Verdict, verdict
from harness.fit.groups import fit_by
from harness.fit.laws.held import with_held
from harness.fit.laws.registry import get_law, law_ids
from harness.fit.problem.objective import HuberOptions
from harness.fit.quantities.memorised import memory_of_models
from harness.fit.results.no_gap import NoGap
from harness.fit.results.result import FitResult
from harness.fit.shared.collapse import Collapse, judge_collapse
from harness.fit.shared.crossover import Crossover, find_crossover
from harness.fit.shared.transfer import Transfer, transfer_loss
from harness.fit.shared.universality import Universality, judge_universality
from harness.fit.two_steps import predict_through
from harness.forecasts.register import register_fits
from harness.forecasts.registry_file import Registered, read_forecasts
from harness.forecasts.score import ForecastScores, score_lines
from harness.source import RunSource, open_runs, read_fit, read_fits, read_runs


class Reading(TypedDict, total=False):
    """The keyword arguments of `read_runs`: how the columns of a table are read.

    Attributes:
        set: role -> column, such as `{"N": "params"}`; a role that is not listed is read from the column
            of its name.
        where: a condition on the table's own columns, or on roles whose names no column has; other rows are left out.
        holdout: a condition; rows that meet it are scored and not fitted.
        estimator: which measured gap of a sweep to use: best, twin, control, probe or online.
        units: tokens, or bytes to compare several tokenizers.
    """

    set: Mapping[str, str]
    where: str | None
    holdout: str | None
    estimator: str
    units: str


def fit_runs(
    source: RunSource,
    law: str = "gap",
    *,
    fix: Mapping[str, float] | None = None,
    bootstrap: int = 200,
    seed: int = 0,
    objective: str | None = None,
    delta: float = 1e-3,
    quantile: float = 0.5,
    sensitivity: bool = True,
    **reading: Unpack[Reading],
) -> FitResult:
    """Fit a law to runs, and say what they identify and what they do not.

    Args:
        source: the runs.
        law: an id, of which `laws()` lists all, or an expression such as `E + A/N**alpha`.
        fix: constants of the law that are held at a value, in the units of the table, such as `{"E": 1.6}`.
        bootstrap: number of refits to resampled clusters; 0 takes standard errors from the curvature.
        seed: the seed of the bootstrap.
        objective: log_huber, log_squares, squares or normal, instead of the law's own.
        delta: the residual at which Huber's loss turns from quadratic to linear.
        quantile: the quantile that log_huber fits: 0.5 is the middle of the runs, 0.1 near the best ones.
        sensitivity: whether to refit under other reasonable choices.

    Raises:
        InputError: unusable options, columns or rows.
    """
    law = with_held(law, fix or {})
    frame = read_runs(source, law, **reading)
    return fit(
        law, frame, bootstrap=bootstrap, seed=seed, objective=objective, options=HuberOptions(delta, quantile),
        sensitivity=sensitivity, source=_name(source),
    )  # fmt: skip


def fit_groups(
    source: RunSource, law: str, by: str, *, fix: Mapping[str, float] | None = None, bootstrap: int = 200,
    sensitivity: bool = True, **reading: Unpack[Reading],
) -> dict[str, FitResult]:  # fmt: skip
    """Fit a law to every group of runs: each value of the column `by`. Groups that cannot be fitted are left out.

    Raises:
        InputError: unusable columns, or no group that can be fitted.
    """
    law = with_held(law, fix or {})
    frame = read_runs(source, law, **reading)
    return fit_by(law, frame, by, bootstrap=bootstrap, sensitivity=sensitivity, source=_name(source))[0]


def compare_laws(
    source: RunSource, laws: Sequence[str], *, fix: Mapping[str, float] | None = None, seed: int = 0,
    **reading: Unpack[Reading],
) -> Comparison:  # fmt: skip
    """Fit several laws of one response to the same runs, and rank them by how well they predict runs of larger scale.

    Raises:
        InputError: unknown laws, laws of different responses, or unusable columns.
    """
    laws = [with_held(law, fix or {}) for law in laws]
    return compare(laws, read_runs(source, laws, **reading), seed=seed, source=_name(source))


def predict_points(
    fitted: FitResult | str | Path, points: pd.DataFrame | Mapping[str, ArrayLike], *,
    through: FitResult | str | Path | None = None,
) -> Predictions:  # fmt: skip
    """The fitted law at new points, with 95 % intervals of the law and of a new run.

    Args:
        fitted: a fit, or the file that `isogap fit --json` wrote.
        points: the law's columns by role, such as `{"N": [1e9], "D": [2e10]}`.
        through: the fit of a first step that predicts what the law reads, such as the loss of `accuracy`; the points
            are then the first law's, and the intervals hold the errors of both steps.

    Raises:
        InputError: a column of the law is missing or unusable, or a first step that does not lead to the law.
    """
    result, frame = _fitted(fitted), pd.DataFrame(points)
    first = None if through is None else _fitted(through)
    table = predict(result, frame) if first is None else predict_through(result, first, frame)
    reads, response = get_law((first or result).law).columns, get_law(result.law).response
    return Predictions(result.law, result.formula, response, tuple(reads), table, doubts(first or result, frame))


def register_forecasts(
    fitted: FitResult | str | Path, points: pd.DataFrame | Mapping[str, ArrayLike], file: str | Path
) -> Registered:
    """Write the predictions of a fit down as forecasts, to be scored when the runs have ended.

    Args:
        fitted: a fit, or the file that `isogap fit --json` wrote, also of a fit to several groups.
        points: the law's columns by role, such as `{"N": [1e9], "D": [2e10]}`; the column of the groups, if it is
            there, says of which group each point is.
        file: the file to which a line of JSON is added for each forecast that it does not have yet.

    Raises:
        InputError: an unusable point, a fit that does not know the hash of its rows, or a file that was changed.
    """
    by, fits = (None, {"": fitted}) if isinstance(fitted, FitResult) else read_fits(Path(fitted))
    return register_fits(Path(file), fits, pd.DataFrame(points), by=by)


def score_forecasts(
    file: str | Path, source: RunSource, *, set: Mapping[str, str] | None = None, where: str | None = None,
    estimator: str = "best", units: str = "tokens",
) -> ForecastScores:  # fmt: skip
    """Score registered forecasts on runs: coverage, errors, and the laws ranked by their interval scores.

    Args:
        file: the file of forecasts.
        source: the runs; those within 2 % of a forecast's point are its measurement.
        set, where, estimator, units: as in `Reading`.

    Raises:
        InputError: a file that was changed, or runs that no law can be scored on.
    """
    return score_lines(
        read_forecasts(Path(file)), open_runs(source), set=set, where=where, estimator=estimator, units=units,
        tell=warnings.warn,
    )  # fmt: skip


def allocate_compute(fitted: FitResult | str | Path, flops: ArrayLike) -> Allocation:
    """Compute-optimal N and D of a fitted loss law for budgets of training FLOPs, with 95 % intervals.

    Raises:
        InputError: a law that is not a loss in N and D, or a budget that is not positive.
    """
    return allocate_fit(_fitted(fitted), flops)


def allocate_table(
    source: RunSource, flops: Sequence[float], approach: int, *, method: str | None = None, law: str = "chinchilla",
    fix: Mapping[str, float] | None = None, bootstrap: int | None = None, **reading: Unpack[Reading],
) -> Allocation:  # fmt: skip
    """Compute-optimal N and D from runs, by approach 1 (lowest curve), 2 (isoFLOP profiles) or 3 (fitted loss law).

    Raises:
        InputError: unusable columns, or runs whose design cannot show an optimum.
    """
    law = with_held(law, fix or {})
    frame = read_runs(source, law if approach == 3 else "chinchilla", **reading)
    return allocate_runs(frame, flops, approach, method=method, law=law, bootstrap=bootstrap, source=_name(source))


def group_universality(
    source: RunSource, by: str, *, law: str = "gap", margin: float = 0.05, bootstrap: int = 200, seed: int = 0,
    **reading: Unpack[Reading],
) -> Universality | NoGap:  # fmt: skip
    """Test whether groups of runs share a law's exponents, by differences and by equality within a margin.

    Raises:
        InputError: unusable columns, or fewer than two groups.
    """
    frame = read_runs(source, law, **reading)
    return judge_universality(frame, by, law=law, margin=margin, bootstrap=bootstrap, seed=seed, source=_name(source))


def judge_gap_law(
    source: RunSource, *, bootstrap: int = 200, seed: int = 0, nulls: bool = True, **reading: Unpack[Reading]
) -> Verdict:
    """Judge whether gaps obey the published law: one word, the findings in sentences, and all the fits behind them.

    Args:
        bootstrap: number of refits to resampled clusters, for the intervals; 0 takes errors from the curvature.
        nulls: whether to also replace the gaps by simulated ones with a known answer (no gap; G = a D^-b; the published
            law), and report how each is judged.

    Raises:
        InputError: unusable columns, or too few rows.
    """
    frame = read_runs(source, "gap", **reading)
    return verdict(frame, bootstrap=bootstrap, seed=seed, nulls=nulls, source=_name(source))


def collapse_runs(
    source: RunSource, *, permutations: int = 199, seed: int = 0, **reading: Unpack[Reading]
) -> Collapse | NoGap:
    """Test whether the gap's curves over D fall on one curve of D/N^z, whatever its form.

    Raises:
        InputError: unusable columns, or curves that overlap at no z.
    """
    frame = read_runs(source, "gap_spline", **reading)
    return judge_collapse(frame, permutations=permutations, seed=seed, source=_name(source))


def cross_recipes(
    source: RunSource, *, law: str = "compute_power", bootstrap: int = 200, **reading: Unpack[Reading]
) -> Crossover:
    """Find where the losses of two recipes cross in compute: columns flops, L, and `group`, which names two recipes.

    Raises:
        InputError: fewer or more than two groups, or ranges of compute that do not overlap.
    """
    return find_crossover(read_runs(source, law, **reading), law=law, bootstrap=bootstrap)


def write_report_page(
    source: RunSource, law: str | None = None, *, to: str | Path | None = None,
    fix: Mapping[str, float] | None = None, **reading: Unpack[Reading],
) -> Path:  # fmt: skip
    """Write one self-contained page, and return its path: a fit to any runs, or without a law a sweep's verdict.

    Args:
        source: the runs. Without a law it is a sweep's folder, or a table of `isogap simulate`.
        law: an id, of which `laws()` lists all, or an expression such as `E + A/N**alpha`.
        fix: constants of the law that are held at a value, in the units of the table, such as `{"E": 1.6}`.
        to: the page; by default DIR/report.html of a sweep, DIR/LAW.html of a law fitted to it, or beside the table.

    Raises:
        InputError: a source that cannot be read or fitted, or a page whose name does not end in .html.
    """
    from harness.report.write import write_report  # plotly, which a fit does not need

    law = with_held(law, fix) if law and fix else law
    return write_report(source, None if to is None else Path(to), law=law, **reading)


def transfer_losses(
    source: RunSource, *, base: str = "kaplan_floor", bootstrap: int = 200, **reading: Unpack[Reading]
) -> Transfer:
    """Fit how the loss L on one corpus follows from the loss L0 on another, from runs paired by N and D.

    Raises:
        InputError: unusable columns or too few pairs.
    """
    return transfer_loss(read_runs(source, ("loss_to_loss", base), **reading), base=base, bootstrap=bootstrap)


def memorised_bits_of_runs(source: RunSource, **reading: Unpack[Reading]) -> pd.DataFrame:
    """The bits of their training text that models hold, from gaps G, unique tokens U and parameters N of runs.

    Returns:
        the runs with the columns of `harness.fit.quantities.memorised.memory_of_models`.

    Raises:
        InputError: unusable columns.
    """
    return memory_of_models(read_runs(source, "gap_epochs", **reading))


def list_laws() -> pd.DataFrame:
    """The available laws: what they predict, what they read, formula and source."""
    laws = [get_law(law) for law in law_ids()]
    rows: list[dict[str, Any]] = [
        {"response": law.response, "reads": ", ".join((*law.columns, *law.vectors, *law.labels)),
         "formula": law.formula, "source": law.source}
        for law in laws
    ]  # fmt: skip
    return pd.DataFrame(rows, index=pd.Index([law.id for law in laws], name="law"))


def _name(source: RunSource) -> str:
    """The name that a result gives to its source."""
    return "table" if isinstance(source, pd.DataFrame) else str(source)


def _fitted(fitted: FitResult | str | Path) -> FitResult:
    """The fit itself, or the fit that is read from this file."""
    return fitted if isinstance(fitted, FitResult) else read_fit(Path(fitted))
