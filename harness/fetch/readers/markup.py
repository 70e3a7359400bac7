"""Turns hand-written markup into plain text: reStructuredText, POD and Wikipedia's."""

import bz2
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import mwparserfromhell

from harness.fetch.readers.archives import members
from harness.fetch.readers.pages import Page, prose

_ROLE = re.compile(r":[\w:+.-]+:`([^`]+)`")
_TARGET = re.compile(r"\s*<[^<>`]*>$")
_LINK = re.compile(r"`([^`<]+?)\s*<[^>`]*>`__?|`([^`]+)`__?(?!\w)")
_LITERAL = re.compile(r"``(.+?)``")
# Directives whose argument or body is not prose; the bodies of all others (notes, code) stay.
_DROPPED = re.compile(
    r"^(\s*)\.\. +(?:\|[^|]*\| *)?(?:toctree|contents|include|image|figure|raw|only|index|highlight|versionadded|"
    r"module|currentmodule|default-domain|_|\[)(?:.*)$"
)
_DIRECTIVE = re.compile(r"^(\s*)\.\. +(?:\|[^|]*\| *)?([\w:+-]+)::\s*(.*)$")
_COMMENT = re.compile(r"^(\s*)\.\.(?:\s+(?![\w:+-]+::).*)?$")
_OPTION = re.compile(r"^\s+:[\w -]+:(?:\s.*)?$")
_RULE = re.compile(r"^\s*([=\-~^\"'`#*+.:_])\1{2,}\s*$")

_POD_ENTITIES = {"lt": "<", "gt": ">", "verbar": "|", "sol": "/"}
# Stand-ins for brackets that are text, while the formatting codes around them are removed.
_HIDE, _SHOW = str.maketrans("<>", "\ue000\ue001"), str.maketrans("\ue000\ue001", "<>")
_POD_CODE = re.compile(r"([A-DF-Z])(?:<<\s+(.*?)\s+>>|<<<\s+(.*?)\s+>>>|<((?:[^<>]|E<[^<>]*>)*)>)", re.DOTALL)
_POD_LEGAL = re.compile(r"^(?:authors?|copyright|licen[sc]e|acknowledge?ments?|contributors)\b", re.IGNORECASE)
_POD_ENTITY = re.compile(r"E<(\w+)>")

