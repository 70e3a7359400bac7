"""The page of the gap law's study: the finding, every claim with its evidence, and the figures, in one HTML file."""

from html import escape
from typing import Any

import pandas as pd

from harness.report.page_tables import html_table
from harness.report.shell import bullets, shell
from harness.study.cells import BLOCK, blocks_of
from harness.study.figures import draw_figures
from harness.study.gap_study import GapVerdict

CAPTIONS = {
    "gap": "Left: the gap of text that was read once, with 95 % intervals, and what the published law says for the same"
    " sizes. Right: their ratio against the variable of the law; the law is right where it is 1.",
    "claims": "Every number that decides a claim, as its distance from what is claimed in margins, with its 95 %"
    " interval. Inside the band it agrees; an interval that is wholly outside contradicts the claim.",
    "epochs": "The gap of text that was read several times, and the published law.",
    "groups": "The gap of each group over the mean of all groups at the same N and D. Groups that share the exponents"
    " keep their distance along the axis.",
}


def study_page(question: str, runs: pd.DataFrame, verdict: GapVerdict) -> str:
    """Write the page as HTML."""
    images = {
        name: f"<figure>{inline_svg(image)}<figcaption>{escape(CAPTIONS[name])}</figcaption></figure>"
        for name, image in draw_figures(blocks_of(runs), verdict.claims, "svg").items()
    }
    words = [(claim.id, claim.claim, _word(claim.ruling), claim.finding, claim.rows) for claim in verdict.claims]
    online = [(claim.id, claim.claim, _word(claim.ruling), claim.finding) for claim in verdict.online]
    checks = [
        f"{escape(check.name)}: {check.positive:.1%} of {check.trials} tests at 5 % found an effect"
        f" [{check.low:.1%}, {check.high:.1%}]: {'passed' if check.passed else 'not passed'}"
        for check in verdict.checks
    ]  # fmt: skip
    laws = "".join(f"<h3>{escape(name)}</h3>{_laws(ranked)}" for name, ranked in verdict.laws.items())
    sections = [
        ("finding", "", f"<p class='lead'>{escape(question)}</p>{images.get('gap', '')}"),
        ("claims", "The claims", html_table(("claim", "what is claimed", "word", "finding", "rows"), words)),
        ("numbers", "The numbers that decide", images["claims"]),
        ("epochs", "Text read several times", images.get("epochs", "")),
        ("groups", "Architectures, tokenizers, texts, batches", images.get("groups", "")),
        ("laws", "The laws that compete", laws),
        ("online", "What the online estimator would have said",
         html_table(("claim", "what is claimed", "word", "finding"), online)),
        ("checks", "Checks of the instrument", bullets(checks)),
        ("memory", "Bits of text held", _memory(verdict.memory)),
    ]  # fmt: skip
    done = list(runs["status"]).count("done")
    kicker = f"isogap study of the gap law, {done:,} finished runs in {runs[BLOCK].nunique()} blocks"
    return shell("gap law", kicker, verdict.headline, sections)


def inline_svg(image: bytes) -> str:
    """An SVG image as part of a page: without the XML declaration, as wide as the page."""
    text = image.decode()
    return text[text.index("<svg") :].replace("<svg", '<svg style="width:100%;height:auto"', 1)


def _word(word: str) -> str:
    return word.replace("_", " ")


def _laws(ranked: list[dict[str, Any]]) -> str:
    rows = [(law["law"], law["rows"], law["delta_aicc"], law["heldout_error"], law["p_best"]) for law in ranked]
    return html_table(("law", "cells", "AICc above best", "error on larger runs", "share of resamplings best"), rows)


def _memory(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    names = ("block", "N", "U", "epochs", "G", "bits_per_parameter", "share_of_capacity")
    table = html_table(names, [[row[name] for name in names] for row in rows])
    return f"<p>Models of random text held up to 3.6 bits per parameter (Morris et al. 2025).</p>{table}"
