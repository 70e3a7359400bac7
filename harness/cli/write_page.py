"""`isogap report`: one page with the verdict, the figures, the runs and the provenance."""

from pathlib import Path

from harness.files import open_folder
from harness.report.write import write_report
from harness.terminal import working


def write_page(source: str, to: Path | None) -> None:
    """Write the page of a sweep's folder or of a simulated table, and print where it is."""
    with working("fitting the laws and drawing the page"):
        path = write_report(open_folder(source), to)
    print(path)
