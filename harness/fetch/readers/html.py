"""HTML: manuals and other pages."""

import re
from collections.abc import Iterator
from pathlib import Path

from resiliparse.extract.html2text import extract_plain_text  # pyright: ignore[reportMissingModuleSource]

from harness.fetch.readers.archives import members
from harness.fetch.readers.pages import Page, prose, without_shared_edges

# Elements around a page's text, by the names they have in HTML itself, Sphinx, DocBook and the manuals read here.
_AROUND = [
    "head", "script", "style", "noscript", "template", "iframe", "svg", "form", "button", "nav", "header", "footer",
    "[role=navigation]", "[role=search]", "[role=banner]", "[role=contentinfo]", "#quickview", "#preamble", "#path",
    ".sphinxsidebar", ".related", ".headerlink", "div.footer", ".navheader", ".navfooter", ".toc", "#toc", "#langs",
    ".toctree-wrapper", ".toplang", ".bottomlang", ".indexterm", ".book-navigation", ".howtoget", ".top > a",
]  # fmt: skip
_INDEXES = re.compile(
    r"(?:^|[/_-])(?:gen|mod|py-mod|book|doc|key)?(?:index|keyword_index|search|contents|toc|sitemap|"
    r"(?:gen|py-mod)index-\w+)\.html?$"
)
_COPYRIGHT = re.compile(r"^\W*(?:copyright\b|\(c\)|©|all rights reserved).{0,300}$", re.IGNORECASE | re.MULTILINE)


def html_text(source: str) -> str:
    """The text of a page, with separate paragraphs, bullets and unchanged code, without navigation and copyright lines.

    The extraction is Resiliparse's (Bevendorff et al. 2018), which also made the text of large web corpora.
    """
    text = extract_plain_text(source, preserve_formatting=True, alt_texts=False, skip_elements=_AROUND)
    return _COPYRIGHT.sub("", text.replace("¶", ""))


def manual(archive: Path, pattern: str) -> Iterator[Page]:
    """The HTML pages of a package, one group per page; indexes and search pages, which list words, are left out."""
    texts = (
        (name, html_text(content.decode("utf-8", "replace")))
        for name, content in members(archive, pattern)
        if not _INDEXES.search(name)
    )
    return prose(without_shared_edges(texts))
