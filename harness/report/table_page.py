"""Step 3 of a report on anyone's table: write the page of a fit."""

import shlex
from collections.abc import Sequence
from html import escape
from pathlib import PurePath

import numpy as np
import pandas as pd

from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.fit.problem.fit_status import FitStatus
from harness.fit.referee.extrapolation import scale_name
from harness.fit.results.result import FitResult
from harness.fit.results.shown import number, share, span
from harness.report import fit_figures
from harness.report.fit_rows import FittedRows, LawCurve
from harness.report.fit_sections import (
    checklist_section,
    extrapolation_sentence,
    how_it_ended,
    profiles_section,
    sensitivity_section,
    warnings_of_fit,
)
from harness.report.gather import TableRecords
from harness.report.judged import Budgets, JudgedTable, ScoredRows
from harness.report.page_tables import constants_table, html_table
from harness.report.shell import PlacedFigures, bullets, prose_html, shell

# So many rows are listed: of a larger table those farthest from the law.
LISTED_ROWS = 500
FARTHEST = 12  # the largest residuals that are named


def table_page(records: TableRecords, judged: JudgedTable) -> str:
    """Write the page of a fit to anyone's table as HTML."""
    placed, result, rows = PlacedFigures(), judged.fit, judged.rows
    sections = [
        ("fit", "", _fit(records.law, judged, placed)),
        ("read", "What was read", _read(records)),
        ("residuals", "Residuals", _residuals(rows, placed) if rows else ""),
        ("profiles", "Profiles of the constants", profiles_section(result, placed)),
        ("extrapolation", "Extrapolation", _extrapolation(result, judged.scored, placed)),
        ("heldout", "Held-out rows", _held_out(result)),
        ("isoflop", "IsoFLOP profiles", _isoflop(judged.budgets, placed) if judged.budgets else ""),
        ("sensitivity", "Other choices", sensitivity_section(result, placed)),
        ("checklist", "Checklist", checklist_section(result)),
        ("rows", "All rows", _rows(rows) if rows else ""),
        ("repeat", "To repeat it", _repeat(records)),
    ]
    name = PurePath(records.name).name
    kicker = f"isogap report on <b>{escape(name)}</b>, {len(records.runs)} rows, law <b>{escape(result.law)}</b>"
    return shell(name, kicker, headline(result), sections)


def headline(result: FitResult) -> str:
    """Say in a sentence what the fit knows, and whether it depends on choices."""
    unknown = [name for name, entry in result.parameters.items() if not entry.identified]
    if len(unknown) == len(result.parameters):
        known = "these rows identify none of its constants"
    elif unknown:
        known = f"these rows do not identify {', '.join(unknown)}"
    else:
        known = "these rows identify every constant"
    verdict = "" if result.robustness is None else result.robustness.verdict
    robust = f"; the fit is {verdict} under other choices" if verdict in ("fragile", "stable") else ""
    settled = result.status in (FitStatus.CONVERGED, FitStatus.NOT_IDENTIFIED)
    ended = "" if settled else f"; the search ended as {result.status.value.replace('_', ' ')}"
    return f"The law {result.law}: {known}{ended}{robust}."


def fit_page(result: FitResult, law: Law, rows: FittedRows, curves: Sequence[LawCurve]) -> str:
    """Write one figure of a fit with its residuals and constants as a page of HTML (`isogap fit --figure`)."""
    placed, name = PlacedFigures(), PurePath(result.source).name
    text = _fit_figure(rows, curves, placed) + constants_table(law, result, *TABLE_HEADINGS)
    residuals = "".join(
        placed.place(figure, f"Residuals against {escape(rows.titles[role])}; the band is ± 2 standard deviations.")
        for role, figure in fit_figures.column_residual_figures(rows.drawn()).items()
    )
    kicker = f"isogap fit of <b>{escape(result.law)}</b> to <b>{escape(name)}</b>, {result.rows} rows"
    sections = [("fit", "", text + bullets(warnings_of_fit(result))), ("residuals", "Residuals", residuals)]
    return shell(name, kicker, headline(result), sections)


TABLE_HEADINGS = ("this table", "published")


