"""The page of a simulated table: the truth of its world, the fit of its true law, and how to repeat both."""

from html import escape
from pathlib import Path

import pandas as pd

from harness.fit.known_truth import Truth, fit_command, path_of, truth_table
from harness.fit.laws.registry import get_law
from harness.fit.results.result import FitResult
from harness.gaps.roles import roles_for_runs
from harness.report.gather import records_of_table
from harness.report.judged import fit_true_law
from harness.report.oracle_figures import FIGURES
from harness.report.page_tables import facts_table, html_table, runs_html
from harness.report.shell import PlacedFigures, prose_html, shell
from sweeps.errors import InputError


def truth_section(truth: Truth, fitted: FitResult) -> str:
    """Write the regime, the true law, and its true constants beside those of its fit."""
    only = "" if truth.where is None else f" (rows with <code>{escape(truth.where)}</code>)"
    table = truth_table(fitted.truth, truth)
    regime, status = truth.regime[0].upper() + truth.regime[1:].rstrip("."), fitted.status.value.replace("_", " ")
    return (
        f"<p>{prose_html(regime)}.</p><p>Constants are known of the law <code>{escape(truth.law)}</code>{only},"
        f" <code>{prose_html(get_law(truth.law).formula)}</code>. Fitted to {fitted.rows} rows (status {status}):</p>"
        + html_table(table.columns, table.rows)
    )


def provenance_of_table(name: str, truth: Truth) -> str:
    """Write the settings and the cost of the simulation, and the commands that fit the table."""
    commands = [fit_command(name, truth), f"isogap report {name}"]
    return (
        f"<p>Simulated by the oracle <code>{escape(truth.oracle)}</code>: {escape(truth.cost)}.</p>"
        + facts_table(dict(truth.settings))
        + f"<pre>{escape(chr(10).join(commands))}</pre>"
    )


def oracle_page(source: Path, table: pd.DataFrame, truth: Truth, *, bootstrap: int = 100) -> str:
    """Write the page of a table whose law predicts something other than a gap: its figures, its truth and its rows.

    Raises:
        InputError: an unknown oracle, or a table that it did not make.
    """
    if truth.oracle not in FIGURES:
        raise InputError(path_of(source), "oracle", truth.oracle, f"one of {', '.join(FIGURES)}")
    try:
        title, drawings = FIGURES[truth.oracle](table, truth)
    except KeyError as error:
        raise InputError(source, "table or truth", "another", f"{error.args[0]}, as {truth.oracle} gives it") from None
    try:
        text = truth_section(truth, fit_true_law(source, roles_for_runs(table)[0], truth, bootstrap=bootstrap))
    except InputError as error:  # a small table is drawn all the same
        text = f"<p>The law {escape(truth.law)} cannot be fitted to this table: {escape(str(error))}.</p>"
    placed = PlacedFigures()
    figures = "".join(placed.place(figure, caption) for figure, caption in drawings)
    kicker = f"isogap report on a simulated table <b>{escape(source.name)}</b>, {len(table)} rows"
    sections = [
        ("figures", "", f'<div class="pair">{figures}</div>'),
        ("truth", "The truth", text),
        ("rows", "All rows", runs_html(records_of_table(source.name, table, truth).runs)),
        ("provenance", "Provenance", provenance_of_table(source.name, truth)),
    ]
    return shell(source.name, kicker, title, sections)
