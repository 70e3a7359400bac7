"""The tables of the page as HTML: constants, rival laws, simulated gaps, costs and runs."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from harness.fit.compare import ComparedLaw
from harness.fit.gap_law.nulls import Null
from harness.fit.laws.law import Law
from harness.fit.results.result import FitResult, estimate_cells
from harness.fit.results.shown import number
from harness.gaps.roles import RUN_ROLES
from harness.report.figure_axes import numbers, short

# A cell with more characters than this is folded onto several lines.
LONG = 44


class Html(str):
    """Text that is HTML already, so that a cell does not escape it."""


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def cell_text(value: Any) -> str:
    """Write a value for a reader: four significant digits, groups of thousands, a dash for what is not known."""
    if isinstance(value, Html):
        return value
    if _missing(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    if isinstance(value, float):
        return number(value).replace("-", "\N{MINUS SIGN}")
    return escape(str(value))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def html_table(
    headings: Sequence[str], rows: Sequence[Sequence[Any]], *, sortable: bool = False, tall: bool = False
) -> str:
    """Write a table in a box that scrolls by itself; numbers are to the right, the first column heads its row."""
    rows = [[_plain(value) for value in row] for row in rows]
    numeric = [
        any(isinstance(row[i], int | float) for row in rows)
        and all(isinstance(row[i], int | float) or _missing(row[i]) for row in rows)
        for i in range(len(headings))
    ]
    number_class, sort = ' class="n"', ' class="sortable"' if sortable else ""
    titles = [f"<button>{escape(heading)}</button>" if sortable else escape(heading) for heading in headings]
    head = "".join(
        f'<th scope="col"{number_class if numeric[i] else ""}>{title}</th>' for i, title in enumerate(titles)
    )
    body = []
    for row in rows:
        cells = []
        for i, value in enumerate(row):
            key = "" if _missing(value) else str(float(value)) if numeric[i] else str(value)
            data = f' data-v="{escape(key)}"' if sortable else ""
            tag, scope = ("th", ' scope="row"') if i == 0 else ("td", "")
            kind = ' class="n"' if numeric[i] else ' class="w"' if i and len(str(value)) > LONG else ""
            cells.append(f"<{tag}{scope}{kind}{data}>{cell_text(value)}</{tag}>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    kind = f"box{' tall' if tall else ''}"
    return (
        f'<div class="{kind}" tabindex="0"><table{sort}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def constants_table(
    law: Law, fit: FitResult | None, here: str = "this sweep", published_in: str = "source document"
) -> str:
    """Write a law's constants and combinations beside published ones, with words for those that are not identified.

    Args:
        here: the heading of the estimates.
        published_in: the heading of the published constants; a law that has none gets no such column.
    """
    names = [p.name for p in law.parameters] if fit is None else list(fit.parameters)
    published = {c.label: c.published for c in law.combinations} | {p.name: p.published for p in law.parameters}
    entries = {} if fit is None else fit.combinations | fit.parameters
    unknown = "no fit" if fit is None else Html("<em>not identified</em>")
    rows, compared = [], any(value is not None for value in published.values())
    for name in (*names, *(c.label for c in law.combinations if c.label not in names)):
        cells, entry = (unknown, "", ""), entries.get(name)
        if entry is not None:
            estimate, se, interval = map(_figure, estimate_cells(entry))
            cells = (estimate if entry.identified else unknown, interval, se)
        rows.append([name, *cells, *([_figure(number(published.get(name)))] if compared else [])])
    headings = ("constant", here, "95 % interval", "standard error", *([published_in] if compared else []))
    return html_table(headings, rows)


def _figure(text: str) -> Html:
    return Html("–" if text == "-" else text.replace("-", "\N{MINUS SIGN}"))


def comparison_table(comparison: Sequence[ComparedLaw]) -> str:
    """Write the laws on the same rows, best extrapolation to the larger runs first."""
    headings = (
        "law", "score on larger runs", "best in % of resamplings", "AICc above best", "BIC above best",
        "cross-validated log score", "against best", "± s.e.", "directions fitted", "status",
    )  # fmt: skip
    rows = []
    for row in comparison:
        beyond = None if row.heldout_score is None else round(row.heldout_score, 3) + 0.0
        best = None if row.p_best is None else round(100 * row.p_best)
        others = (row.delta_aicc, row.delta_bic, row.cv_log_score, row.delta_cv, row.delta_cv_se)
        rounded = [round(value, 1) + 0.0 for value in others]
        rows.append([row.law, beyond, best, *rounded, row.degrees, row.status.replace("_", " ")])
    return html_table(headings, rows)


def nulls_table(nulls: Sequence[Null]) -> str:
    """Write how simulated gaps with a known answer, at the same N, D and errors, are judged."""
    rows = [
        [
            null.truth, null.expected.replace("_", " "), null.verdict.replace("_", " "),
            "yes" if null.passed else "no", null.reason,
        ]
        for null in nulls
    ]  # fmt: skip
    return html_table(("simulated truth", "a telling design says", "this design says", "tells it", "because"), rows)


def cost_table(runs: pd.DataFrame) -> str:
    """Write tokens, FLOPs and seconds of the steps taken, in all and by architecture and size."""
    groups = runs.groupby(["architecture", RUN_ROLES["N"]])
    named = [(group["architecture"].iloc[0], short(group[RUN_ROLES["N"]].iloc[0]), group) for _, group in groups]
    rows = [[f"{architecture}, N {n}", *_costs(group)] for architecture, n, group in named]
    headings = ("runs of", "runs", "tokens", "FLOPs, exact", "FLOPs, 6ND", "training, s", "compiling, s", "tokens/s")
    return html_table(headings, [["all", *_costs(runs)], *rows], tall=True)


def _costs(runs: pd.DataFrame) -> list[Any]:
    share = numbers(runs, "step") / numbers(runs, "steps")
    tokens, exact, six = (float(np.sum(numbers(runs, name) * share)) for name in ("D", "flops", "flops_6nd"))
    seconds, compiling = (float(np.sum(numbers(runs, name))) for name in ("seconds", "compile_seconds"))
    return [len(runs), round(tokens), exact, six, seconds, compiling, tokens / seconds if seconds else None]


def unfinished_table(runs: pd.DataFrame) -> str:
    """Write the failed, lost, diverged, interrupted, running and pending runs with their reasons."""
    order = ("failed", "lost", "diverged", "interrupted", "running", "pending")
    left = [row for row in runs.to_dict("records") if row["status"] in order]
    rows = [
        [
            row["run_id"], row["status"], row["reason"] or "–", f"{row['step']} of {row['steps']}",
            *(row[name] for name in ("architecture", "domain", "tokenizer", RUN_ROLES["N"], "D")),
        ]
        for row in sorted(left, key=lambda row: order.index(row["status"]))
    ]  # fmt: skip
    headings = ("run", "status", "reason", "steps", "architecture", "domain", "tokenizer", "N", "D")
    return html_table(headings, rows, tall=True)


def runs_html(runs: pd.DataFrame) -> str:
    """Write every run with every column of its table, sortable."""
    shown = runs.drop(columns=["seconds", "compile_seconds"], errors="ignore")
    rows = [list(row.values()) for row in shown.to_dict("records")]
    return html_table([str(name).replace("_", " ") for name in shown.columns], rows, sortable=True, tall=True)


def facts_table(facts: dict[str, Any]) -> str:
    """Write names and values, one row per name."""
    return html_table(("what", "value"), [[name, str(value)] for name, value in facts.items()])
