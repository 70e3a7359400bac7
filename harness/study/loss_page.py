"""The page of a study of losses: the finding, its figures, the claims with their evidence, and the tables."""

from collections.abc import Mapping
from html import escape

import pandas as pd

from harness.report.page_tables import html_table
from harness.report.shell import bullets, shell
from harness.study.figures import claims_figure, image_of
from harness.study.loss_verdict import LossVerdict
from harness.study.page import CAPTIONS, asked, figure, repeat_section
from harness.study.repeats import Repeat
from harness.study.studies import Study


def draw_loss_figures(verdict: LossVerdict, kind: str) -> dict[str, bytes]:
    """Draw a study's figures and that of its claims: name -> image, png or svg."""
    images = {name: image_of(drawing.draw, kind) for name, drawing in verdict.drawings.items()}
    return images | {"claims": image_of(lambda: claims_figure(verdict.claims), kind)}


def loss_page(
    study: Study, runs: pd.DataFrame, verdict: LossVerdict, images: Mapping[str, bytes], repeat: Repeat | None
) -> str:
    """Write the page as HTML. Figures stand side by side where there is room.

    Args:
        images: what `draw_loss_figures` drew, in svg.
    """
    figures = "".join(figure(images[name], drawing.caption, wide=False) for name, drawing in verdict.drawings.items())
    claims = [(each.id, each.claim, each.ruling.words, each.finding, each.rows) for each in verdict.claims]
    tables = "".join(
        f"<h3>{escape(title)}</h3>{html_table(list(rows[0]), [list(row.values()) for row in rows])}"
        for title, rows in verdict.tables.items()
        if rows
    )
    sections = [
        ("finding", "", f"{asked(study)}<div class='pair'>{figures}</div>"),
        ("claims", "The claims", html_table(("claim", "what is claimed", "verdict", "finding", "runs"), claims)),
        repeat_section(repeat),
        ("numbers", "The numbers that decide", figure(images["claims"], CAPTIONS["claims"])),
        ("tables", "The numbers", tables),
        ("notes", "What to know of the runs", bullets([escape(note) for note in verdict.notes])),
    ]  # fmt: skip
    done = list(runs["status"]).count("done")
    kicker = f"isogap study {escape(study.name)}, {done:,} finished runs"
    return shell(study.name, kicker, verdict.headline, sections)
