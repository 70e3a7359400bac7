"""A simulated table's world on the page: what is true, what a fit of the true law made of it, how to repeat it."""

from html import escape

from harness.fit.laws.law import get_law
from harness.fit.result import FitResult
from harness.fit.truth import HEADINGS, Found, Truth, cells, fit_command
from harness.report import tables
from harness.report.shell import prose


def truth_section(truth: Truth, fitted: FitResult) -> str:
    """The regime, the true law, its true constants beside those of its fit."""
    rows = [cells(Found(**found)) for found in fitted.truth]
    only = "" if truth.where is None else f" (rows with <code>{escape(truth.where)}</code>)"
    regime, status = truth.regime[0].upper() + truth.regime[1:].rstrip("."), fitted.status.value.replace("_", " ")
    return (
        f"<p>{prose(regime)}.</p><p>Constants are known of the law <code>{escape(truth.law)}</code>{only},"
        f" <code>{prose(get_law(truth.law).formula)}</code>. Fitted to {fitted.rows} rows (status {status}):</p>"
        + tables.table(HEADINGS, rows)
    )


def provenance_of_table(name: str, truth: Truth) -> str:
    """What the simulator was asked for, what it took, and how to fit the table."""
    commands = [fit_command(name, truth), f"isogap report {name}"]
    return (
        f"<p>Simulated by the oracle <code>{escape(truth.oracle)}</code>: {escape(truth.cost)}.</p>"
        + tables.facts_table(dict(truth.settings))
        + f"<pre>{escape(chr(10).join(commands))}</pre>"
    )
