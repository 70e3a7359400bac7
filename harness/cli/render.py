"""Results as text for a terminal."""

import io
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.fit.results.shown import Shown


def render(parts: Iterable[Shown], width: int | None = None) -> str:
    """Write sentences and tables as text; tables without rows are left out.

    Args:
        width: the width of tables and sentences in characters; by default a table is as wide as the terminal, or 200
            for a file, and sentences are not folded.
    """
    terminal = Console()
    console = Console(width=width or (terminal.width if terminal.is_terminal else 200), record=True, file=io.StringIO())
    for part in parts:
        if isinstance(part, str):
            console.print(part, markup=False, emoji=False, soft_wrap=width is None)
        elif part.rows:
            table = Table(title=Text(part.title, "italic"), title_justify="left")
            for column in part.columns:
                table.add_column(column, justify="left" if column in part.words else "right", overflow="fold")
            for row in part.rows:
                table.add_row(*map(Text, row))  # as markup, an interval in brackets would disappear
            console.print(table)
    return console.export_text()
