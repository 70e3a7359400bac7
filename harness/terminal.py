"""Text for a terminal: rows in columns, a spinner, durations."""

import datetime
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

# After so long work that shows no spinner says what it does: longer than most work takes.
SAY_SECONDS = 10.0


def _text(value: Any) -> str:
    """A value as a cell shows it: four significant digits, or commas between thousands."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_rows(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """Print rows with the same keys as a table, numbers aligned to the right."""
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        numeric = all(isinstance(row[name], int | float) or row[name] is None for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    console = Console(markup=False)  # a reason or a path may contain brackets, which are not markup
    # A terminal folds a table that is wider than itself; a pipe or a file gets the whole width.
    (console if console.is_terminal else Console(width=200, markup=False)).print(table)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show a spinner with the time spent, for work whose length is not known; on stderr.

    Where that is no terminal, a line says so once, if the work takes long.
    """
    columns, console = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()), Console(stderr=True)
    late = threading.Timer(SAY_SECONDS, console.print, [f"{what} ..."], {"markup": False, "soft_wrap": True})
    late.daemon = True
    if not console.is_terminal:
        late.start()
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            progress.add_task(what, total=None)
            yield
    finally:
        late.cancel()


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Format rows with the same keys in columns, one line per row: 10,000 rows in 0.1 s (20 s with rich)."""
    texts = [tuple(rows[0]), *(tuple(map(_text, row.values())) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    right = [all(isinstance(row[name], int | float | None) for row in rows) for name in rows[0]]
    line = "  ".join(f"{{:{'>' if side else '<'}{width}}}" for side, width in zip(right, widths, strict=True))
    return [line.format(*text).rstrip() for text in texts]


def print_lines(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows in columns below a title; nothing without rows."""
    if rows:
        print("\n".join([title, *lines(rows), ""]))


def duration(seconds: float) -> str:
    """A duration as h:mm:ss, with the days before it."""
    return str(datetime.timedelta(seconds=math.ceil(seconds)))
