"""Step 3 of a report: write the page, with sections in the order of a reader's questions and every figure explained."""

import json
from collections import Counter
from html import escape
from pathlib import PurePath

import numpy as np
import pandas as pd

from harness.fit.gap_law.constants import (
    SOURCE_D,
    SOURCE_N,
    collapse_constants,
    estimated_constants,
    reduced_data,
    unidentified_constants,
)
from harness.fit.gap_law.findings import source_claim
from harness.fit.gap_law.rule import TESTED_LAW
from harness.fit.gap_law.verdict import Verdict
from harness.fit.laws.law import Law
from harness.fit.laws.registry import get_law
from harness.fit.results.result import FitResult
from harness.fit.results.shown import number
from harness.record.status import WITHOUT_RESULT
from harness.report import figures, measured, page_tables
from harness.report.curves import LossCurves, curve_figures
from harness.report.fit_sections import (
    checklist_section,
    how_it_ended,
    profiles_section,
    sensitivity_section,
    warnings_of_fit,
)
from harness.report.gather import Records
from harness.report.judged import Judged
from harness.report.marks import Marks
from harness.report.shell import PlacedFigures, bullets, prose_html, shell
from harness.report.simulated import provenance_of_table, truth_section
from sweeps.published_gap import PUBLISHED_GAP


def page(records: Records, judged: Judged) -> str:
    """Write the whole page as HTML."""
    placed, law = PlacedFigures(), get_law(TESTED_LAW)
    verdict, marks, truth, runs = judged.verdict, judged.marks, records.truth, records.runs
    fit = None if verdict is None else verdict.fit
    tested = None if fit is None or marks is None else (fit, marks)
    told_truth = "" if truth is None or judged.true_fit is None else truth_section(truth, judged.true_fit)
    sections = [
        ("verdict", "Verdict", _verdict(law, judged, runs, placed)),
        ("truth", "The truth", told_truth),
        ("constants", "The constants", _constants(law, fit)),
        ("collapse", "The collapse", _collapse(*tested, placed) if tested else ""),
        ("gaps", "Gap against tokens", _gaps(fit, marks, placed) if marks else ""),
        ("residuals", "Residuals", _residuals(*tested, placed) if tested else ""),
        ("rivals", "Rivals and simulated truths", _rivals(verdict) if verdict else ""),
        ("profiles", "Profiles of the constants", "" if fit is None else profiles_section(fit, placed)),
        ("sensitivity", "Other choices", "" if fit is None else sensitivity_section(fit, placed)),
        ("checklist", "Checklist", "" if fit is None else checklist_section(fit)),
        ("losses", "Loss curves", _losses(records.curves, placed)),
        (
            "measurement",
            "The measurement itself",
            _measurement(marks, records.cells, placed) if marks and not truth else "",
        ),
        ("cost", "Cost, failures, unfinished runs", _cost(runs) if len(runs) and not truth else ""),
        ("runs", "All runs", _runs(runs, simulated=truth is not None)),
        ("provenance", "Provenance", provenance_of_table(records.name, truth) if truth else _provenance(records)),
    ]
    states = "".join(f", {count} {state}" for state, count in Counter(runs.get("status", ())).items())
    what = "a simulated table" if truth else "the sweep"
    kicker = f"isogap report on {what} <b>{escape(records.name)}</b>, {len(runs)} runs{states}"
    return shell(records.name, kicker, _headline(judged), sections)


def _headline(judged: Judged) -> str:
    if judged.verdict is not None:
        return judged.verdict.headline
    if judged.marks is None:
        return "No finished run has a gap yet: nothing to judge."
    return "Too few usable runs to fit the gap law."


