"""The tables of `isogap universality` for a terminal."""

import io

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.fit.results.result import Estimate, number, span
from harness.fit.shared.universality import Universality

WIDTH = 120


def _table(title: str, *headings: str) -> Table:
    """Text to the left in the first column, numbers to the right in the others."""
    table = Table(title=title, title_justify="left")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", overflow="fold")
    return table


def _cells(*values: str) -> tuple[Text, ...]:
    return tuple(map(Text, values))  # markup would swallow an interval


def _estimate(value: Estimate) -> str:
    if not value.identified:
        return "not identified"
    return f"{number(value.estimate)} {span(value.ci_low, value.ci_high)}"


def _models(found: Universality) -> Table:
    table = _table("nested models", "model", "own per group", "directions", "log L", "AICc above best")
    for model in found.models:
        numbers = (str(model.degrees), f"{model.log_likelihood:.2f}", f"{model.delta_aicc:.1f}")
        table.add_row(*_cells(model.id, ", ".join(model.own) or "nothing", *numbers))
    return table


def _tests(found: Universality) -> Table:
    table = _table("likelihood ratios against their simulated distributions", "smaller", "larger", "ratio", "mean", "p")
    for step in found.tests:
        numbers = (f"{step.likelihood_ratio:.2f}", f"{step.reference:.2f}", f"{step.p_value:.2g}")
        table.add_row(*_cells(step.smaller, step.larger, *numbers))
    return table


def _differences(found: Universality) -> Table:
    table = _table(
        f"differences: equal if the 90 % interval lies within {found.margin:g} of 0",
        "exponent", "groups", "difference", "90 % interval", "equal", "power", "margin shown",
    )  # fmt: skip
    for d in found.differences:
        groups = f"{d.groups[0]} - {d.groups[1]}"
        if not d.identified:
            table.add_row(*_cells(d.quantity, groups, "not identified", "", "", "", ""))
            continue
        said = "yes" if d.equivalent else "differs" if d.differs else "open"
        interval = span(d.ci_low, d.ci_high)
        numbers = (number(d.difference), interval, said, f"{d.power:.0%}", number(d.margin_shown))
        table.add_row(*_cells(d.quantity, groups, *numbers))
    return table


def _ratios(found: Universality) -> Table:
    table = _table("prefactors, the exponents being shared", "model", "ratio", "", "95 % interval")
    for ratio in found.ratios:
        name = f"{ratio.parameter}: {ratio.groups[0]} / {ratio.groups[1]}"
        known = ratio.ratio is not None
        value = number(ratio.ratio) if known else "not identified"
        table.add_row(*_cells(ratio.model, name, value, span(ratio.ci_low, ratio.ci_high) if known else ""))
    return table


def _estimates(found: Universality) -> Table:
    table = _table("fitted apart, with 95 % intervals", "group", "rows", *found.shared)
    for group, values in found.estimates.items():
        table.add_row(*_cells(group, str(found.groups[group]), *map(_estimate, values.values())))
    table.add_row(*_cells("(together)", str(found.rows), *map(_estimate, found.shared.values())))
    return table


def render_universality(found: Universality) -> str:
    """Everything as text."""
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    console.print(f"{found.law} by {found.by}: {found.verdict}: {found.reason}", markup=False, highlight=False)
    for table in (_estimates(found), _models(found), _tests(found), _differences(found), _ratios(found)):
        if table.row_count:
            console.print(table)
    for warning in found.warnings:
        console.print(f"warning ({warning.code}): {warning.message}", markup=False)
    return console.export_text()
