"""The page: sections in the order of a reader's questions, each figure with what to see in it."""

import json
from collections import Counter
from html import escape
from pathlib import PurePath

import numpy as np
import pandas as pd

from harness.fit.gap_law.findings import source_ranges
from harness.fit.gap_law.published import SOURCE_D, SOURCE_N
from harness.fit.laws.law import get_law
from harness.fit.result import FitResult, number
from harness.report import figures, measured, tables
from harness.report.axes import numbers
from harness.report.curves import curve_figures
from harness.report.estimators import BEYOND, EXPECTED, estimator_figure, placebo_figure, placebo_scores
from harness.report.gather import Material
from harness.report.shell import Drawn, bullets, prose, shell
from harness.report.truth import provenance_of_table, truth_section

LAW = "gap"


def page(material: Material) -> str:
    """The whole page as HTML."""
    drawn = Drawn()
    sections = [
        ("verdict", "Verdict", _verdict(material, drawn)),
        ("truth", "The truth", "" if material.truth is None else truth_section(*material.truth)),
        ("constants", "The constants", _constants(material)),
        ("collapse", "The collapse", _collapse(material, drawn)),
        ("gaps", "Gap against tokens", _gaps(material, drawn)),
        ("residuals", "Residuals", _residuals(material, drawn)),
        ("rivals", "Rivals and simulated truths", _rivals(material)),
        ("losses", "Loss curves", _losses(material, drawn)),
        ("measurement", "The measurement itself", _measurement(material, drawn)),
        ("cost", "Cost, failures, unfinished runs", _cost(material)),
        ("runs", "All runs", _runs(material)),
        ("provenance", "Provenance", _provenance(material)),
    ]
    what = "a simulated table" if material.truth else "the sweep"
    kicker = f"isogap report on {what} <b>{escape(material.name)}</b>, {_states(material.runs)}"
    return shell(material.name, kicker, _headline(material), sections)


def _states(runs: pd.DataFrame) -> str:
    counts = Counter(runs["status"]) if len(runs) else {}
    return f"{len(runs)} runs" + "".join(f", {count} {state}" for state, count in counts.items())


def _headline(material: Material) -> str:
    if material.verdict is not None:
        return material.verdict.headline
    if material.rows.empty:
        return "No finished run has a gap yet: nothing to judge."
    return "Too few usable runs to fit the gap law."


def _fit(material: Material) -> FitResult | None:
    return None if material.verdict is None else material.verdict.fits[LAW]


def _verdict(material: Material, drawn: Drawn) -> str:
    found, law = material.verdict, get_law(LAW)
    text = f"<p>The law under test is <code>{prose(law.formula)}</code>, from {escape(law.source)}.</p>"
    claims = (source_ranges(),) if found is None else found.claims
    if found is None:
        text += f'<p class="lead">Nothing was fitted: {escape(material.missing)}.</p>'
    items = "".join(
        f'<li>{prose(claim.finding)}<span class="claim">on the claim: {prose(claim.claim)}</span></li>'
        for claim in claims
    )
    text += f'<ol class="findings">{items}</ol>'
    notes = [escape(note) for note in material.notes]
    if found is not None:
        notes += [escape(warning.message) for warning in found.warnings]
        settled = int(np.nansum(numbers(material.rows, "converged")))
        notes.append(
            f"{settled} of {len(material.rows)} gaps had settled (the second half of training moved them by less than"
            " a tenth); the source states its law for converged gaps."
        )
        mixed = len(set(material.rows["tokenizer"]))
        if mixed > 1:
            notes.append(f"Tokens and nats per token of {mixed} tokenizers are pooled as they are.")
    text += bullets(notes)
    if len(material.runs):
        text += drawn.place(
            figures.coverage_figure(material.runs),
            f"Where the runs lie in u = D/N<sup>0.74</sup>, a mark a run. The bar is what the source's own N"
            f" ({SOURCE_N[0]:.3g} to {SOURCE_N[1]:.3g}) and D ({SOURCE_D[0]:.3g} to {SOURCE_D[1]:.3g}) allow; the"
            " line is the crossover it states. Only marks on both sides of the line can test the law's two branches.",
        )
    return text


def _constants(material: Material) -> str:
    fit = _fit(material)
    text = tables.constants_table(fit, LAW)
    if fit is None:
        return text
    status = fit.status.value.replace("_", " ")
    rank = fit.identifiability["rank"]
    return (
        f"<p>{fit.rows} rows, status <b>{status}</b>: the rows fix {rank} of {fit.identifiability['parameters']}"
        " directions of the law's constants. N is the number of parameters without embeddings, D the tokens"
        " processed, both raw counts; G is the gap in nats per token, of twins where runs have them, else the probe's;"
        " <code>tau</code> is the scatter beyond the measured errors.</p>"
        + text
        + "<p>Combinations may be fixed by the data where the constants in them are not.</p>"
    )