def _verdict(law: Law, judged: Judged, runs: pd.DataFrame, placed: PlacedFigures) -> str:
    verdict, marks = judged.verdict, judged.marks
    text = f"<p>The law under test is <code>{prose_html(law.formula)}</code>, from {escape(law.source)}.</p>"
    if verdict is None:
        text += f'<p class="lead">Nothing was fitted: {escape(judged.missing)}.</p>'
    items = "".join(
        f'<li>{prose_html(claim.finding)}<span class="claim">on the claim: {prose_html(claim.claim)}</span></li>'
        for claim in ((source_claim(),) if verdict is None else verdict.claims)
    )
    text += f'<ol class="findings">{items}</ol>'
    notes = [escape(note) for note in judged.notes]
    if verdict is not None and marks is not None:
        notes += warnings_of_fit(verdict.fit)
        notes.append(
            f"{marks.settled} of {len(marks.gap)} gaps had settled (the second half of training moved them by less than"
            " a tenth); the source states its law for converged gaps."
        )
        tokenizers = len(set(marks.tokenizer))
        if tokenizers > 1:
            notes.append(f"Tokens and nats per token of {tokenizers} tokenizers are pooled as they are.")
    text += bullets(notes)
    if len(runs):
        text += placed.place(
            figures.coverage_figure(runs),
            f"Where the runs lie in u = D/N<sup>{PUBLISHED_GAP.z}</sup>, a mark a run. The bar is what the source's own"
            f" N ({SOURCE_N[0]:.3g} to {SOURCE_N[1]:.3g}) and D ({SOURCE_D[0]:.3g} to {SOURCE_D[1]:.3g}) allow; the"
            " line is the crossover it states. Only marks on both sides of the line can test the law's two branches.",
        )
    return text


def _constants(law: Law, fit: FitResult | None) -> str:
    text = page_tables.constants_table(law, fit)
    if fit is None:
        return text
    return (
        f"<p>{how_it_ended(fit)} N is the number of parameters without embeddings, D the tokens processed, both raw"
        " counts; G is the gap in nats per token, of twins where runs have them, else the probe's; <code>tau</code> is"
        " the scatter beyond the measured errors.</p>"
        + text
        + "<p>Combinations may be fixed by the data where the constants in them are not.</p>"
    )


def _collapse(fit: FitResult, marks: Marks, placed: PlacedFigures) -> str:
    parts = placed.place(
        figures.collapse_figure(marks, PUBLISHED_GAP),
        "G·N<sup>alpha</sup> against u at the source's constants. If the law held with them, all marks would lie on"
        f" the dashed line. {marks.negative} of {len(marks.gap)} gaps are not positive; such gaps lie on and below the"
        " zero of the axis, which is logarithmic on both sides of zero and linear at it. Bars: 95 %.",
    )
    unknown = unidentified_constants(fit)
    fitted = collapse_constants(fit, float(np.min(reduced_data(marks.n, marks.d))))
    if fitted is None:
        return parts + f"<p>There is no collapse at fitted constants: {', '.join(unknown)} are not identified.</p>"
    caption = "The same at the constants fitted here (solid), the source's A f(u) dashed. "
    if "z" in unknown or "alpha" in unknown:
        caption += (
            f"Not identified: {', '.join(unknown)}. Drawn at the source's z = {PUBLISHED_GAP.z:g}, with the"
            f" alpha = {page_tables.cell_text(fitted.alpha)} that the identified combinations then ask for; any other"
            " z collapses these rows as well, so the collapse is no evidence for the law."
        )
    elif unknown:
        caption += f"Not identified: {', '.join(unknown)}."
    return f'<div class="pair">{parts}{placed.place(figures.collapse_figure(marks, fitted), caption)}</div>'


def _gaps(fit: FitResult | None, marks: Marks, placed: PlacedFigures) -> str:
    lines = (
        " Lines: the gap law as fitted here at the smallest, the middle and the largest N; it knows no epochs."
        if fit is not None
        else ""
    )
    return placed.place(
        figures.gap_figure(marks, None if fit is None else estimated_constants(fit)),
        f"The gap L<sub>heldout</sub> − L<sub>seen</sub>, a mark a run or a pair of twins, with 95 % bars."
        f" {int(marks.undetected.sum())} of {len(marks.gap)} are below their minimum detectable gap (hollow),"
        f" {marks.negative} are not positive.{lines} Point at a mark for its run.",
    )


