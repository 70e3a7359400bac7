"""The tables of the page as HTML: constants, rivals, simulated truths, costs, runs."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from harness.fit.compare import Compared
from harness.fit.gap_law.nulls import Null
from harness.fit.laws.law import get_law
from harness.fit.result import FitResult, number, span
from harness.fit.table import RUN_ROLES
from harness.report.axes import numbers, short

NOT_IDENTIFIED = "not identified"
# Characters from which a cell is folded rather than widened.
LONG = 44


class Html(str):
    """Text that is markup already and goes into a cell as it is."""


def missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def cell_text(value: Any) -> str:
    """A value as a reader wants it: four significant digits, thousands set apart, a dash for what is not known."""
    if isinstance(value, Html):
        return value
    if missing(value):
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


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], *, sortable: bool = False, tall: bool = False) -> str:
    """A table in a box that scrolls by itself; numbers to the right, the first column heads its row."""
    rows = [[_plain(value) for value in row] for row in rows]
    numeric = [
        any(isinstance(row[i], int | float) for row in rows)
        and all(isinstance(row[i], int | float) or missing(row[i]) for row in rows)
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
            key = "" if missing(value) else str(float(value)) if numeric[i] else str(value)
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


def constants_table(fit: FitResult | None, law_id: str) -> str:
    """The law's constants and combinations beside the source's; words, not numbers, where they are not identified."""
    law = get_law(law_id)
    headings = ("constant", "this sweep", "95 % interval", "standard error", "source document")
    rows: list[list[Any]] = []
    if fit is None:
        rows = [[p.name, "no fit", "", "", _figure(p.published)] for p in law.parameters]
        named = {p.name for p in law.parameters}
        rows += [[c.label, "no fit", "", "", _figure(c.published)] for c in law.combinations if c.label not in named]
        return table(headings, rows)
    for name, value in fit.parameters.items():
        if value.identified:
            shown = [_figure(value.estimate), _interval(value.ci_low, value.ci_high), _figure(value.se)]
        else:
            shown = [Html(f"<em>{NOT_IDENTIFIED}</em>"), "", ""]
        rows.append([name, *shown, _figure(value.published)])
    known = {entry["combination"]: entry for entry in fit.identifiability["identified_combinations"]}
    for combination in law.combinations:
        if combination.label in fit.parameters:
            continue
        entry = known.get(combination.label)
        if entry is None:
            shown = [Html(f"<em>{NOT_IDENTIFIED}</em>"), "", ""]
        else:
            shown = [_figure(entry["estimate"]), _interval(entry["ci_low"], entry["ci_high"]), _figure(entry["se"])]
        rows.append([combination.label, *shown, _figure(combination.published)])
    return table(headings, rows)


def _figure(value: float | None) -> Html:
    return Html("–" if value is None else number(value).replace("-", "\N{MINUS SIGN}"))


def _interval(low: float | None, high: float | None) -> str:
    return span(low, high).replace("-", "\N{MINUS SIGN}")


def comparison_table(comparison: Sequence[Compared]) -> str:
    """The laws on the same rows, best extrapolation to the larger runs first."""
    headings = (
        "law", "score on larger runs", "best in % of resamplings", "AICc above best", "BIC above best",
        "cross-validated log score", "against best", "± s.e.", "directions fitted", "status",
    )  # fmt: skip
    rows = []
    for row in comparison:
        beyond = None if row.heldout_score is None else round(row.heldout_score, 3) + 0.0
        best = None if row.p_best is None else round(100 * row.p_best)
        others = (row.delta_aicc, row.delta_bic, row.cv_log_score, row.delta_cv, row.delta_cv_se)
        numbers = [round(value, 1) + 0.0 for value in others]
        rows.append([row.law, beyond, best, *numbers, row.degrees, row.status.replace("_", " ")])
    return table(headings, rows)


def nulls_table(nulls: Sequence[Null]) -> str:
    """What the rule says of simulated truths on these N, D and errors."""
    rows = [
        [
            null.truth, null.expected.replace("_", " "), null.verdict.replace("_", " "),
            "yes" if null.passed else "no", null.reason,
        ]
        for null in nulls
    ]  # fmt: skip
    return table(("simulated truth", "a telling design says", "this design says", "tells it", "because"), rows)


def cost_table(runs: pd.DataFrame) -> str:
    """Tokens, FLOPs and seconds of the steps taken, in all and by architecture and size."""
    groups = runs.groupby(["architecture", RUN_ROLES["N"]], sort=True)
    rows = [
        [f"{g['architecture'].iloc[0]}, N {short(float(g[RUN_ROLES['N']].iloc[0]))}", *_costs(g)] for _, g in groups
    ]
    headings = ("runs of", "runs", "tokens", "FLOPs, exact", "FLOPs, 6ND", "training, s", "compiling, s", "tokens/s")
    return table(headings, [["all", *_costs(runs)], *rows], tall=True)


def _costs(runs: pd.DataFrame) -> list[Any]:
    share = numbers(runs, "step") / numbers(runs, "steps")
    tokens, exact, six = (float(np.sum(numbers(runs, name) * share)) for name in ("D", "flops", "flops_6nd"))
    seconds, compiling = (float(np.sum(numbers(runs, name))) for name in ("seconds", "compile_seconds"))
    return [len(runs), round(tokens), exact, six, seconds, compiling, tokens / seconds if seconds else None]


def unfinished_table(runs: pd.DataFrame) -> str:
    """Failed, diverged, interrupted, running and pending runs with their reasons."""
    order = ("failed", "diverged", "interrupted", "running", "pending")
    left = sorted(runs.query("status in @order").to_dict("records"), key=lambda row: order.index(row["status"]))
    rows = [
        [
            row["run_id"], row["status"], row["reason"] or "–", f"{row['step']} of {row['steps']}",
            row["architecture"], row["domain"], row["tokenizer"], row[RUN_ROLES["N"]], row["D"],
        ]
        for row in left
    ]  # fmt: skip
    headings = ("run", "status", "reason", "steps", "architecture", "domain", "tokenizer", "N", "D")
    return table(headings, rows, tall=True)


def runs_html(runs: pd.DataFrame) -> str:
    """Every run with every column, sortable."""
    hidden = ("seconds", "compile_seconds")
    columns = [name for name in runs.columns if name not in hidden]
    rows = [[row[name] for name in columns] for row in runs.to_dict("records")]
    return table([name.replace("_", " ") for name in columns], rows, sortable=True, tall=True)


def facts_table(facts: dict[str, Any]) -> str:
    """Names and values, a row each."""
    return table(("what", "value"), [[name, str(value)] for name, value in facts.items()])