def _collapse(material: Material, drawn: Drawn) -> str:
    fit = _fit(material)
    source = None if fit is None else figures.constants_of(fit, published=True)
    if fit is None or source is None:
        return ""
    rows = material.rows
    negative = int(np.sum(numbers(rows, "G") <= 0))
    parts = drawn.place(
        figures.collapse_figure(rows, source, source),
        "G·N<sup>alpha</sup> against u at the source's constants. If the law held with them, all marks would lie on"
        f" the dashed line. {negative} of {len(rows)} gaps are not positive; such gaps lie on and below the zero of the"
        " axis, which is logarithmic on both sides of zero and linear at it. Bars: 95 %.",
    )
    unknown = [name for name in figures.CONSTANTS if not fit.parameters[name].identified]
    fitted = figures.drawn_constants(rows, fit)
    if fitted is not None:
        said = "The same at the constants fitted here (solid), the source's A f(u) dashed. "
        if "z" in unknown or "alpha" in unknown:
            said += (
                f"Not identified: {', '.join(unknown)}. Drawn at the source's z = {source['z']:g}, with the"
                f" alpha = {tables.cell_text(fitted['alpha'])} that the identified combinations then ask for; any other"
                " z collapses these rows as well, so the collapse is no evidence for the law."
            )
        elif unknown:
            said += f"Not identified: {', '.join(unknown)}."
        parts += drawn.place(figures.collapse_figure(rows, fitted, source), said)
        return f'<div class="pair">{parts}</div>'
    return parts + f"<p>There is no collapse at fitted constants: {', '.join(unknown)} are not identified.</p>"


def _gaps(material: Material, drawn: Drawn) -> str:
    rows = material.rows
    if rows.empty:
        return ""
    negative, hollow = int(np.sum(numbers(rows, "G") <= 0)), int(figures.undetected(rows).sum())
    fit = _fit(material)
    lines = (
        " Lines: the gap law as fitted here at the smallest, the middle and the largest N; it knows no epochs."
        if fit is not None
        else ""
    )
    return drawn.place(
        figures.gap_figure(rows, fit),
        f"The gap L<sub>heldout</sub> − L<sub>seen</sub>, a mark a run or a pair of twins, with 95 % bars."
        f" {hollow} of {len(rows)} are below their minimum detectable gap (hollow), {negative} are not positive."
        f"{lines} Point at a mark for its run.",
    )


def _residuals(material: Material, drawn: Drawn) -> str:
    fit = _fit(material)
    drawings = [] if fit is None else figures.residual_figures(material.rows, fit)
    if not drawings or fit is None:
        return ""
    wide = ["against N", "against D", "against epochs, which the law does not contain"]
    placed = "".join(
        drawn.place(figure, f"Residuals of the fitted gap law {what}.")
        for figure, what in zip(drawings, wide, strict=True)
    )
    return (
        "<p>A residual is the gap minus the fitted law, over the standard deviation that the fit gives the row: its"
        f" measured error and the law's scatter tau = {number(fit.scatter['tau'])}. About 95 % should lie in the band"
        " of ± 2, at every N, D and number of epochs; a slope is something the law lacks."
        f'</p><div class="three">{placed}</div>'
    )


def _rivals(material: Material) -> str:
    found = material.verdict
    if found is None:
        return ""
    text = (
        "<p>All laws are fitted to the same rows. Smaller AICc and BIC are better, differences of 10 are decisive; the"
        " cross-validated log score (larger is better) comes from rows that the fit did not see.</p>"
        + tables.comparison_table(found.comparison)
        + bullets([f"<b>{row.law}</b>: {prose(get_law(row.law).formula)}" for row in found.comparison])
    )
    if found.nulls:
        text += (
            "<h3>What this design could have found</h3><p>The same rule on gaps simulated from known truths at"
            " these very N, D and errors. Where the law is true and the rule cannot say so, these runs cannot"
            " support it; where it is false and the rule supports it, support means nothing.</p>"
            + tables.nulls_table(found.nulls)
        )
    return text


def _losses(material: Material, drawn: Drawn) -> str:
    drawings = curve_figures(material.runs, material.series, material.evals)
    if not drawings:
        return ""
    parts, options = "", ""
    for name, figure in drawings.items():
        options += f"<option>{escape(name)}</option>"
        placed = drawn.place(
            figure,
            f"{escape(name)}: training loss (thin; means over equal ratios of tokens), held-out loss (thick) and seen"
            " loss (dotted) of every run, coloured by N. The gap is held-out minus seen. A click on the legend hides"
            " or shows a kind of line; step 0 is not drawn.",
        )
        parts += f'<div class="loss-curves" data-name="{escape(name)}">{placed}</div>'
    hidden = "" if len(drawings) > 1 else " hidden"
    return f'<label{hidden}>Text and tokenizer <select data-choose="loss-curves">{options}</select></label>{parts}'


