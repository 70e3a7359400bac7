"""The sections that the page of a sweep and that of anyone's table share: what a fit says, and what a referee asks."""

from collections.abc import Mapping
from html import escape
from typing import Any

from harness.fit.results.result import ExtrapolationErrors, FitResult
from harness.fit.results.shown import NOT_DETERMINED, UNDETERMINED, number, share
from harness.report.fit_figures import profile_figure, sensitivity_figure
from harness.report.page_tables import html_table
from harness.report.shell import PlacedFigures, prose_html

GROUPS = {
    "form": "The form of the law", "runs": "The runs", "collection": "What was collected", "fit": "The fit",
    "residuals": "Trends of the residuals",
}  # fmt: skip


def how_it_ended(result: FitResult) -> str:
    """The status of a fit, its rows, and how many directions of the law's constants they determine."""
    status, known = result.status.value.replace("_", " "), result.identifiability
    return (
        f"{result.rows} rows, status <b>{status}</b>: the rows fix {known.rank} of {known.parameters} directions of the"
        " law's constants."
    )


def warnings_of_fit(result: FitResult) -> list[str]:
    """Every warning of a fit, as HTML."""
    return [escape(warning.message) for warning in result.warnings]


def profiles_section(result: FitResult, placed: PlacedFigures) -> str:
    """Draw the profile likelihood of each constant; nothing without profiles."""
    limit = result.limit
    if limit is None:
        return ""
    drawings = "".join(
        placed.place(
            profile_figure(name, profile, limit, result.parameters[name]),
            f"{escape(name)}: {escape(str(result.parameters[name]))}.",
        )
        for name, profile in result.profiles.items()
        if len(profile.values) > 2
    )
    if not drawings:
        return ""
    return (
        "<p>A constant is held at one value after the other while all others are refitted; the curve says how much"
        f" worse the fit then is. The values below the dashed line, at {limit:.3g}, are the 95 % interval. A curve that"
        " stays below the line on a side sets no limit there; a flat one says nothing of its constant. The upright line"
        f' is the best fit.</p><div class="three">{drawings}</div>'
    )


def sensitivity_section(result: FitResult, placed: PlacedFigures) -> str:
    """Show the fit under other choices: the verdict with its reasons, the figure, and every number."""
    cases, robust = result.sensitivity, result.robustness
    if len(cases) < 2 or robust is None:
        return ""
    own = [case for case in cases if not case.case.startswith("law ")]
    names = [name for name in cases[0].estimates if not name.startswith("log ")]
    drawn = [
        name for name in names if all(case.estimates.get(name, 1.0) * cases[0].estimates[name] > 0 for case in own)
    ]
    why = f" ({escape('; '.join(robust.reasons))})" if robust.verdict == "undecided" else ""
    beyond = ""
    if not robust.determines_prediction:
        beyond = f" That prediction is {NOT_DETERMINED}: it moves by more than a factor of {UNDETERMINED:g}."
    text = (
        f"<p>The same fit under {len(cases) - 1} other choices. It is <b>{robust.verdict}</b>{why}: fragile means that"
        " an exponent moves by more than 0.1, or the prediction at √10 times the largest sizes by more than three times"
        f" the noise of a run.{beyond}</p>"
    )
    if drawn and len(own) > 1:
        text += placed.place(
            sensitivity_figure(own, drawn),
            "Every constant under every choice, divided by its value in the fit.",
        )
    rows = [
        [case.case, case.rows, *(case.estimates.get(name) for name in cases[0].estimates),
         case.prediction if robust.determines_prediction else "not determined", case.aic_behind]
        for case in cases
    ]  # fmt: skip
    headings = ("choice", "rows", *cases[0].estimates, "prediction beyond", "AIC behind")
    return text + html_table(headings, rows, tall=True)


def checklist_section(result: FitResult) -> str:
    """Write the answers to what a referee asks of a fit; nothing where there are none."""
    if not result.checklist:
        return ""
    text = (
        "<p>What a referee asks of a scaling-law fit (arXiv 2502.18969). What the table cannot answer is left to its"
        " author.</p>"
    )
    for group, answers in result.checklist.items():
        rows = [[question, _answer(answer)] for question, answer in answers.items()]
        text += f"<h3>{GROUPS.get(group, group)}</h3>{html_table(('question', 'answer'), rows)}"
    return text


def _answer(answer: Any) -> Any:
    """An answer as a cell: lists and tables of values with commas between them, `none` for an empty one."""
    if isinstance(answer, Mapping):
        return ", ".join(f"{name} = {value}" for name, value in answer.items()) or "none"
    if isinstance(answer, list | tuple):
        return ", ".join(map(str, answer)) or "none"
    return answer


def extrapolation_sentence(result: FitResult) -> str:
    """Say how well fits to the smaller runs predicted the larger ones; nothing where there were too few scales."""
    beyond = result.extrapolation
    if beyond is None or beyond.mean_abs_relative_error is None:
        return ""
    return (
        f"<p>The law was fitted to the smaller runs only, window by window, and predicted the next larger ones:"
        f" {beyond.rows} rows, up to {beyond.reach:.3g} times larger than the fitted ones, were missed by"
        f" <b>{prose_html(share(beyond.mean_abs_relative_error))}</b> on average. {_more_than_expected(beyond)}</p>"
    )


def _more_than_expected(beyond: ExtrapolationErrors) -> str:
    if not beyond.excess:
        return "That is no more than the fits to the smaller runs expect of themselves."
    return (
        f"The errors exceed what the fits to the smaller runs expect of themselves by {number(beyond.excess)} (root of"
        " the difference of mean squares); predictions beyond these rows carry it in their intervals."
    )
