"""The page of a simulated table whose law is not of a gap: its figures, its truth, its rows."""

from html import escape
from pathlib import Path

import pandas as pd

from harness.fit.truth import Truth
from harness.report import tables
from harness.report.gather import fit_true
from harness.report.oracle_figures import FIGURES
from harness.report.shell import Drawn, shell
from harness.report.truth import provenance_of_table, truth_section


def oracle_page(source: Path, table: pd.DataFrame, truth: Truth, *, bootstrap: int = 100) -> str:
    """The whole page as HTML.

    Raises:
        InputError: the law of the truth cannot be fitted to the table.
    """
    drawn = Drawn()
    title, drawings = FIGURES[truth.oracle](table, truth)
    figures = "".join(drawn.place(figure, caption) for figure, caption in drawings)
    kicker = f"isogap report on a simulated table <b>{escape(source.name)}</b>, {len(table)} rows"
    sections = [
        ("figures", "Figures", f'<div class="pair">{figures}</div>'),
        ("truth", "The truth", truth_section(truth, fit_true(source, table, truth, bootstrap=bootstrap))),
        ("rows", "All rows", tables.runs_html(table)),
        ("provenance", "Provenance", provenance_of_table(source.name, truth)),
    ]
    return shell(source.name, kicker, title, sections)
