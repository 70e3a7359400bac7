"""What people write to be read by others: mails, news, speeches, books."""

import csv
import email
import email.policy
import io
import json
import re
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

from harness.fetch.readers.archives import members
from harness.fetch.readers.html import html_text
from harness.fetch.readers.pages import Page, is_english, prose, without_shared_edges

# A signature begins with the line `-- ` (RFC 3676), a mailing list's footer with a rule.
_FOOTER = re.compile(r"^(?:-- ?|_{20,}|-{40,}|={40,}|-+ ?begin pgp signature ?-+)\s*$", re.IGNORECASE)
_QUOTE = re.compile(
    r"^\s{0,2}(?:(?:[A-Z][A-Za-z]{0,9}|[a-z]{0,3})>|[>|:]).*$|^.{0,200}\b(?:wrote|writes|said):\s*$", re.MULTILINE
)
# Remains of an encoded attachment: a line of at least 70 characters without a blank.
_ENCODED = re.compile(r"^\S{70,}$", re.MULTILINE)
_FOOTER_LINES = 40
_HTML_TAG = re.compile(
    r"</?(?:html|body|p|br|a|b|i|font|div|span|table|tr|td|img|center)\b[^<>]{0,300}>", re.IGNORECASE
)
_APOSTROPHE = re.compile(r"(?<=\w)(?:\"\??|\ufffd)(?=(?:s|t|re|ve|ll|d|m)\b)")
_DAMAGED = re.compile(r'"(?:\?|\ufffd+)|\ufffd+')
_TAG = re.compile(r"(\S+)/[^/\s]+")
_BROWN_CLOSING = re.compile(r" +([.,;:?!)\]])")


def mails(archive: Path, path: str) -> Iterator[Page]:
    """English mails from the JSON files (key `text`) in the folders of `path`: each mail's first text part is a group.

    Headers, signatures and the footers of mailing lists are removed, and so are quotations of other mails, which would
    stand on both sides of the split.
    """
    files = members(archive, re.escape(path) + r"(?P<name>[^/]+/[^/]+)\.json")
    texts = ((name, mail_text(json.loads(content)["text"])) for name, content in files)
    # A share of 0.005 is 28 of 5,681 mails: a line that fewer mails have is not the footer of a mailing list.
    pages = without_shared_edges(((name, text) for name, text in texts if is_english(text)), share=0.005)
    return prose(pages)


def mail_text(source: str) -> str:
    """The first text part of a mail, as its writer wrote it; nothing if there is none."""
    message = email.message_from_string(source, policy=email.policy.compat32)
    for part in message.walk():
        if part.get_content_type() in ("text/plain", "text/html"):
            text = _decoded(part)
            # Many HTML mails declare that they are plain text.
            if part.get_content_type() == "text/html" or len(_HTML_TAG.findall(text)) >= 5:
                text = html_text(text)
            return _written(text.replace("\r\n", "\n"))
    return ""


def _decoded(part: Message) -> str:
    # Most mails declare no character set or a wrong one; 8-bit mails of 2002 are nearly always Windows-1252,
    # which has all printable characters of Latin-1.
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _written(text: str) -> str:
    lines = _ENCODED.sub("", _QUOTE.sub("", text)).splitlines()
    for number, line in enumerate(lines):
        if _FOOTER.match(line) and number >= len(lines) - _FOOTER_LINES:
            return "\n".join(lines[:number])
    return "\n".join(lines)


def news(archive: Path, path: str) -> Iterator[Page]:
    """Articles of a CSV file, zipped inside a wheel, with columns `article_id`, `title` and `text`; each is a group."""

    def articles() -> Iterator[tuple[str, str]]:
        for _, content in members(archive, re.escape(path)):
            with zipfile.ZipFile(io.BytesIO(content)) as opened:
                inner = opened.read(opened.namelist()[0]).decode("utf-8", "replace")
            for row in csv.DictReader(io.StringIO(inner)):
                yield row["article_id"], f"{row['title']}\n\n{_repaired(row['text'])}"

    return prose(articles())


def _repaired(text: str) -> str:
    """Repair a press text: restore apostrophes, replace `"?` by a blank, drop other replacement characters, and break
    paragraphs at runs of three or more blanks."""
    text = _APOSTROPHE.sub("'", text)
    text = _DAMAGED.sub(lambda match: " " if match[0][0] == '"' else "", text)
    return re.sub(r" {3,}", "\n\n", text)


def short_lines(text: str) -> str:
    """Cut a text whose lines are very long into paragraphs of about 600 characters, at the ends of sentences."""
    if text.count("\n") > len(text) / 2000:
        return text
    sentences = re.split(r"(?<=[.?!]) +(?=[A-Z])", text)
    lines, size = [], 0
    for sentence in sentences:
        if not lines or size > 600:
            lines.append(sentence)
            size = 0
        else:
            lines[-1] += " " + sentence
        size += len(sentence)
    return "\n\n".join(lines)


def untagged(source: str) -> str:
    """Remove the tags of words, as in `The/at Fulton/np-tl`, and restore the spacing of the sentences."""
    lines = []
    for line in source.splitlines():
        text = " ".join(_TAG.sub(r"\1", line).split())
        text = _BROWN_CLOSING.sub(r"\1", text).replace("`` ", '"').replace(" ''", '"').replace("( ", "(")
        lines.append(text)
    return "\n".join(lines)
