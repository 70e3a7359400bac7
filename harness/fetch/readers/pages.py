"""Pages: text that is held out together, cut into documents, without the lines that a site repeats on every page."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.data.pieces import cut_code, cut_text, parse, split_lines

# Shorter pages are stubs: a title, a redirection, a line that says where to look instead.
SHORTEST_PAGE = 200
# How many lines at the head, and at the foot, of a page are searched for lines that the whole site repeats.
EDGE = 30

_BLANK_LINES = re.compile(r"\n{3,}")
_TRAILING = re.compile(r"[ \t\f\r]+$", re.MULTILINE)
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff\x00"))
_ENGLISH = frozenset("the of and to a in is that for it on with as are this be by you or not from at have".split())
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Page:
    """A text that is held out as a whole.

    Attributes:
        group: the name of its group within its source: a file, a paper, a mail, or a directory with several pages.
        pieces: its text, cut into documents of 1 to 4 kB.
        licence: its licence where that differs from its source's.
    """

    group: str
    pieces: tuple[str, ...]
    licence: str = ""


def prose(texts: Iterable[tuple[str, str]]) -> Iterator[Page]:
    """Make pages of (group, text), tidied and cut; texts under 200 characters are left out."""
    for group, text in texts:
        text = tidy(text)
        if len(text) >= SHORTEST_PAGE:
            yield Page(group, cut_page(text))


def cut_page(text: str, *, python: bool = False) -> tuple[str, ...]:
    """The text in pieces of 1 to 4 kB, none of them blank; Python sources are cut between statements."""
    tree = parse(text) if python else None
    pieces = cut_text(text) if tree is None else cut_code(split_lines(text), tree)
    return tuple(piece for piece in pieces if piece.strip())


def tidy(text: str) -> str:
    """The text without invisible characters and trailing blanks, with single blank lines and one newline at the end."""
    text = text.replace("\r\n", "\n").translate(_UNSEEN).replace("\u00a0", " ")
    return _BLANK_LINES.sub("\n\n", _TRAILING.sub("", text)).strip("\n") + "\n"


def without_shared_edges(texts: Iterable[tuple[str, str]], share: float = 0.05) -> list[tuple[str, str]]:
    """Group and text of each page, without lines at its head and foot that many pages of the source have there.

    Menus, mottos and footers of mailing lists are found because they repeat, so that no site's layout need be known.
    Only lines at the very edge are removed: the first line that is the page's own ends the search. A line is the site's
    if more than this share of the pages, and at least four, have it.
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
