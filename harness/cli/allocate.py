"""`isogap allocate`: compute-optimal sizes of a stored fit, or of a table of runs by one of three approaches."""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.files import open_folder
from harness.fit.allocation.isoflop import isoflop_optima
from harness.fit.allocation.lines import (
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
from harness.fit.allocation.parametric import allocate_by_fit, loss_law
from harness.fit.fitting import fit
from harness.fit.problem.columns import column_of
from harness.fit.problem.fit_warning import FitWarning
from harness.fit.result import FitResult, number, span
from harness.fit.table import read_table
from harness.source import parse_roles, read_fit, read_runs
from harness.terminal import print_rows, working
from sweeps.errors import InputError

_METHODS = {1: ("envelope", "hull"), 2: ("akima", "quadratic"), 3: ()}
_REPLICATES = {1: 1000, 2: 1000, 3: 200}


@dataclass(frozen=True)
class Allocation:
    """What an approach says.

    Attributes:
        method: how it went about it, in words.
        counted: how the FLOPs of the budgets are counted.
        exponents: of N* and D* in C, by approaches 1 and 2, or 3 where they do not depend on C: estimate and limits.
        optima: of the measured budgets, by approaches 1 and 2.
        budgets: the answer, a row per budget asked for.
    """

    method: str
    counted: str
    rows: int
    exponents: dict[str, dict[str, float | None]]
    optima: list[dict[str, Any]]
    budgets: list[dict[str, Any]]
    warnings: tuple[FitWarning, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "warnings": [vars(warning) for warning in self.warnings]}


def answer(
    source: str, approach: int | None, flops: Sequence[float], set_: Sequence[str], where: str | None, *,
    z: float | None = None, anchor: float | None = None, json_: str | None = None, **options: Any,
) -> None:  # fmt: skip
    """The command: allocate, print, write.

    Args:
        source: FIT.json, or what `from_runs` reads.
        z, anchor: add `shifted`.
        json_: a file for JSON, or `-` for the terminal in place of the tables.
        options: of `from_runs`.

    Raises:
        InputError: unusable input.
    """
    _check_shift(z, anchor)
    check_budgets(list(flops))
    if source.endswith(".json"):
        if approach not in (None, 3) or set_ or where:
            raise InputError("allocate", "SOURCE", source, "a table of runs for --approach 1 or 2, --set or --where")
        result, found = read_fit(Path(source)), None
        rows = shifted(_rows(allocate_by_fit(result, list(flops))), z, anchor)
        if json_ != "-":
            print(_about_fit(result) + f"; C is {SIX_ND}")
    else:
        # What was dropped of the table is printed, and is no JSON.
        with redirect_stdout(sys.stderr) if json_ == "-" else nullcontext(), working("fitting"):
            found = from_runs(open_folder(source), approach, flops, set_, where, **options)
        found = replace(found, budgets=shifted(found.budgets, z, anchor))
        rows = found.budgets
    if json_ != "-":
        print_allocation(found) if found else print_budgets(rows)
        if z is not None and anchor is not None:
            print(about_shift(z, anchor))
    if json_:
        text = json.dumps(found.to_dict() if found else rows, indent=1, allow_nan=False)
        print(text) if json_ == "-" else Path(json_).write_text(text)


def from_runs(
    source: Path, approach: int | None, flops: Sequence[float], settings: Sequence[str], where: str | None, *,
    method: str | None = None, noise: str | None = None, law: str = "chinchilla", bootstrap: int | None = None,
    estimator: str = "best", units: str = "tokens",
) -> Allocation:  # fmt: skip
    """The budgets by approach 1, 2 or 3, from runs with columns in the roles N, D, L, and flops and run if there are.

    Raises:
        InputError: unusable rows, or an option that the approach does not take.
    """
    if approach not in _METHODS:
        raise InputError("--approach", "value", approach, "1 (lower edge), 2 (isoFLOP profiles) or 3 (fitted loss)")
    if method is not None and method not in _METHODS[approach]:
        known = " or ".join(_METHODS[approach]) or "none with approach 3"
        raise InputError("--method", "value", method, known)
    if noise is not None and approach != 2:
        raise InputError("--noise", "value", noise, "none but with --approach 2")
    if approach == 3:
        loss_law(law, "--law")
    draws = _REPLICATES[approach] if bootstrap is None else bootstrap
    frame = read_runs(
        source, law if approach == 3 else "chinchilla", set=parse_roles(settings), where=where, estimator=estimator,
        units=units, tell=print,
    )  # fmt: skip
    if approach == 3:
        warnings = check_design(frame["N"].to_numpy(float), frame["D"].to_numpy(float), str(source))
        result = fit(law, frame, bootstrap=draws, sensitivity=False, source=str(source))
        found = allocate_by_fit(result, list(flops))
        return Allocation(
            _about_fit(result),
            SIX_ND,
            result.rows,
            _exponents_of(result, found),
            [],
            _rows(found),
            (*warnings, *result.warnings),
        )
    runs = runs_to_allocate(frame, str(source))
    if approach == 1:
        edge = lower_edge(runs, method or _METHODS[1][0], draws, source=str(source))
    else:
        sd = None if noise is None and "L_se" not in frame else _noise(noise, frame, str(source))
        edge = isoflop_optima(runs, sd, method or _METHODS[2][0], draws, source=str(source))
    table, warnings = at_budgets(edge, list(flops))
    exponents = {name: _exponent(line.exponent, line.draws[:, 1]) for name, line in (("N", edge.n), ("D", edge.d))}
    return Allocation(
        edge.method, runs.counted, len(frame), exponents, _rows(_optima(edge)), _rows(table),
        (*edge.warnings, *warnings),
    )  # fmt: skip


def _about_fit(result: FitResult) -> str:
    return f"approach 3, {result.formula}, status {result.status}"


def _noise(noise: str | None, frame: pd.DataFrame, source: str) -> np.ndarray:
    """The sd of each loss: the column L_se, one number, or a file of `loss` and `sd`, between whose rows log sd is
    linear in log loss and beyond whose ends it stays."""
    if noise is None:
        return column_of(frame, "L_se", source)
    loss = column_of(frame, "L", source)
    try:
        sd = float(noise)
    except ValueError:
        table = read_table(Path(noise))[0]
        known, sds = (np.log(column_of(table, name, noise)) for name in ("loss", "sd"))
        order = np.argsort(known)
        return np.exp(np.interp(np.log(loss), known[order], sds[order]))
    if not 0 <= sd < np.inf:
        raise InputError("--noise", "sd", noise, "a standard deviation in nats, or a CSV of loss and sd")
    return np.full(len(loss), sd)


def _optima(edge: BudgetOptima) -> pd.DataFrame:
    (n_low, n_high), n, d = limits(edge.log_n_draws), np.exp(edge.log_n), np.exp(edge.log_d)
    return pd.DataFrame(
        {"flops": edge.flops, "N": n, "N_low": np.exp(n_low), "N_high": np.exp(n_high), "D": d,
         "tokens_per_parameter": d / n, "loss": edge.loss, "weight": edge.weights}
    )  # fmt: skip


def _exponent(estimate: float, draws: np.ndarray) -> dict[str, float | None]:
    low, high = (float(limit[0]) for limit in limits(draws[:, None]))
    return {name: v if np.isfinite(v) else None for name, v in (("estimate", estimate), ("low", low), ("high", high))}


def _exponents_of(result: FitResult, found: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Of a law whose exponents are the same at every budget; other laws have them in the rows of the budgets."""
    if result.law != "chinchilla":
        return {}
    first = found.iloc[0]
    a = {name: first[f"N_exponent{end}"] for name, end in (("estimate", ""), ("low", "_low"), ("high", "_high"))}
    a = {name: float(value) if np.isfinite(value) else None for name, value in a.items()}
    flipped = {"estimate": a["estimate"], "low": a["high"], "high": a["low"]}
    return {"N": a, "D": {name: None if value is None else 1.0 - value for name, value in flipped.items()}}


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(name): value if np.isfinite(value) else None for name, value in row.items()}
        for row in table.to_dict("records")
    ]


def _check_shift(z: float | None, anchor: float | None) -> None:
    """Before the work: it takes minutes, and an option is wrong at once."""
    if (z is None) != (anchor is None):
        raise InputError("allocate", "--z, --anchor", (z, anchor), "both: the shift depends on where the rules agree")
    if z is not None and anchor is not None:
        shift_from_half(1.0, z, anchor)


def shifted(rows: list[dict[str, Any]], z: float | None, anchor: float | None) -> list[dict[str, Any]]:
    """The rows with `z_factor`, how many times larger N is at each budget under D ~ N^z than under D ~ N."""
    if z is None or anchor is None:
        return rows
    factors = shift_from_half([row["flops"] for row in rows], z, anchor)
    return [row | {"z_factor": float(factor)} for row, factor in zip(rows, factors, strict=True)]


def about_shift(z: float, anchor: float) -> str:
    """What the factors of `shifted` mean and what they do not."""
    a = 1.0 / (1.0 + z)
    return (
        f"D = kappa N^{z:g} at C = 6 N D: N ~ C^{a:.4f}, D ~ C^{1 - a:.4f}, where D ~ N has C^0.5. In N that is a "
        f"factor (C/{anchor:.3g})^{a - 0.5:.4f} if the two agree at {anchor:.3g} FLOPs: x{2 ** (a - 0.5):.3f} per "
        f"doubling of C, x{10 ** (a - 0.5):.3f} per decade. It depends on that anchor, so that no one percentage "
        "describes it; and it is no optimum: holding D/N^z fixed minimises no loss."
    )


def print_allocation(found: Allocation) -> None:
    """Exponents, the optima of measured budgets, the budgets asked for, and what to beware of."""
    print(f"{found.method}; {found.rows} rows; C is {found.counted}")
    for name, value in found.exponents.items():
        print(f"{name}* ~ C^{number(value['estimate'])}, 95 % interval {span(value['low'], value['high'])}")
    if found.optima:
        print_rows(_with_spans(found.optima), "optima of the measured budgets")
    print_budgets(found.budgets)
    for warning in found.warnings:
        print(f"warning ({warning.code}): {warning.message}")


def print_budgets(rows: list[dict[str, Any]]) -> None:
    print_rows(_with_spans(rows), "compute-optimal sizes, with 95 % intervals")


def _with_spans(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """NAME, NAME_low and NAME_high as one text."""

    def cell(row: dict[str, Any], name: str) -> Any:
        low = row.get(f"{name}_low")
        return row[name] if low is None else f"{number(row[name])} {span(low, row[f'{name}_high'])}"

    return [{name: cell(row, name) for name in row if not name.endswith(("_low", "_high"))} for row in rows]
