"""`isogap export` and `report`: one of a sweep's tables as a file, and the page of a sweep or of a table."""

from collections.abc import Sequence
from pathlib import Path

from harness.files import open_folder
from harness.fit.laws.held import parse_held, with_held
from harness.gaps.cells import cells_table
from harness.gaps.ensembles import ensembles_table
from harness.record.table import check_ending, export, write_table
from harness.source import parse_roles
from harness.study.studies import study_of
from harness.terminal import working
from sweeps.errors import InputError

TABLES = ("runs", "cells", "series", "evals", "documents", "ensembles")


def write_export(out: str, what: str, to: Path) -> str:
    """Write a table, and say how many rows it has.

    Raises:
        InputError: another table, no sweep, or an ending that is neither .csv nor .parquet.
    """
    if what not in TABLES:
        raise InputError("--what", "value", what, ", ".join(TABLES))
    check_ending(to)
    folder = open_folder(out)
    if what == "cells":
        rows = write_table(cells_table(folder), to)
    elif what == "ensembles":
        rows = write_table(ensembles_table(folder), to)
    else:
        rows = export(folder, what, to)
    return f"{rows} rows in {to}"


def write_page(
    source: str, law: str | None, set_: Sequence[str], fix: Sequence[str], where: str | None, holdout: str | None,
    to: Path | None,
) -> Path:  # fmt: skip
    """Write the page, and say where it is.

    Raises:
        InputError: unusable options or rows.
    """
    if fix and law is None:
        raise InputError("--fix", "value", ", ".join(fix), "none without --law")
    if law is None and study_of(Path(source)) is not None:
        from harness.cli.study import print_found
        from harness.study.judges import report_study

        with working("judging the study and drawing its page"):
            page = report_study(Path(source), to)
        print_found(page)
        return page
    law = law if law is None else with_held(law, parse_held(fix))
    with working("fitting the laws and drawing the page"):
        from harness.report.write import write_report  # JAX and plotly, which an export does not need

        return write_report(source, to, law=law, set=parse_roles(set_), where=where, holdout=holdout)