def _fit(law: Law, judged: JudgedTable, placed: PlacedFigures) -> str:
    result, rows = judged.fit, judged.rows
    text = f"<p>The law <code>{prose_html(law.formula)}</code> ({escape(law.source)}). {how_it_ended(result)}</p>"
    text += bullets(warnings_of_fit(result))
    if rows is None:
        text += "<p>The fit has no finite prediction of these rows, so that nothing is drawn of them.</p>"
    else:
        text += _fit_figure(rows, judged.curves, placed)
    minimum = result.objective
    scatter = result.scatter
    spread = scatter.tau if scatter.tau is not None else scatter.log_residual_sd
    told = f"The scatter of the rows about the law is {number(spread)} of the prediction" if spread else ""
    return (
        f"{text}<h3>The constants</h3>{constants_table(law, result, *TABLE_HEADINGS)}"
        f"<p>{told + '. ' if told else ''}Minimised: {escape(minimum.name.replace('_', ' '))}, {minimum.value:.6g};"
        f" {minimum.starts_within_1_percent:.0%} of {minimum.starts} searches end within 1 % of the best.</p>"
    )


def _fit_figure(rows: FittedRows, curves: Sequence[LawCurve], placed: PlacedFigures) -> str:
    drawn, role = rows.drawn(), rows.coloured_by
    colour = f", coloured by {escape(rows.titles[role])}" if role else ""
    hollow = " Hollow rows were held out of the fit." if rows.held_out.any() else ""
    if curves:
        line = "line: the fitted law" if len(curves) == 1 else f"lines: the fitted law at {len(curves)} values of it"
        band = " with its 95 % interval" if np.isfinite(curves[0].low).all() else ""
        caption = f"Marks: the rows{colour}; {line}{band}.{hollow}"
    else:
        caption = f"The rows{colour}, against what the law predicts of them; on the line they agree.{hollow}"
    return placed.place(fit_figures.fit_figure(drawn, curves), caption + _thinned(rows, drawn))


def _thinned(rows: FittedRows, drawn: FittedRows) -> str:
    missing = len(rows.observed) - len(drawn.observed)
    return f" {len(drawn.observed)} of {len(rows.observed)} rows are drawn, the farthest from the law among them." * (
        missing > 0
    )


def _read(records: TableRecords) -> str:
    frame, law = records.runs, records.law
    roles = frame.attrs.get("roles", {})
    headings = ("role", "read from", "values", "least", "largest")
    body = []
    for role in dict.fromkeys((*law.roles, *roles)):
        if role in frame.columns:
            values = pd.Series(frame[role])
            ends = (values.min(), values.max()) if pd.api.types.is_numeric_dtype(values) else (None, None)
            body.append([role, str(roles.get(role, role)), values.nunique(), *ends])
    held = int(frame["holdout"].to_numpy(bool).sum()) if "holdout" in frame.columns else 0
    held_out = f", of which {held} were held out of the fit" if held else ""
    told = bullets([escape(line) for line in records.told])
    return f"<p>{len(frame)} rows{held_out}.</p>{html_table(headings, body)}{told}"


def _residuals(rows: FittedRows, placed: PlacedFigures) -> str:
    drawn = rows.drawn()
    figures = "".join(
        placed.place(figure, f"Residuals against {escape(rows.titles[role])}.{_thinned(rows, drawn)}")
        for role, figure in fit_figures.column_residual_figures(drawn).items()
    )
    fitted = rows.take(~rows.held_out)
    quantiles = fit_figures.quantile_figure(
        fitted.drawn().residual, f"({rows.response} − law) / its s.d.", fitted.drawn().names, height=320
    )
    beyond = int(np.sum(np.abs(fitted.residual) > 2))
    figures += placed.place(
        quantiles,
        f"The residuals of the fitted rows in order, against what a normal distribution would give. {beyond} of"
        f" {len(fitted.residual)} ({beyond / len(fitted.residual):.0%}) lie beyond 2; a normal has 5 % there.",
    )
    worst = np.argsort(-np.abs(rows.residual))[:FARTHEST]
    return (
        f"<p>A residual is the response less the law, over a standard deviation: {rows.deviation}. The band is ± 2; a"
        f' slope or a bend is something that the law lacks.</p><div class="three">{figures}</div>'
        f"<h3>The rows farthest from the law</h3>{_listed(rows.take(worst))}"
    )


