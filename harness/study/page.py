"""The page of the gap law's study: the finding, every claim with its evidence, and the figures, in one HTML file."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from harness.fit.results.shown import warning_lines
from harness.forecasts.score import ForecastScores, laws_table
from harness.report.page_tables import html_table
from harness.report.shell import bullets, shell
from harness.study.cells import BLOCK
from harness.study.contest import LawContest
from harness.study.documents import DocumentShare
from harness.study.gap_study import GapVerdict
from harness.study.repeats import Repeat
from harness.study.slopes import GroupSlopes
from harness.study.studies import Study

CAPTIONS = {
    "gap": "Left: the gap of text that was read once, with 95 % intervals, and what the published law says for the same"
    " sizes. Right: their ratio against the variable of the law; the law is right where it is 1.",
    "claims": "Every number that decides a claim, with its interval; those of which the same range is claimed share a"
    " scale. The band is what the claim allows: a number agrees if its whole interval is inside, and contradicts the"
    " claim if the whole interval is outside.",
    "epochs": "The gap of text that was read several times, and the published law.",
    "groups": "The gap of each group over the mean of all groups at the same N and D, which stand side by side. Marks"
    " of the larger N are open. Groups that share the exponents keep their distance along the axis.",
}
FORECAST_CAPTION = (
    "How far forecasts and their 95 % intervals were from what was measured: the four best laws of the table and the"
    " law under test. They were registered before these runs were trained. An interval that holds 0 holds the measured"
    " value. The scale is linear near 0 and logarithmic beyond, and cut at 1,000 %."
)


def study_page(
    study: Study, runs: pd.DataFrame, verdict: GapVerdict, images: Mapping[str, bytes], repeat: Repeat | None
) -> str:
    """Write the page as HTML.

    Args:
        images: what `harness.study.figures.draw_figures` drew, in svg.
    """
    shown = {name: figure(image, CAPTIONS[name]) for name, image in images.items() if name in CAPTIONS}
    words = [(claim.id, claim.ruling.words, claim.claim, claim.finding, claim.rows) for claim in verdict.claims]
    online = [(claim.id, claim.ruling.words, claim.claim, claim.finding) for claim in verdict.online]
    checks = [
        f"{escape(check.name)}: {check.positive:.1%} of {check.trials} tests at 5 % found an effect"
        f" [{check.low:.1%}, {check.high:.1%}]: {'passed' if check.passed else 'not passed'}"
        for check in verdict.checks
    ]  # fmt: skip
    laws = "".join(map(_laws, verdict.laws))
    sections = [
        ("finding", "", asked(study) + shown.get("gap", "")),
        ("claims", "The claims", html_table(("claim", "word", "what is claimed", "finding", "rows"), words)),
        repeat_section(repeat),
        ("numbers", "The numbers that decide", shown["claims"]),
        ("epochs", "Text read several times", shown.get("epochs", "")),
        ("groups", "Architectures, tokenizers, texts, batches", shown.get("groups", "")),
        ("slopes", "The powers of N and D in every group", _slopes(verdict.slopes)),
        ("laws", "The laws that compete", laws),
        ("forecasts", "Forecasts", _forecasts(verdict.forecasts, images)),
        ("online", "What the online estimator would have said",
         html_table(("claim", "word", "what is claimed", "finding"), online)),
        ("checks", "Checks of the instrument", bullets(checks)),
        ("documents", "Windows or documents", _documents(verdict.documents)),
        ("memory", "Bits of text held", _memory(verdict.memory)),
    ]  # fmt: skip
    done = list(runs["status"]).count("done")
    kicker = f"isogap study of the gap law, {done:,} finished runs in {runs[BLOCK].nunique()} blocks"
    return shell("gap law", kicker, verdict.headline, sections)


def asked(study: Study) -> str:
    """A study's question, and whose claims it judges, with links to arXiv."""
    linked = r"<a href='https://arxiv.org/abs/\g<0>'>arXiv \g<0></a>"
    paper = re.sub(r"(?<=\()\d{4}\.\d{5}(?=\))", linked, escape(study.paper))
    claimed = f"<p>The claims are those of {paper}.</p>" if paper else ""
    return f"<p class='lead'>{escape(study.question)}</p>{claimed}"


