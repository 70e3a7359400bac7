"""The frame of every page: a headline, sections with links to them, figures whose data stand at their places."""

import re
from html import escape
from typing import cast

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from harness.report.style import CSS, JS


class Drawn:
    """Figures in the order they are placed; gives each its place and keeps its data for the page's end."""

    def __init__(self):
        self.count = 0

    def place(self, figure: go.Figure, caption: str) -> str:
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
    """The whole page as HTML; the plotting library stands in it once.

    Args:
        kicker: a line of HTML above the headline.
        headline: plain text.
        sections: id, title and HTML of each; the first has no title, the empty ones are left out.
    """
    first, *rest = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{id_}">{title}</a>' for id_, title, _ in rest)
    body = "".join(f'<section id="{id_}"><h2>{title}</h2>{text}</section>' for id_, title, text in rest)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}: {escape(headline)}</title><style>{CSS}</style></head><body><main>"
        f'<header id="{first[0]}"><p class="kicker">{kicker}</p><h1>{prose(headline)}</h1><nav>{links}</nav></header>'
        f"{first[2]}{body}"
        "<noscript><p>The figures need JavaScript; the numbers stand in the tables.</p></noscript></main>"
        f"<script>{get_plotlyjs()}</script><script>{JS}</script></body></html>\n"
    )


def prose(text: str) -> str:
    """Escaped, a formula's exponents kept on one line."""
    return re.sub(r"\S*\^\S*", lambda found: f'<span class="formula">{found[0]}</span>', escape(text))


def bullets(items: list[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{item}</li>" for item in items)}</ul>' if items else ""