def _measurement(material: Material, drawn: Drawn) -> str:
    rows = material.rows
    if rows.empty or material.truth is not None:
        return ""
    both = rows.loc[np.isfinite(numbers(rows, "gap_online"))]
    parts = []
    if len(both):
        below = int(np.sum(numbers(both, "gap_online") < numbers(both, "gap_probe")))
        parts.append(
            drawn.place(
                estimator_figure(both),
                "The source's estimator (online: held-out loss minus the mean training loss of the last 100 steps)"
                f" against the probe gap; on the line they agree. It is lower in {below} of {len(both)} runs. In a"
                " first epoch the training loss is of windows not read before, and what is left is what other windows"
                " of the same documents had taught. Bars: 95 %.",
            )
        )
    scores = placebo_scores(rows)
    if len(scores):
        beyond = int(np.sum(np.abs(scores) > BEYOND))
        texts = len(set(rows["domain"] + " " + rows["tokenizer"]))
        parts.append(
            drawn.place(
                placebo_figure(scores),
                "Placebo: the gap between two halves of the held-out text, truly zero, over its standard error."
                f" {beyond} of {len(scores)} ({beyond / len(scores):.0%}) lie beyond {BEYOND:g}, expected"
                f" {EXPECTED:.0%}. Runs on the same text share its halves, so these are {texts} independent draws"
                f" rather than {len(scores)}.",
            )
        )
    return f'<div class="pair">{"".join(parts)}</div>' + _twins(material, drawn)


def _twins(material: Material, drawn: Drawn) -> str:
    if not material.cells:
        return ""
    rows, found = [row for row, _ in material.cells], [each for _, each in material.cells]
    return (
        "<h3>Twins</h3><p>Two runs on disjoint halves of the documents, each measured on what the other has seen. The"
        " differences of their losses vary far less from document to document than losses do, and a lead of one of"
        " them is on both halves.</p>"
        + drawn.place(
            measured.side_by_side(rows), "Every estimator of the gap of each cell of twins, averaged over seeds."
        )
        + measured.estimators_table(rows)
        + '<div class="pair">'
        + drawn.place(measured.over_training(rows, found), "Whether the gap had settled: after every evaluation.")
        + drawn.place(measured.by_recency(rows, found), "The gap of text by how long ago it was last seen.")
        + "</div>"
    )


def _cost(material: Material) -> str:
    if material.runs.empty or material.truth is not None:
        return ""
    text = (
        "<p>Tokens and FLOPs of the steps taken; seconds are each run's share of the training and"
        " the compiling of its pack; evaluation is in neither.</p>" + tables.cost_table(material.runs)
    )
    states = Counter(material.runs["status"])
    broken, left = states["failed"] + states["diverged"], states.total() - states["done"]
    text += f"<h3>Runs without a result</h3><p>{broken} failed or diverged, {left - broken} not finished.</p>"
    return text + (tables.unfinished_table(material.runs) if left else "")


def _runs(material: Material) -> str:
    if material.runs.empty:
        return "<p>The sweep has no runs.</p>"
    units = "D, U and batch in tokens; losses and gaps in nats per token."
    if material.truth is not None:
        units = "D and U in samples; losses and gaps in the oracle's own unit."
    return f"<p>A click on a heading sorts. {units}</p>" + tables.runs_html(material.runs)


def _provenance(material: Material) -> str:
    environment, text = material.environment, ""
    if material.truth is not None:
        return provenance_of_table(material.name, material.truth[0])
    if environment is None:
        text += "<p>No run has begun: there is no environment to record.</p>"
    else:
        plain = {name: value for name, value in environment.items() if not isinstance(value, dict)}
        plain = {name: ", ".join(value) if isinstance(value, list) else value for name, value in plain.items()}
        text += tables.facts_table(plain) + tables.facts_table(environment["packages"])
        hashes = [[pair, *(facts[k] for k in ("corpus", "tokenizer", "tokens"))] for pair, facts in
                  environment["data"].items()]  # fmt: skip
        if hashes:
            text += tables.table(("text and tokenizer", "corpus hash", "tokenizer hash", "tokens hash"), hashes)
    folder = PurePath(material.name).name
    commit = (environment or {}).get("git_commit")
    commands = [f"git checkout {commit}"] if commit else []
    commands += [
        "pip install .", f"isogap run sweep.yaml --out {folder}", f"isogap status {folder}",
        f"isogap fit {folder} --law {LAW}", f"isogap report {folder}",
    ]  # fmt: skip
    return (
        f"{text}<h3>To repeat it</h3><p>The sweep below saved as <code>sweep.yaml</code>, in a checkout of isogap:</p>"
        f"<pre>{escape(chr(10).join(commands))}</pre>"
        f"<details><summary>sweep.yaml</summary><pre>{escape(material.spec)}</pre></details>"
        f"<details><summary>environment.json</summary><pre>{escape(json.dumps(environment, indent=1))}</pre></details>"
    )