def _residuals(fit: FitResult, marks: Marks, placed: PlacedFigures) -> str:
    constants, tau = estimated_constants(fit), fit.scatter.tau
    if constants is None or tau is None:
        return ""
    drawings = figures.residual_figures(marks, figures.standardized_residuals(marks, constants, tau))
    across = ["against N", "against D", "against epochs, which the law does not contain"]
    parts = "".join(
        placed.place(figure, f"Residuals of the fitted gap law {what}.")
        for figure, what in zip(drawings, across, strict=True)
    )
    return (
        "<p>A residual is the gap minus the fitted law, over the standard deviation that the fit gives the row: its"
        f" measured error and the law's scatter tau = {number(tau)}. About 95 % should lie in the band"
        " of ± 2, at every N, D and number of epochs; a slope is something the law lacks."
        f'</p><div class="three">{parts}</div>'
    )


def _rivals(verdict: Verdict) -> str:
    text = (
        "<p>All laws are fitted to the same rows. Smaller AICc and BIC are better, differences of 10 are decisive; the"
        " cross-validated log score (larger is better) comes from rows that the fit did not see.</p>"
        + page_tables.comparison_table(verdict.comparison)
        + bullets([f"<b>{row.law}</b>: {prose_html(get_law(row.law).formula)}" for row in verdict.comparison])
    )
    if verdict.nulls:
        text += (
            "<h3>What this design could have found</h3><p>The same rule on gaps simulated from known truths at"
            " these very N, D and errors. Where the law is true and the rule cannot say so, these runs cannot"
            " support it; where it is false and the rule supports it, support means nothing.</p>"
            + page_tables.nulls_table(verdict.nulls)
        )
    return text


def _losses(curves: tuple[LossCurves, ...], placed: PlacedFigures) -> str:
    drawings = curve_figures(curves)
    if not drawings:
        return ""
    parts, options = "", ""
    for name, figure in drawings.items():
        options += f"<option>{escape(name)}</option>"
        drawing = placed.place(
            figure,
            f"{escape(name)}: training loss (thin; means over equal ratios of tokens), held-out loss (thick) and seen"
            " loss (dotted) of every run, coloured by N. The gap is held-out minus seen. A click on the legend hides"
            " or shows a kind of line; step 0 is not drawn.",
        )
        parts += f'<div class="loss-curves" data-name="{escape(name)}">{drawing}</div>'
    hidden = "" if len(drawings) > 1 else " hidden"
    return f'<label{hidden}>Text and tokenizer <select data-choose="loss-curves">{options}</select></label>{parts}'


def _measurement(marks: Marks, cells: tuple[tuple[dict, dict], ...], placed: PlacedFigures) -> str:
    both = np.isfinite(marks.online)
    parts = []
    if both.any():
        below = int(np.sum(marks.online[both] < marks.probe[both]))
        parts.append(
            placed.place(
                measured.estimator_figure(marks),
                "The source's estimator (online: held-out loss minus the mean training loss of the last 100 steps)"
                f" against the probe gap; on the line they agree. It is lower in {below} of {int(both.sum())} runs. In"
                " a first epoch the training loss is of windows not read before, and what is left is what other windows"
                " of the same documents had taught. Bars: 95 %.",
            )
        )
    scores = measured.placebo_scores(marks)
    if len(scores):
        limit = measured.PLACEBO_LIMIT
        beyond = int(np.sum(np.abs(scores) > limit))
        texts = len(set(zip(marks.domain, marks.tokenizer, strict=True)))
        parts.append(
            placed.place(
                measured.placebo_figure(scores),
                "Placebo: the gap between two halves of the held-out text, truly zero, over its standard error."
                f" {beyond} of {len(scores)} ({beyond / len(scores):.0%}) lie beyond {limit:g}, expected"
                f" {measured.EXPECTED_BEYOND:.0%}. Runs on the same text share its halves, so these are {texts}"
                f" independent draws rather than {len(scores)}.",
            )
        )
    return f'<div class="pair">{"".join(parts)}</div>' + (_twins(cells, placed) if cells else "")


