"""`isogap report`: a sweep's folder as one page of HTML."""

from pathlib import Path

from harness.record.files import write_text
from harness.report.gather import gather
from harness.report.page import page


def write_report(out: Path, to: Path | None = None, *, bootstrap: int = 100, nulls: bool = True) -> Path:
    """Judge a sweep's gaps and write everything known of the sweep as one file that needs nothing else.

    Args:
        out: the sweep's folder; any number of its runs may be finished.
        to: the page; DIR/report.html by default.
        bootstrap: cluster bootstrap draws behind the intervals.
        nulls: whether to put simulated truths to the same rule.

    Returns:
        the page's path.

    Raises:
        InputError: the folder holds no sweep.
    """
    path = out / "report.html" if to is None else to
    write_text(path, page(gather(out, bootstrap=bootstrap, nulls=nulls)))
    return path
