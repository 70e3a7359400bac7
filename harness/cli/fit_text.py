"""The text of a fit for a terminal: its parameters, its quality, and the known truth of a simulated table beside it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.fit.known_truth import HEADINGS, Truth, truth_cells
from harness.fit.problem.fit_status import FitWarning
from harness.fit.results.result import FitResult, HeldOutErrors, Scatter, TruthCheck, estimate_cells, number, span


def _listed(values: Scatter | HeldOutErrors, unknown: bool = False) -> str:
    """Names with numbers; those that are not known are left out, or stand as dashes."""
    shown = asdict(values).items()
    return ", ".join(f"{key} {number(value)}" for key, value in shown if unknown or value is not None)


def parameter_table(result: FitResult) -> Table:
    """Estimates with errors; `not identified` stands in the place of a number that the data do not give."""
    table = Table(title=Text(f"{result.law}: {result.formula}", "italic"), title_justify="left")
    for heading in ("parameter", "estimate", "s.e.", "95 % interval", "published"):
        table.add_column(heading, justify="left" if heading == "parameter" else "right")
    profiled = any(
        value.profile_low is not None or value.profile_high is not None for value in result.parameters.values()
    )
    if profiled:
        table.add_column("profile", justify="right")
    for name, value in result.parameters.items():
        more = (Text(span(value.profile_low, value.profile_high)),) if profiled else ()
        cells = map(Text, (name, *estimate_cells(value)))  # markup would swallow an interval
        table.add_row(*cells, number(value.published), *more)
    for name, value in result.combinations.items():
        table.add_row(*map(Text, (name, *estimate_cells(value))), number(value.published))
    return table


def render_fit(result: FitResult, width: int = 110) -> str:
    """A fit as text for a terminal."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(parameter_table(result))
    minimum = result.objective
    console.print(
        f"status {result.status}; {result.rows} rows; {minimum.name} {minimum.value:.6g}; "
        f"{minimum.starts_within_1_percent:.0%} of {minimum.starts} starts within 1 % of the best"
    )
    console.print(f"scatter: {_listed(result.scatter)}")
    if result.holdout.rows:
        console.print("held out: " + _listed(result.holdout, unknown=True))
    if result.robustness is not None:
        others = len(result.sensitivity) - 1
        console.print(f"{result.robustness.verdict} under {others} other choices:", markup=False)
        for name, (low, at_low, high, at_high) in result.robustness.ranges.items():
            console.print(f"  {name}: {number(low)} ({at_low}) to {number(high)} ({at_high})", markup=False)
    beyond = result.extrapolation
    if beyond is not None and beyond.mean_abs_relative_error is not None:
        console.print(
            f"extrapolation: fits to the smaller runs meet {beyond.rows} up to {beyond.reach:.3g} times larger to "
            f"{beyond.mean_abs_relative_error:.2%} on average"
        )
    for warning in result.warnings:
        console.print(f"warning ({warning.code}): {warning.message}", markup=False)
    return console.export_text()


def render_groups(fits: Mapping[str, FitResult], pooled: HeldOutErrors, warnings: Sequence[FitWarning]) -> str:
    """Fits of several groups as text: a line a group, then the errors on all held-out rows together."""
    console = Console(width=160, record=True, file=io.StringIO())
    first = next(iter(fits.values()))
    table = Table(title=f"{first.law}: {first.formula}", title_justify="left")
    names = list(dict.fromkeys(name for result in fits.values() for name in result.parameters))
    for heading in ("group", "rows", "status", *names, "r2 held out"):
        table.add_column(heading, justify="left" if heading in ("group", "status") else "right")
    for group, result in fits.items():
        cells = []
        for name in names:
            value = result.parameters.get(name)
            known = value is not None and value.identified
            cells.append(f"{number(value.estimate)} +- {number(value.se)}" if known and value is not None else "-")
        table.add_row(Text(group), str(result.rows), result.status, *cells, number(result.holdout.r2))
    console.print(table)
    if pooled.rows:
        console.print("held out, all groups: " + _listed(pooled, unknown=True))
    for warning in warnings:
        console.print(f"warning ({warning.code}): {warning.message}", markup=False)
    return console.export_text()


def render_truth(checks: Sequence[TruthCheck], truth: Truth) -> str:
    """The comparison as text for a terminal."""
    console = Console(width=110, record=True, file=io.StringIO())
    table = Table(title=Text(f"beside the truth of {truth.oracle}: {truth.regime}", "italic"), title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "constant" else "right")
    for row in checks:
        table.add_row(*map(Text, truth_cells(row)))
    console.print(table)
    return console.export_text()
