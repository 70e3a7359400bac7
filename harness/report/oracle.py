"""The page of a simulated table whose law is not of a gap: its figures, its truth, its rows."""

from html import escape
from pathlib import Path

import pandas as pd

from harness.fit.table import roles_for_runs
from harness.fit.truth import Truth, path_of
from harness.report import tables
from harness.report.gather import fit_true
from harness.report.oracle_figures import FIGURES
from harness.report.shell import Drawn, shell
from harness.report.truth import provenance_of_table, truth_section
from sweeps.errors import InputError


def oracle_page(source: Path, table: pd.DataFrame, truth: Truth, *, bootstrap: int = 100) -> str:
    """The whole page as HTML.

    Raises:
        InputError: no such oracle, or a table that is not of it.
    """
    drawn = Drawn()
    if truth.oracle not in FIGURES:
        raise InputError(path_of(source), "oracle", truth.oracle, f"one of {', '.join(FIGURES)}")
    try:
        title, drawings = FIGURES[truth.oracle](table, truth)
    except KeyError as error:
        raise InputError(source, "table or truth", "another", f"{error.args[0]}, as {truth.oracle} gives it") from None
    try:
        told = truth_section(truth, fit_true(source, roles_for_runs(table)[0], truth, bootstrap=bootstrap))
    except InputError as error:  # a small table is drawn all the same
        told = f"<p>The law {escape(truth.law)} cannot be fitted to this table: {escape(str(error))}.</p>"
    figures = "".join(drawn.place(figure, caption) for figure, caption in drawings)
    kicker = f"isogap report on a simulated table <b>{escape(source.name)}</b>, {len(table)} rows"
    sections = [
        ("figures", "", f'<div class="pair">{figures}</div>'),
        ("truth", "The truth", told),
        ("rows", "All rows", tables.runs_html(table)),
        ("provenance", "Provenance", provenance_of_table(source.name, truth)),
    ]
    return shell(source.name, kicker, title, sections)
