"""`isogap report`: a sweep's folder, or a simulated table, as one page of HTML."""

from pathlib import Path

from harness.files import write_text
from harness.fit.known_truth import path_of, read_truth
from harness.fit.laws.registry import get_law
from harness.gaps.roles import is_runs_table
from harness.report.gather import read_sweep, records_of_table
from harness.report.judged import judge_simulated_table, judge_sweep
from harness.report.page import page
from harness.report.simulated import oracle_page
from harness.tables.files import read_file
from sweeps.errors import InputError


def write_report(source: Path, to: Path | None = None, *, bootstrap: int = 100, nulls: bool = True) -> Path:
    """Read the runs, judge their gaps, and write everything known of them as one file that needs nothing else.

    Args:
        source: a sweep's folder, any number of its runs finished; or a table of `isogap simulate`, its truth beside it.
        to: the page; by default DIR/report.html, or the table's name with .html.
        bootstrap: number of cluster bootstrap draws for the intervals.
        nulls: whether to also judge simulated gaps with a known answer.

    Returns:
        the page's path.

    Raises:
        InputError: a folder that holds no sweep, or a file that is not a simulated table.
    """
    if source.suffix not in (".csv", ".parquet"):
        path = source / "report.html" if to is None else to
        records = read_sweep(source)
        text = page(records, judge_sweep(records.runs, source.name, bootstrap=bootstrap, nulls=nulls))
    else:
        path = source.with_suffix(".html") if to is None else to
        table, truth = read_file(source), read_truth(path_of(source))
        if not is_runs_table(table):
            raise InputError(source, "columns", ", ".join(map(str, table.columns)), "those of `isogap simulate`")
        if get_law(truth.law).contrast:
            judged = judge_simulated_table(source, table, truth, bootstrap=bootstrap, nulls=nulls)
            text = page(records_of_table(source.name, table, truth), judged)
        else:
            text = oracle_page(source, table, truth, bootstrap=bootstrap)
    write_text(path, text)
    return path