def _listed(rows: FittedRows, *, sortable: bool = False) -> str:
    """The rows with their columns, the response, the law, and how far apart these are."""
    headings = ("row", *rows.columns, rows.response, "the law", "off by, %", "in s.d.")
    with np.errstate(all="ignore"):
        off = 100 * (rows.observed / rows.predicted - 1)
    columns = [*rows.columns.values(), rows.observed, rows.predicted, np.where(np.isfinite(off), off, np.nan)]
    body = [
        [name, *map(float, values), round(float(residual), 2)]
        for name, *values, residual in zip(rows.names, *columns, rows.residual, strict=True)
    ]
    return html_table(headings, body, sortable=sortable, tall=True)


def _extrapolation(result: FitResult, scored: ScoredRows | None, placed: PlacedFigures) -> str:
    text = extrapolation_sentence(result)
    if not text or scored is None or not np.isfinite(scored.error).all():
        return text
    return text + placed.place(
        fit_figures.window_figure(scored.scale, 100 * scored.error, scored.edges, scored.names),
        "How far the prediction of each row was off. A dotted line is the largest scale of the rows that a fit used;"
        " the rows between it and the next line are its predictions. They are ordered by their"
        f" {scale_name(get_law(result.law))}.",
    )


def _held_out(result: FitResult) -> str:
    errors = result.holdout
    if not errors.rows:
        return ""
    off = "" if errors.mean_abs_relative_error is None else f" to {share(errors.mean_abs_relative_error)} on average"
    text = f"<p>{errors.rows} rows were not fitted and are predicted{off}; root mean square error {number(errors.rmse)}"
    text += f", R² {number(errors.r2)}."
    if errors.coverage is not None:
        text += f" The 95 % interval of a new run holds {errors.coverage:.0%} of them."
    tables = [
        f"<h3>{escape(table.title.capitalize())}</h3>{html_table(table.columns, table.rows[:LISTED_ROWS], tall=True)}"
        for table in errors.listed()
        if table.rows
    ]
    return f"{text}</p>{''.join(tables)}"


def _isoflop(budgets: Budgets, placed: PlacedFigures) -> str:
    found = budgets.found
    best, lowest = ([], []) if found is None else (found.optima["N"].tolist(), found.optima["loss"].tolist())
    profiles = placed.place(
        fit_figures.isoflop_figure(budgets.runs, budgets.rows, best, lowest),
        f"Loss against size at each of {len(budgets.rows)} budgets (C is {escape(budgets.runs.counted)});"
        " stars are the lowest points found.",
    )
    if found is None:
        return f"<p>No optima: {escape(budgets.missing)}.</p>{profiles}"
    said = "; ".join(
        f"{name}* ~ C<sup>{number(value.estimate)}</sup>, 95 % interval {span(value.low, value.high)}"
        for name, value in found.exponents.items()
    )
    line = placed.place(fit_figures.optima_figure(found), "The optima, and the power laws through them with 95 %.")
    table, notes = found.optima.drop(columns="weight", errors="ignore"), [escape(w.message) for w in found.warnings]
    return (
        f"<p>{escape(found.method[0].upper() + found.method[1:])}: {said}.</p>{bullets(notes)}"
        f'<div class="pair">{profiles}{line}</div>'
        + html_table([str(name).replace("_", " ") for name in table.columns], table.to_numpy().tolist())
    )


def _rows(rows: FittedRows) -> str:
    shown, told = rows, "A click on a heading sorts."
    if len(rows.observed) > LISTED_ROWS:
        shown = rows.take(np.sort(np.argsort(-np.abs(rows.residual))[:LISTED_ROWS]))
        told = f"The {LISTED_ROWS} rows farthest from the law, of {len(rows.observed)}. {told}"
    return f"<p>{told}</p>{_listed(shown, sortable=True)}"


def _repeat(records: TableRecords) -> str:
    options = [f"--law {shlex.quote(records.law.id)}"]
    for option, value in records.reading.items():
        values = [f"{role}={column}" for role, column in value.items()] if option == "set" else [str(value)]
        options += [f"--{option} {shlex.quote(each)}" for each in values]
    source = shlex.quote(records.name)
    commands = [f"isogap {command} {source} {' '.join(options)}" for command in ("fit", "report")]
    return f"<pre>{escape(chr(10).join(commands))}</pre>"
