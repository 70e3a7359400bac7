"""The frame of every page: a headline, sections with links to them, and figures with their data."""

import re
from html import escape
from pathlib import Path
from typing import cast

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs


class PlacedFigures:
    """Numbers the figures of a page in the order in which they are placed, and writes each with its data."""

    def __init__(self):
        self.count = 0

    def place(self, figure: go.Figure, caption: str) -> str:
        """Write a figure with its caption, which is HTML, and its data beside it."""
        self.count += 1
        name = f"figure-{self.count}"
        height = cast(int, figure.layout["height"])  # plotly types no attribute of a layout
        data = (figure.to_json() or "").replace("</", "<\\/")
        return (
            f'<figure><div class="plot" data-figure="{name}" style="height:{height}px" role="img"></div>'
            f"<figcaption><b>Figure {self.count}.</b> {caption}</figcaption></figure>"
            f'<script type="application/json" id="{name}">{data}</script>'
        )


def shell(name: str, kicker: str, headline: str, sections: list[tuple[str, str, str]]) -> str:
    """Write a whole page as HTML, with the plotting library in it once if there are figures that it draws.

    Args:
        kicker: a line of HTML above the headline.
        headline: plain text.
        sections: id, title and HTML of each; the first is shown without its title, empty ones are left out.
    """
    first, *rest = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{id_}">{title}</a>' for id_, title, _ in rest)
    body = "".join(f'<section id="{id_}"><h2>{title}</h2>{text}</section>' for id_, title, text in rest)
    plotted = any('class="plot"' in text for _, _, text in sections)  # the library has 5 MB
    library = f"<script>{get_plotlyjs()}</script>" if plotted else ""
    without = "<noscript><p>The figures need JavaScript; the numbers stand in the tables.</p></noscript>"
    css, js = (Path(__file__).with_name(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}: {escape(headline)}</title><style>{css}</style></head><body><main>"
        f'<header id="{first[0]}"><p class="kicker">{kicker}</p><h1>{prose_html(headline)}</h1>'
        f"<nav>{links}</nav></header>"
        f"{first[2]}{body}"
        f"{without if plotted else ''}</main>"
        f"{library}<script>{js}</script></body></html>\n"
    )


def prose_html(text: str) -> str:
    """Escape a text, and keep the exponents of a formula on one line."""
    return re.sub(r"\S*\^\S*", lambda match: f'<span class="formula">{match[0]}</span>', escape(text))


def bullets(items: list[str]) -> str:
    """Write a list of HTML items; nothing if there are none."""
    return f'<ul class="notes">{"".join(f"<li>{item}</li>" for item in items)}</ul>' if items else ""