def _twins(cells: tuple[tuple[dict, dict], ...], placed: PlacedFigures) -> str:
    rows, details = [row for row, _ in cells], [detail for _, detail in cells]
    return (
        "<h3>Twins</h3><p>Two runs on disjoint halves of the documents, each measured on what the other has seen. The"
        " differences of their losses vary far less from document to document than losses do, and a lead of one of"
        " them is on both halves.</p>"
        + placed.place(
            measured.side_by_side(rows), "Every estimator of the gap of each cell of twins, averaged over seeds."
        )
        + measured.estimators_table(rows)
        + '<div class="pair">'
        + placed.place(measured.over_training(rows, details), "Whether the gap had settled: after every evaluation.")
        + placed.place(measured.by_recency(rows, details), "The gap of text by how long ago it was last seen.")
        + "</div>"
    )


def _cost(runs: pd.DataFrame) -> str:
    text = (
        "<p>Tokens and FLOPs of the steps taken; seconds are each run's share of the training and"
        " the compiling of its pack; evaluation is in neither.</p>" + page_tables.cost_table(runs)
    )
    states = Counter(runs["status"])
    broken, left = sum(states[state] for state in WITHOUT_RESULT), states.total() - states["done"]
    text += f"<h3>Runs without a result</h3><p>{broken} failed, diverged or lost, {left - broken} not finished.</p>"
    return text + (page_tables.unfinished_table(runs) if left else "")


def _runs(runs: pd.DataFrame, *, simulated: bool) -> str:
    if not len(runs):
        return "<p>The sweep has no runs.</p>"
    units = "D, U and batch in tokens; losses and gaps in nats per token."
    if simulated:
        units = "D and U in samples; losses and gaps in the oracle's own unit."
    return f"<p>A click on a heading sorts. {units}</p>" + page_tables.runs_html(runs)


def _provenance(records: Records) -> str:
    environment, text = records.environment, ""
    if environment is None:
        text += "<p>No run has begun: there is no environment to record.</p>"
    else:
        plain = {name: value for name, value in environment.items() if not isinstance(value, dict)}
        plain = {name: ", ".join(value) if isinstance(value, list) else value for name, value in plain.items()}
        text += page_tables.facts_table(plain) + page_tables.facts_table(environment["packages"])
        hashes = [[pair, *(facts[k] for k in ("corpus", "tokenizer", "tokens"))] for pair, facts in
                  environment["data"].items()]  # fmt: skip
        if hashes:
            text += page_tables.html_table(
                ("text and tokenizer", "corpus hash", "tokenizer hash", "tokens hash"), hashes
            )
    folder = PurePath(records.name).name
    commit = (environment or {}).get("git_commit")
    commands = [f"git checkout {commit}"] if commit else []
    commands += [
        "pip install .", f"isogap run sweep.yaml --out {folder}", f"isogap status {folder}",
        f"isogap fit {folder} --law {TESTED_LAW}", f"isogap report {folder}",
    ]  # fmt: skip
    return (
        f"{text}<h3>To repeat it</h3><p>The sweep below saved as <code>sweep.yaml</code>, in a checkout of isogap:</p>"
        f"<pre>{escape(chr(10).join(commands))}</pre>"
        f"<details><summary>sweep.yaml</summary><pre>{escape(records.spec)}</pre></details>"
        f"<details><summary>environment.json</summary><pre>{escape(json.dumps(environment, indent=1))}</pre></details>"
    )
