"""`isogap report`: a sweep's folder, a simulated table, or anyone's table, as one page of HTML."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from harness.files import open_folder, write_text
from harness.fit.known_truth import path_of, read_truth
from harness.fit.laws.registry import get_law
from harness.gaps.roles import is_runs_table
from harness.report.gather import read_any_table, read_sweep, records_of_table
from harness.report.judged import judge_any_table, judge_simulated_table, judge_sweep
from harness.report.page import page
from harness.report.simulated import oracle_page
from harness.report.table_page import table_page
from harness.source import RunSource
from harness.tables.files import read_file
from sweeps.errors import InputError

# A refusal names so many columns of a table; that of a study's table has some 85.
SHOWN_COLUMNS = 12


def write_report(
    source: RunSource,
    to: Path | None = None,
    *,
    law: str | None = None,
    bootstrap: int = 100,
    nulls: bool = True,
    **reading: Any,
) -> Path:
    """Read the runs, judge or fit them, and write everything known of them as one file that needs nothing else.

    Args:
        source: a sweep's folder, any number of its runs finished; a table of `isogap simulate`, its truth beside it;
            or, with a law, any source of runs.
        to: the page; by default DIR/report.html, of a sweep with a law DIR/LAW.html, or the table's name with .html.
        law: the law to fit. Without it a sweep's page is the verdict on its gaps, a simulated table's the fit of its
            true law; any other table needs one.
        bootstrap: number of cluster bootstrap draws for the intervals; without a law only, as the next.
        nulls: whether to also judge simulated gaps with a known answer.
        reading: how the columns are read, with a law: the keyword arguments of `harness.source.read_runs`.

    Returns:
        the page's path.

    Raises:
        InputError: a source that cannot be read or fitted, or a page that is a folder or does not end in .html.
    """
    if to is not None and to.suffix not in (".html", ".htm"):
        raise InputError("--to", "value", str(to), "a name that ends in .html")
    place = None if isinstance(source, pd.DataFrame) else open_folder(str(source))
    path = to or _usual_page(place, law)
    if path.is_dir():
        raise InputError("--to", "value", str(path), "a file, and it is a folder")
    if law is not None:
        records = read_any_table(source, law, **reading)
        text = table_page(records, judge_any_table(records))
    elif place is None:
        raise InputError("report", "law", None, "a law to fit to the table; `laws()` lists them")
    elif any(reading.values()):
        asked = ", ".join(f"--{name}" for name, value in reading.items() if value)
        raise InputError("report", "--law", f"none beside {asked}", "a law; its page is what they change")
    elif place.is_dir():
        records = read_sweep(place)
        text = page(records, judge_sweep(records.runs, place, bootstrap=bootstrap, nulls=nulls))
    else:
        text = _simulated_page(place, bootstrap, nulls)
    write_text(path, text)
    return path


def _usual_page(source: Path | None, law: str | None) -> Path:
    """Where a page is written if nobody says: in the sweep's folder, or beside the table."""
    if source is None or str(source) == "-":
        raise InputError("report", "--to", None, "FILE.html, for a table that is not a file")
    if source.is_dir():
        # A law may be an expression, which holds slashes and asterisks.
        return source / ("report.html" if law is None else f"{re.sub(r'[^A-Za-z0-9_.=-]+', '_', law).strip('_')}.html")
    return source.with_suffix(".html")


def _simulated_page(source: Path, bootstrap: int, nulls: bool) -> str:
    """The page of a table of `isogap simulate`.

    Raises:
        InputError: no such file, or a table without a truth beside it.
    """
    table = read_file(source)
    if not path_of(source).is_file():
        names = [str(name) for name in table.columns]
        columns = ", ".join(names[:SHOWN_COLUMNS] + ["..."] * (len(names) > SHOWN_COLUMNS))
        expected = f"a law to fit to the columns {columns}, such as chinchilla (`isogap laws` lists them)"
        if {"block", "run_id"} <= set(names):
            expected += "; or, to judge the table of a study, its study.yaml beside it"
        raise InputError(source, "--law", None, expected)
    truth = read_truth(path_of(source))
    if not is_runs_table(table):
        raise InputError(source, "columns", ", ".join(map(str, table.columns)), "those of `isogap simulate`")
    if not get_law(truth.law).contrast:
        return oracle_page(source, table, truth, bootstrap=bootstrap)
    judged = judge_simulated_table(source, table, truth, bootstrap=bootstrap, nulls=nulls)
    return page(records_of_table(source.name, table, truth), judged)