# Lists of links and citations, at the end of articles.
_APPARATUS = re.compile(
    r"^==+\s*(?:see also|references|notes|footnotes|external links|further reading|bibliography|sources|citations|"
    r"notes and references|works cited)\s*==+\s*$.*",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_EXPORT = "{http://www.mediawiki.org/xml/export-0.10/}"


def rst_text(source: str) -> str:
    """reStructuredText without its markup: directives, roles, targets, underlines; code and notes stay."""
    lines: list[str] = []
    dropped = -1  # indentation of the directive or comment whose body is being left out
    options = False
    for line in source.expandtabs().splitlines():
        indent = len(line) - len(line.lstrip())
        if dropped >= 0 and (not line.strip() or indent > dropped):
            continue
        dropped = -1
        if _DROPPED.match(line) or _COMMENT.match(line):
            dropped = indent
        elif match := _DIRECTIVE.match(line):
            options = True
            if match[3] and not match[2].startswith(("code", "parsed-literal")):
                lines.append(match[1] + match[3])
        elif not (options and _OPTION.match(line)) and not _RULE.match(line):
            options = options and not line.strip()
            lines.append(line)
    text = "\n".join(lines)
    text = _ROLE.sub(lambda match: _TARGET.sub("", match[1]).lstrip("~!"), text)
    text = _LITERAL.sub(r"\1", text)
    text = _LINK.sub(lambda match: match[1] or match[2], text)
    for stars in (r"\*\*", r"\*"):
        text = re.sub(rf"(?<![*\w]){stars}([^\s*](?:[^*\n]*[^\s*])?){stars}(?![*\w])", r"\1", text)
    return re.sub(r"::[ \t]*$", ":", re.sub(r"\|(\w+)\|", r"\1", text), flags=re.MULTILINE)


def pod_text(source: str) -> str:
    """Perl's Plain Old Documentation without its commands and formatting codes; program text stays, sections on
    authors and licence go."""
    paragraphs: list[str] = []
    inside, skipped, legal = False, False, False
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", source):
        command, _, rest = paragraph.partition(" ") if paragraph.startswith("=") else ("", "", paragraph)
        command = command.split("\n")[0]
        if command.startswith("=head"):
            legal = bool(_POD_LEGAL.search(rest))
        if command == "=cut":
            inside = False
        elif legal:
            continue
        elif command in ("=begin", "=end"):
            skipped = command == "=begin"
        elif command.startswith("=") and command not in ("=for", "=encoding"):
            inside = True
            if command.startswith("=head") and not skipped:
                paragraphs.append(_pod_inline(rest))
            elif command == "=item" and not skipped:
                paragraphs.append(("* " + _pod_inline(rest.strip().removeprefix("*").strip())).strip())
        elif inside and not skipped and not command and paragraph.strip():
            verbatim = paragraph[:1].isspace()
            text = paragraph if verbatim else _pod_inline(paragraph)
            if paragraphs and paragraphs[-1] == "*":
                paragraphs[-1] = "* " + text
            else:
                paragraphs.append(text)
    return "\n\n".join(paragraph.rstrip() for paragraph in paragraphs if paragraph != "*") + "\n"


def _pod_inline(text: str) -> str:
    for _ in range(6):  # codes nest, inner ones first
        text, count = _POD_CODE.subn(_pod_code, text)
        if not count:
            break
    # Entities come last, because an entity may be a bracket.
    text = _POD_ENTITY.sub(lambda match: _POD_ENTITIES.get(match[1]) or unescape(f"&{match[1]};"), text)
    return text.translate(_SHOW)


def _pod_code(match: re.Match[str]) -> str:
    inner = next(text for text in match.groups()[1:] if text is not None)
    if match[4] is None:
        inner = inner.translate(_HIDE)
    if match[1] in "XZ":  # X is an index entry, Z a null code
        return ""
    if match[1] == "L":
        shown, bar, _ = inner.partition("|")
        return shown if bar or "://" in shown else shown.replace("/", " ").replace('"', "").strip()
    return inner


def wiki_text(source: str) -> str:
    """An article's text without templates, tables, pictures, references and the lists of links at its end."""
    source = _APPARATUS.sub("", source)
    code = mwparserfromhell.parse(re.sub(r"\{\|.*?\n\|\}", "", source, flags=re.DOTALL), skip_style_tags=True)
    for link in code.ifilter_wikilinks(recursive=True):
        prefix = str(link.title).strip().partition(":")
        if prefix[1] and prefix[0].lower() in ("file", "image", "category", "media"):
            _remove(code, link)
    for tag in code.ifilter_tags(matches=lambda tag: str(tag.tag).lower() in ("ref", "math", "gallery", "table")):
        _remove(code, tag)
    text = code.strip_code(normalize=True, collapse=True, keep_template_params=False)
    text = re.sub(r"[ \xa0]+", " ", re.sub(r"'{2,5}", "", text))
    text = re.sub(r" ?\(\s*[;,]?\s*\)", "", text)  # brackets that held nothing but a template
    return re.sub(r"^[:;*# ]+", "", text, flags=re.MULTILINE)


def _remove(code: mwparserfromhell.wikicode.Wikicode, node: mwparserfromhell.nodes.Node) -> None:
    try:
        code.remove(node)
    except ValueError:
        pass  # its parent was removed already


def wikipedia(archive: Path, path: str) -> Iterator[Page]:
    """The articles of a compressed MediaWiki export in a package, one group per article; redirections are left out."""

    def articles() -> Iterator[tuple[str, str]]:
        for _, content in members(archive, re.escape(path)):
            # The sample was cut off in the middle of the dump: what follows the last whole page is dropped.
            whole = bz2.decompress(content).decode("utf-8").rpartition("</page>")[0] + "</page></mediawiki>"
            for page in ElementTree.fromstring(whole).iter(f"{_EXPORT}page"):
                text = page.findtext(f"{_EXPORT}revision/{_EXPORT}text") or ""
                if page.findtext(f"{_EXPORT}ns") == "0" and page.find(f"{_EXPORT}redirect") is None:
                    title = page.findtext(f"{_EXPORT}title") or ""
                    yield title, f"{title}\n\n{wiki_text(text)}"

    return prose(articles())
