"""What a reader sees of a result: sentences and tables of text, whether a terminal, a notebook or a page draws them."""

import abc
import html
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.fit.problem.fit_status import FitWarning

# A number that ranges over a larger factor is written in these words: 8e-20 to 14 says nothing but that.
UNDETERMINED, NOT_DETERMINED = 100.0, "not determined by these runs"
# Logs beyond this are not written as factors.
LARGEST_LOG = 20.0
# A number, or None where there is none. The type is not `float | None`, so that code that knows that there is one (say,
# because rows were held out) may compute with it.
Known = Any


@dataclass(frozen=True)
class TextTable:
    """A table whose cells are texts.

    Attributes:
        columns: the headings.
        words: the columns that hold words, which stand to the left; numbers stand to the right.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    words: Collection[str] = ()


Shown = str | TextTable


class Showable(abc.ABC):
    """A result that has sentences and tables for a reader, which a notebook shows."""

    @abc.abstractmethod
    def shown(self) -> Sequence[Shown]:
        """Sentences and tables in the order in which they are read."""

    def _repr_html_(self) -> str:
        return "".join(_paragraph(part) if isinstance(part, str) else _table(part) for part in self.shown())


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _table(table: TextTable) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    return f"<table><caption>{html.escape(table.title)}</caption>{row(table.columns, 'th')}{body}</table>"


def number(value: float | None) -> str:
    """Four significant digits, or a dash for what is not known."""
    return "-" if value is None else f"{value:.4g}"


def is_determined(low: float, high: float) -> bool:
    """Whether a range tells a positive number: not if it spans more than a factor of `UNDETERMINED`, or holds 0.

    A range that holds numbers below 0 has no factor and counts as determined, and so does one with an end of nan.
    """
    return not (low >= 0 and high > UNDETERMINED * low)


def factor(name: str, estimate: float | None, low: float | None, high: float | None) -> str:
    """A number that is a log by its name, without the log; nothing for others and for what is too large to write."""
    known = [value for value in (estimate, low, high) if value is not None]
    if "log of" not in name or estimate is None or max(map(abs, known)) > LARGEST_LOG:
        return ""
    found, *ends = (None if value is None else math.exp(value) for value in (estimate, low, high))
    return f", a factor of {number(found)} {span(*ends)}"


def share(value: float) -> str:
    """A relative error in percent; of ten and more as so many times what was measured."""
    return f"{value:.2%}" if value < 10 else f"{value:.3g} times what was measured"


def span(low: float | None, high: float | None) -> str:
    """A 95 % interval; an open side is written as unbounded."""
    if low is None and high is None:
        return "unbounded"
    return f"[{'unbounded' if low is None else number(low)}, {'unbounded' if high is None else number(high)}]"


def spans_table(title: str, table: pd.DataFrame) -> TextTable:
    """A table in which each NAME stands with its interval, if there are columns NAME_low and NAME_high."""
    rows = finite_rows(table.to_dict("records"))
    names = [str(name) for name in table.columns]
    limits = {f"{name}_{end}" for name in names for end in ("low", "high")}
    columns = tuple(name for name in names if name not in limits)
    with_span = {name for name in columns if any(row.get(f"{name}_low") is not None for row in rows)}

    def cell(row: Mapping[str, Any], name: str) -> str:
        value, low = row[name], row.get(f"{name}_low")
        text = "" if value is None else value if isinstance(value, str) else number(value)
        return text if low is None else f"{text} {span(low, row[f'{name}_high'])}"

    return TextTable(title, columns, [[cell(row, name) for name in columns] for row in rows], with_span)


def finite_rows(rows: Iterable[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """The rows with None for numbers that are not finite, as strict JSON requires."""
    return [
        {str(name): None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
        for row in rows
    ]


def warning_lines(warnings: Iterable[FitWarning]) -> list[str]:
    """A line for each warning."""
    return [f"warning ({warning.code}): {warning.message}" for warning in warnings]