def repeat_section(repeat: Repeat | None) -> tuple[str, str, str]:
    """The section of a page that compares a repeat with its study; empty for none, so that the page leaves it out."""
    if repeat is None:
        return "repeat", "", ""
    words = [tuple(row.values()) for row in repeat.words]
    numbers = [
        (row["claim"], row["number"], row["here"], row["in_study"], "yes" if row["inside"] else "no")
        for row in repeat.numbers
    ]
    body = (
        f"<p>{escape(repeat.summary)}</p>{html_table(('claim', 'verdict here', 'verdict of the study'), words)}"
        + html_table(("claim", "number", "here", "in the study", "here inside of the study's interval"), numbers)
    )
    return "repeat", "Beside the study that comes with isogap", body


def figure(image: bytes, caption: str, wide: bool = True) -> str:
    """A figure of a page with its caption.

    Args:
        image: in svg.
        caption: plain text.
        wide: whether it scrolls on a narrow screen; else it shrinks with the page.
    """
    text = image.decode()
    style = f"width:100%;height:auto{';min-width:640px' if wide else ''}"
    # Without the XML declaration.
    drawn = text[text.index("<svg") :].replace("<svg", f'<svg style="{style}"', 1)
    shown = f"<div class='box'>{drawn}</div>" if wide else drawn
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def _slopes(groups: Sequence[GroupSlopes]) -> str:
    if not groups:
        return ""
    rows = [
        (g.block, g.group, g.cells, f"{g.in_n:.2f} [{g.in_n_low:.2f}, {g.in_n_high:.2f}]",
         f"{g.in_d:.2f} [{g.in_d_low:.2f}, {g.in_d_high:.2f}]", g.scatter)
        for g in groups
    ]  # fmt: skip
    said = (
        "The gap as a product of powers of N and D in every group of cells (95 % intervals). The law says a power of N"
        " of -0.31 below u = 1 and 0 above, and powers of D of 0 and -0.42. In the source's own study (as_published)"
        " more text comes with larger batches, so that its powers of D are of both."
    )
    names = ("block", "group", "cells", "power of N", "power of D", "scatter beyond the errors")
    return f"<p>{said}</p>{html_table(names, rows)}"


def _laws(contest: LawContest) -> str:
    ranked = html_table(
        ("law", "AICc above best", "score on larger runs", "error on larger runs", "share of resamplings best"),
        [(law["law"], law["delta_aicc"], law["heldout_score"], law["heldout_error"], law["p_best"])
         for law in contest.ranked],
    )  # fmt: skip
    known = [row for row in contest.constants if row["identified"]]
    constants = html_table(
        ("law", "constant", "estimate", "95 % from", "to"),
        [(row["law"], row["constant"], row["estimate"], row["low"], row["high"]) for row in known],
    )
    missing = [f"{row['constant']} of {row['law']}" for row in contest.constants if not row["identified"]]
    told = f"<p>Not identified: {escape(', '.join(missing))}.</p>" if missing else ""
    told += "".join(f"<p>{escape(line)}</p>" for line in contest.left_out)
    return f"<h3>{escape(contest.cells)}: {contest.rows} cells</h3>{ranked}{constants if known else ''}{told}"


def _forecasts(files: Mapping[str, ForecastScores], images: Mapping[str, bytes]) -> str:
    parts = []
    for name, scores in files.items():
        laws = laws_table(scores.laws)
        parts += [f"<h3>{escape(name)}.jsonl</h3>", html_table(laws.columns, laws.rows)]
        if scores.missing:
            parts.append(f"<p>{len(scores.missing)} forecasts are not measured yet.</p>")
        parts += [f"<p>{escape(line)}</p>" for line in warning_lines(scores.warnings)]
        if name in images:
            parts.append(figure(images[name], FORECAST_CAPTION))
    return "".join(parts)


def _documents(shares: Sequence[DocumentShare]) -> str:
    if not shares:
        return ""
    rows = [
        (each.block, each.pairs, each.gap, each.unread, f"{each.share:.2f} [{each.low:.2f}, {each.high:.2f}]")
        for each in shares
    ]
    names = ("block", "pairs of twins", "gap of windows read", "of windows not read yet", "share")
    said = (
        "Midway through text read once, the gap on the windows that were read, and on other windows, mostly of the same"
        " documents. Their ratio is the share of the gap that is memory of documents (95 % interval)."
    )
    return f"<p>{said}</p>{html_table(names, rows)}"


def _memory(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    names = ("block", "N", "U", "epochs", "G", "bits_per_parameter", "share_of_capacity")
    table = html_table(names, [[row[name] for name in names] for row in rows])
    said = (
        "All of the gap is counted, also what repeated text adds to the loss on new text: these are upper bounds. "
        "Models of random text held 3.5 bits per parameter in bfloat16 and 3.8 in float32 (Morris et al. 2025)."
    )
    return f"<p>{said} The last column is the share of 3.6.</p>{table}"
