"""Reference manuals of web services, from the descriptions that their clients are generated from."""

import gzip
import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from harness.fetch.readers.archives import members
from harness.fetch.readers.html import html_text
from harness.fetch.readers.pages import Page, prose

# Shorter descriptions are mere labels, such as "The ARN of the resource."
SHORTEST_DESCRIPTION = 120
_LINK = re.compile(r"\[([^\]\n]+)\]\([^)\s]+\)")
_AWS = r"botocore/data/(?P<name>[\w.-]+)/[\d-]+/service-2\.json\.gz"
_GOOGLE = r"googleapiclient/discovery_cache/documents/(?P<name>\w+)\.v\d+(?:_\d+)?\.json"


def amazon(archive: Path) -> Iterator[Page]:
    """The manual of each service in a wheel of botocore, in its newest version, one group per service.

    A description stands under the name of what it describes; if it occurred before, in any service, it is left out.
    """
    newest = dict(members(archive, _AWS))  # files come in the order of versions, which are dates
    seen: set[str] = set()
    return prose((service, _amazon_manual(gzip.decompress(content), seen)) for service, content in newest.items())


def _amazon_manual(source: bytes, seen: set[str]) -> str:
    model = json.loads(source)
    parts = [_new(model.get("documentation", ""), seen)]
    for kind in ("operations", "shapes"):
        for name, described in sorted(model.get(kind, {}).items()):
            texts = [_new(described.get("documentation", ""), seen)]
            for member, inner in sorted(described.get("members", {}).items()):
                text = _new(inner.get("documentation", ""), seen)
                texts.append(text and f"<h3>{escape(member)}</h3>{text}")
            if any(texts):
                parts += [f"<h2>{escape(name)}</h2>", *texts]
    return html_text("<body>" + "\n".join(filter(None, parts)) + "</body>")


def google(archive: Path) -> Iterator[Page]:
    """The newest manual of each service in a wheel of google-api-python-client, one group per service."""
    newest = dict(members(archive, _GOOGLE))
    seen: set[str] = set()
    return prose((service, _google_manual(json.loads(content), seen)) for service, content in newest.items())


def _google_manual(node: Any, seen: set[str], name: str = "") -> str:
    """The descriptions at and below a node of the document, each under the name of what it describes."""
    if not isinstance(node, dict):
        return ""
    text = node.get("description")
    own = _LINK.sub(r"\1", _new(text, seen)) if isinstance(text, str) else ""
    below = [_google_manual(inner, seen, key) for key, inner in sorted(node.items())]
    return "".join([f"{name}\n\n{own}\n\n" if own else "", *below])


def _new(text: str, seen: set[str]) -> str:
    """The text if it is long enough and was not seen before, otherwise an empty string."""
    if len(text) < SHORTEST_DESCRIPTION or text in seen:
        return ""
    seen.add(text)
    return text
