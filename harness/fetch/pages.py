"""A page: what is held out as one, cut into documents; and what pages of one source share without being its text."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.data.pieces import cut_text

# Shorter pages are stubs: a title, a redirection, a line that says where to look instead.
SHORTEST_PAGE = 200
# Lines at the head and foot of a page that may be the site's and not the page's.
EDGE = 30

_BLANK_LINES = re.compile(r"\n{3,}")
_TRAILING = re.compile(r"[ \t\f\r]+$", re.MULTILINE)
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff\x00"))
_ENGLISH = frozenset("the of and to a in is that for it on with as are this be by you or not from at have".split())
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Page:
    """Attributes:
    group: of a file, a paper, a mail, a directory of modules: unique within its source. Groups are held out.
    pieces: its text, cut into documents of 1 to 4 kB.
    licence: where it differs from its source's.
    """

    group: str
    pieces: tuple[str, ...]
    licence: str = ""


def prose(texts: Iterable[tuple[str, str]]) -> Iterator[Page]:
    """Pages of (group, text), tidied and cut; those under 200 characters are left out."""
    for group, text in texts:
        text = tidy(text)
        if len(text) >= SHORTEST_PAGE:
            yield Page(group, cut(text))


def cut(text: str) -> tuple[str, ...]:
    """The text in pieces of 1 to 4 kB, none of them blank."""
    return tuple(piece for piece in cut_text(text) if piece.strip())


def tidy(text: str) -> str:
    """Without invisible characters and trailing blanks, at most one blank line in a row, one newline at the end."""
    text = text.replace("\r\n", "\n").translate(_UNSEEN).replace("\u00a0", " ")
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text)).strip("\n") + "\n"


def without_shared_edges(texts: Iterable[tuple[str, str]], share: float = 0.05) -> list[tuple[str, str]]:
    """(group, text) without the lines at the head and foot of pages that many pages of the source have there.

    Menus, mottos, mailing lists' footers: what a site puts around its pages is found by its repetition, so that no
    site's layout need be known. Only lines at the very edge go: the first that is the page's own ends the search.

    Args:
        share: of the pages, above which a line at an edge is the site's; at least four pages.
    """
    pages = [(group, text.splitlines()) for group, text in texts]
    enough = max(4.0, share * len(pages))
    for backwards in (False, True):
        counts: Counter[str] = Counter()
        for _, lines in pages:
            edge = lines[-EDGE:] if backwards else lines[:EDGE]
            counts.update({line.strip() for line in edge})
        for _, lines in pages:
            position = -1 if backwards else 0
            for _ in range(EDGE):
                if not lines or (lines[position].strip() and counts[lines[position].strip()] < enough):
                    break
                del lines[position]
    return [(group, "\n".join(lines)) for group, lines in pages]


def is_english(text: str) -> bool:
    """Whether at least 8 % of the words are among the 24 commonest of English.

    English mails and articles have 25 to 45 %; French, German and Spanish under 5 %, for they share `a`, `in`, `on`.
    """
    words = _WORD.findall(text.lower())
    return sum(word in _ENGLISH for word in words) >= 0.08 * max(1, len(words))
