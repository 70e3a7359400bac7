"""Compute-optimal N and D for given budgets, by one of the three approaches of Hoffmann et al. (arXiv 2203.15556).

`allocate_runs` starts from a table of runs, `allocate_fit` from a fitted loss law. Both give an `Allocation`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from harness.fit.allocation.isoflop import isoflop_optima
from harness.fit.allocation.lines import (
    READ,
    SIX_ND,
    BudgetOptima,
    at_budgets,
    check_budgets,
    check_design,
    limits,
    runs_to_allocate,
    shift_from_half,
)
from harness.fit.allocation.lower_edge import lower_edge
from harness.fit.allocation.parametric import loss_law, optimum_on_budgets, ranges
from harness.fit.fitting import fit
from harness.fit.forecast import estimates
from harness.fit.groups import for_each_group
from harness.fit.problem.columns import check_roles, column_of
from harness.fit.problem.fit_status import FitWarning
from harness.fit.problem.sizes import beyond, doubtful_points, doubtful_table
from harness.fit.results.result import FitResult
from harness.fit.results.shown import (
    Showable,
    Shown,
    TextTable,
    finite_rows,
    number,
    span,
    spans_table,
    warning_lines,
)
from sweeps.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go

# The methods of each approach.
_METHODS = {1: ("envelope", "hull"), 2: ("akima", "quadratic", "cubic"), 3: ()}
_REPLICATES = {1: 1000, 2: 1000, 3: 200}


@dataclass(frozen=True)
class Exponent:
    """The exponent a of N* ~ C^a, or of D* ~ C^a, with its 95 % limits; None where a number is not known."""

    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Allocation(Showable):
    """The compute-optimal sizes for some budgets, and what they rest on.

    Attributes:
        method: the approach and how it found the optima, in words.
        counted: how the FLOPs of the budgets are counted.
        rows: how many runs were used.
        exponents: the exponents of N* and D* in C; empty for a law whose exponents depend on C (see `budgets`).
        optima: a row per measured budget with its optimum; empty for approach 3.
        budgets: a row per requested budget: flops, then N, D, tokens_per_parameter and loss (nats per token), for
            approach 3 also N_exponent, each with its 95 % limits NAME_low and NAME_high.
    """

    method: str
    counted: str
    rows: int
    exponents: dict[str, Exponent]
    optima: pd.DataFrame
    budgets: pd.DataFrame
    warnings: tuple[FitWarning, ...]

    def shifted(self, z: float, anchor: float) -> "Allocation":
        """Return the allocation with a column `z_factor` in `budgets`: N by the rule D ~ N^z, divided by N by D ~ N.

        The two rules agree at the budget `anchor` (FLOPs). Raises InputError unless it is positive and z above -1.
        """
        factors = shift_from_half(self.budgets["flops"].to_numpy(), z, anchor)
        return replace(self, budgets=self.budgets.assign(z_factor=factors))

    def to_dict(self) -> dict[str, Any]:
        """The allocation as plain dictionaries, lists, numbers and strings; None for numbers that are not finite."""
        return {
            "method": self.method,
            "counted": self.counted,
            "rows": self.rows,
            "exponents": {name: asdict(exponent) for name, exponent in self.exponents.items()},
            "optima": finite_rows(self.optima.to_dict("records")),
            "budgets": finite_rows(self.budgets.to_dict("records")),
            "warnings": [asdict(warning) for warning in self.warnings],
        }

    def shown(self) -> list[Shown]:
        """The exponents, the optima of measured budgets, the budgets asked for, and the warnings."""
        told: list[Shown] = [f"{self.method}; {self.rows} rows; C is {self.counted}"]
        for name, value in self.exponents.items():
            told.append(f"{name}* ~ C^{number(value.estimate)}, 95 % interval {span(value.low, value.high)}")
        told.append(spans_table("optima of the measured budgets", self.optima))
        return [*told, self.sizes(), *warning_lines(self.warnings)]

    def sizes(self) -> TextTable:
        """The table of the optimal sizes at the requested budgets."""
        return spans_table("compute-optimal sizes, with 95 % intervals", self.budgets)

    def figure(self) -> "go.Figure":
        """Draw N* and D* against C: the measured optima, and the budgets with their 95 % limits."""
        import plotly.graph_objects as go

        figure = go.Figure()
        for name in ("N", "D"):
            if len(self.optima):
                figure.add_scatter(
                    x=self.optima["flops"], y=self.optima[name], mode="markers", name=f"{name}*, measured"
                )
            at = self.budgets
            limits_of = {"array": at[f"{name}_high"] - at[name], "arrayminus": at[name] - at[f"{name}_low"]}
            figure.add_scatter(x=at["flops"], y=at[name], error_y=limits_of, name=f"{name}*")
        figure.update_xaxes(type="log", title=f"C (FLOPs, {self.counted})")
        return figure.update_yaxes(type="log", title="parameters N, tokens D")


def check_approach(approach: int | None, method: str | None, law: str, noise: str | None = None) -> int:
    """Return the approach; InputError if it is unknown or does not take these options. Call this before the work."""
    if approach not in _METHODS:
        raise InputError("--approach", "value", approach, "1 (lower edge), 2 (isoFLOP profiles) or 3 (fitted loss)")
    if method is not None and method not in _METHODS[approach]:
        known = " or ".join(_METHODS[approach]) or "none with approach 3"
        raise InputError("--method", "value", method, known)
    if noise is not None and approach != 2:
        raise InputError("--noise", "value", noise, "none but with --approach 2")
    if approach == 3:
        loss_law(law, "--law")
    return approach


def allocate_runs(
    frame: pd.DataFrame, flops: Sequence[float], approach: int, *, method: str | None = None,
    law: str = "chinchilla", bootstrap: int | None = None, source: str = "table",
) -> Allocation:  # fmt: skip
    """Find the compute-optimal N and D from runs.

    Args:
        frame: columns N, D, L (nats per token) and, where they are known, `flops` and `run`. For approach 2 a column
            L_se has the standard deviation of each loss in nats.
        flops: budgets of training FLOPs.
        approach: 1 takes the lowest loss at each budget, 2 the minimum of each isoFLOP profile, 3 a fitted loss law.
        method: `envelope` or `hull` for approach 1, by default the former; `akima`, `quadratic` or `cubic` for
            approach 2, by default `akima` with a known noise and `cubic` without.
        law: a loss law in N and D, for approach 3.
        bootstrap: number of replicates; by default 1000 for approaches 1 and 2, and 200 refits for approach 3.

    Raises:
        InputError: unusable rows, a design that cannot show an optimum, or an option that the approach does not take.
    """
    check_approach(approach, method, law)
    check_roles(frame, READ, source)
    draws = _REPLICATES[approach] if bootstrap is None else bootstrap
    if approach == 3:
        n, d = (column_of(frame, role, source) for role in ("N", "D"))
        warnings = check_design(n, d, source)
        by_fit = allocate_fit(fit(law, frame, bootstrap=draws, sensitivity=False, source=source), flops)
        return replace(by_fit, warnings=(*warnings, *by_fit.warnings))
    runs = runs_to_allocate(frame, source)
    if approach == 1:
        optima = lower_edge(runs, method or "envelope", draws, source=source)
    else:
        sd = column_of(frame, "L_se", source, signed=True) if "L_se" in frame.columns else None
        optima = isoflop_optima(runs, sd, method, draws, source=source)
    table, warnings = at_budgets(optima, flops)
    measured = {"N": runs.n, "D": runs.d, "flops": runs.flops}
    largest = {"N": float(runs.n.max()), "D": float(runs.d.max())}
    doubts = (*doubtful_table(measured), *_doubtful_answers(table, largest))
    exponents = {
        name: _exponent(line.exponent, *(float(limit[0]) for limit in limits(line.draws[:, 1:])))
        for name, line in (("N", optima.n), ("D", optima.d))
    }
    return Allocation(
        optima.method, runs.counted, len(frame), exponents, _optima_table(optima), table,
        (*optima.warnings, *warnings, *doubts),
    )  # fmt: skip


def allocate_by(
    frame: pd.DataFrame, by: str, flops: Sequence[float], approach: int, *, source: str = "table", **choices: Any
) -> tuple[dict[str, Allocation], tuple[FitWarning, ...]]:
    """`allocate_runs` for the rows of each value of a column; errors and warnings as of `for_each_group`."""
    return for_each_group(
        frame, by, lambda rows, name: allocate_runs(rows, flops, approach, source=name, **choices), source
    )


def allocate_fit(result: FitResult, flops: ArrayLike) -> Allocation:
    """Find the compute-optimal N and D of a fitted loss law for budgets C = 6 N D: approach 3 from a given fit.

    Raises InputError for a law that is not a loss in N and D alone, a budget that is not positive, or a fit without an
    optimum.
    """
    budgets, law = check_budgets(flops), loss_law(result.law, result.source)
    values = {name: np.array([value]) for name, value in estimates(result).items()}
    point = {name: rows[0] for name, rows in optimum_on_budgets(law, values, budgets).items()}
    if not np.all(np.isfinite(point["N"])):
        constants = ", ".join(f"{name} {value[0]:.4g}" for name, value in values.items())
        raise InputError(result.source, "parameters", constants, "positive exponents, without which no optimum exists")
    table = pd.DataFrame({"flops": budgets})
    within = {name: np.asarray(values) for name, values in result.confidence_set.items()}
    optima = optimum_on_budgets(law, within, budgets) if within else {}
    for name, values in point.items():
        low, high = ranges(optima[name]) if within else np.full((2, len(budgets)), np.nan)
        table = table.assign(**{name: values, f"{name}_low": low, f"{name}_high": high})
    exponents = {}
    if law.optimum is not None:
        names = ("N_exponent", "N_exponent_low", "N_exponent_high")
        estimate, low, high = (float(table[name].iloc[0]) for name in names)
        exponents = {"N": _exponent(estimate, low, high), "D": _exponent(1.0 - estimate, 1.0 - high, 1.0 - low)}
    method = f"approach 3, {result.formula}, status {result.status}"
    known = result.extrapolation
    far = beyond(budgets, known.largest, "budget") if known else ()
    warnings = (*result.warnings, *far, *_doubtful_answers(table, result.largest))
    return Allocation(method, SIX_ND, result.rows, exponents, pd.DataFrame(), table, warnings)


def _doubtful_answers(table: pd.DataFrame, largest: Mapping[str, float]) -> Iterator[FitWarning]:
    """Warn of optimal sizes that are out of proportion, or far above the measured ones."""
    return doubtful_points({role: table[role].to_numpy(float) for role in ("N", "D")}, largest, optimal=True)


def _optima_table(optima: BudgetOptima) -> pd.DataFrame:
    (n_low, n_high), n, d = limits(optima.log_n_draws), np.exp(optima.log_n), np.exp(optima.log_d)
    return pd.DataFrame(
        {"flops": optima.flops, "N": n, "N_low": np.exp(n_low), "N_high": np.exp(n_high), "D": d,
         "tokens_per_parameter": d / n, "loss": optima.loss, "weight": optima.weights}
    )  # fmt: skip


def _exponent(estimate: float, low: float, high: float) -> Exponent:
    return Exponent(*(value if np.isfinite(value) else None for value in (estimate, low, high)))
