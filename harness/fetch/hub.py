"""Fetches the domains from datasets of the Hugging Face hub: the first megabytes of each are streamed and kept.

The table below says which dataset stands for a domain. CACHE/hub.yaml overrides it:

    web: {dataset: allenai/c4, config: en, text: text, group: url, licence: ODC-By-1.0}
    code: {dataset: /data/the-stack-smol, text: content, group: repository_name, bytes: 100000000}

The names of columns and files come from the datasets' cards; they were not tried on the hub.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console

from harness.data.documents import Document, make_document
from harness.data.fetched import Manifest, Record, read_record, write_manifest, write_source
from harness.data.readers import hub_revision, stream_rows
from harness.fetch.readers.pages import SHORTEST_PAGE, cut_page, tidy
from harness.terminal import working
from sweeps.errors import InputError, reason_of


class HubSource(BaseModel):
    """A dataset that stands for a domain.

    Attributes:
        dataset: its name on the hub, or a folder laid out like one.
        config, split: the dataset's configuration and split.
        files: a pattern of JSON-lines or parquet files in it, for datasets whose own loading script is no longer run.
        text, group: columns of the text and of the unit to hold out, such as a page or a repository; without a group
            each row is a unit.
        licence_column: a column with each row's licence.
        licence: the licence of all rows if there is no such column.
        bytes: UTF-8 bytes of text to take, from the beginning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(min_length=1)
    config: str | None = None
    split: str = "train"
    files: str | None = Field(default=None, pattern=r"\.(?:parquet|jsonl?(?:\.(?:gz|zst|xz|bz2))?)$")
    text: str = "text"
    group: str | None = None
    licence_column: str | None = None
    licence: str = "as the dataset says"
    bytes: int = Field(default=256_000_000, gt=0)


HUB = {
    # Plain parquet. Columns text, id, dump, url, date, file_path, language, language_score, token_count.
    "web": HubSource(
        dataset="HuggingFaceFW/fineweb",
        config="sample-10BT",
        group="url",
        licence="ODC-By-1.0; the pages are their authors'",
    ),
    # Plain parquet, gated: its terms have to be accepted once. That its files have these columns is not verified.
    "code": HubSource(
        dataset="bigcode/starcoderdata",
        files="python/train-*.parquet",
        text="content",
        group="max_stars_repo_name",
        licence="permissive, as each repository says",
    ),
    # Has a loading script, which `datasets` no longer runs; the files themselves are JSON lines with columns added,
    # created, id, source, text, version. That those of v2 are named like those of v1 is not verified.
    "science": HubSource(
        dataset="allenai/peS2o",
        files="data/v2/train-*.json.gz",
        group="id",
        licence="ODC-By-1.0; papers are open access",
    ),
}


def hub_source(domain: str, cache: Path) -> HubSource:
    """The dataset that stands for a domain: the one in CACHE/hub.yaml, otherwise the one in the table.

    Raises:
        InputError: hub.yaml is not YAML, names an unknown domain or field, or gives one a value of another kind.
    """
    file = cache / "hub.yaml"
    if not file.is_file():
        return HUB[domain]
    try:
        datasets_of = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(file, "content", " ".join(str(error).split()), "YAML") from error
    if not isinstance(datasets_of, dict) or not datasets_of.keys() <= HUB.keys():
        domains = sorted(map(str, datasets_of)) if isinstance(datasets_of, dict) else datasets_of
        raise InputError(file, "domains", domains, f"a mapping of {', '.join(HUB)} to a dataset's fields")
    if domain not in datasets_of:
        return HUB[domain]
    try:
        return HubSource.model_validate(datasets_of[domain])
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, (domain, *first["loc"])))
        raise InputError(file, field, first["input"], first["msg"]) from error


def fetch_hub(name: str, cache: Path, console: Console) -> Manifest:
    """Fetch the first megabytes of the dataset of a domain (`hub_DOMAIN`) into the cache, unless they are there.

    Raises:
        InputError: hub.yaml is wrong, the dataset is out of reach, or it has no such columns.
    """
    domain = name.removeprefix("hub_")
    source = hub_source(domain, cache)
    # The whole description is part of the name, because another limit or column gives other text.
    origin = "hub " + source.model_dump_json(exclude_defaults=True)
    record = read_record(name, cache, check=True)
    if record is None or record.origin != origin:
        with working(f"streaming {source.bytes / 1e6:.0f} MB of {source.dataset}"), _one_line(source, domain, cache):
            version, rows = _open(source)
            documents = sorted(_documents(rows, source, domain), key=lambda d: (d.group, d.id))
        record = write_source(documents, Record(name, origin, version, source.licence, "", "", 0, 0), cache)
    console.print(f"isogap fetch: {name}: {record.bytes / 1e6:.1f} MB of {source.dataset}", markup=False)
    manifest = Manifest(name, (record,))
    write_manifest(manifest, cache)
    return manifest


def _open(source: HubSource) -> tuple[str, Iterable[Mapping[str, Any]]]:
    """The revision and the rows of a dataset. The revision of a folder is `local`."""
    local = Path(source.dataset).is_dir()
    revision = "local" if local else hub_revision(source.dataset)
    if source.files:
        base = source.dataset if local else f"hf://datasets/{source.dataset}@{revision}"
        builder = "parquet" if source.files.endswith(".parquet") else "json"
        files = {source.split: f"{base}/{source.files}"}
        return revision, stream_rows(builder, data_files=files, split=source.split)
    at = None if local else revision
    return revision, stream_rows(source.dataset, source.config, split=source.split, revision=at)


def _documents(rows: Iterable[Mapping[str, Any]], source: HubSource, domain: str) -> Iterator[Document]:
    """Documents of 1 to 4 kB from the rows, until the limit is reached; the last row is taken whole."""
    size = 0
    columns = [column for column in (source.text, source.group, source.licence_column) if column]
    for row in rows:
        absent = [column for column in columns if column not in row]
        if absent or not isinstance(row[source.text], str):
            named = ", ".join(absent) or source.text
            raise InputError(source.dataset, "columns", sorted(row), f"{named}, and text in {source.text}")
        text = tidy(row[source.text])
        if len(text) < SHORTEST_PAGE:
            continue
        licence = str(row[source.licence_column]) if source.licence_column else source.licence
        unit = make_document("", text).id if source.group is None else row[source.group]
        for piece in cut_page(text, python=domain == "code"):
            yield make_document(f"{source.dataset}/{unit}", piece, source.dataset, licence)
        size += len(text.encode(errors="replace"))
        if size >= source.bytes:
            return


@contextmanager
def _one_line(source: HubSource, domain: str, cache: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # Readers of many formats and protocols raise errors without a common base class.
        gated = type(error).__name__ == "GatedRepoError"
        accepted = "terms that you have accepted on the hub (`hf auth login`)" if gated else "the hub in reach"
        expected = f"{accepted}, or a dataset of yours for `{domain}` in {cache / 'hub.yaml'}"
        raise InputError(source.dataset, "dataset", reason_of(error)[:300], expected) from error
