import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from harness.data.fetched import documents, facts, manifest_file, read_manifest, source_file
from harness.fetch import fetch
from harness.fetch.expected import expected
from harness.fetch.fetch import fetch_corpus
from harness.fetch.readers import code
from harness.fetch.readers.archives import text_pages
from harness.fetch.registries import archive_folder
from harness.fetch.sources import SOURCES, Source
from sweeps.errors import InputError

ROOT = Path(__file__).parents[3]
ONE = Source("one 1.0", "pip", "one", "1.0", "MIT", code.modules)
TWO = Source("two 1.0", "pip", "two", "1.0", "BSD", code.modules)
BOOK = Source("book 1.0.0", "npm", "book", "1.0.0", "PD", partial(text_pages, pattern="package/text/.*", read=str))
FUNCTIONS = {name: "".join(f"def {name}{k}():\n    return {k}\n\n\n" for k in range(200)) for name in ("f", "g")}
# Two sources by pip, fetched one after the other in processes of their own.
CHILD = """
import sys
from pathlib import Path
from rich.console import Console
from harness.fetch import fetch
from harness.fetch.readers import code
from harness.fetch.sources import SOURCES, Source
fetch.DOWNLOADS = 1
if __name__ == "__main__":
    SOURCES["tiny"] = tuple(Source(f"{p} 1.0", "pip", p, "1.0", "MIT", code.modules) for p in ("one", "two"))
    fetch.fetch_corpus("tiny", Path(sys.argv[1]), Console(stderr=True))
"""


@pytest.fixture(scope="module")
def fetched_once(tmp_path_factory, wheel) -> Path:
    """A folder `wheels` of two packages, and a cache with the corpus `tiny` made of them."""
    folder = tmp_path_factory.mktemp("once")
    wheel(folder / "wheels", "one", "1.0", {"one/a.py": FUNCTIONS["f"], "one/sub/b.py": FUNCTIONS["g"]})
    wheel(folder / "wheels", "two", "1.0", {"two/a.py": FUNCTIONS["g"] + "x = 1\n"})
    with pytest.MonkeyPatch.context() as patch:
        _patch(patch, folder / "wheels")
        get(folder / "cache")
    return folder


def _patch(patch: pytest.MonkeyPatch, wheels: Path) -> None:
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(wheels))
    patch.setitem(SOURCES, "tiny", (ONE, TWO))
    # A process takes a second to start.
    patch.setattr(fetch, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers))


@pytest.fixture
def tiny(fetched_once, monkeypatch, tmp_path) -> Path:
    """The folder of the wheels, the only one that pip knows."""
    wheels = shutil.copytree(fetched_once / "wheels", tmp_path / "wheels")
    _patch(monkeypatch, wheels)
    return wheels


@pytest.fixture
def cache(fetched_once, tmp_path) -> Path:
    """A cache that has the corpus `tiny`."""
    return shutil.copytree(fetched_once / "cache", tmp_path / "cache")


def get(cache: Path, lines: Path | None = None) -> dict:
    """Fetch `tiny`; its manifest."""
    with (lines or Path(os.devnull)).open("w") as opened:
        fetch_corpus("tiny", cache, Console(file=opened, width=500))
    return json.loads(manifest_file("tiny", cache).read_text())


def test_what_was_fetched_is_the_packages_text(tiny, cache):
    told = get(cache)
    assert [(r["source"], r["origin"], r["version"], r["licence"]) for r in told["records"]] == [
        ("one 1.0", "pip one", "1.0", "MIT"), ("two 1.0", "pip two", "1.0", "BSD"),
    ]  # fmt: skip
    texts: dict[str, list[str]] = {}
    for document in documents("tiny", cache):
        assert document.source == document.group[:7] and document.licence in ("MIT", "BSD")
        texts.setdefault(document.group, []).append(document.text)
    whole = {
        "one 1.0/one": FUNCTIONS["f"],
        "one 1.0/one/sub": FUNCTIONS["g"],
        "two 1.0/two": FUNCTIONS["g"] + "x = 1\n",
    }
    assert {group: "".join(sorted(pieces, key=whole[group].find)) for group, pieces in texts.items()} == whole
    for record in told["records"]:
        table = pq.read_table(source_file(record["source"], cache))
        rows = sorted(zip(table["group"].to_pylist(), table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
        digest = hashlib.sha256("".join(f"{group}\0{text}\0" for group, _, text in rows).encode()).hexdigest()
        assert digest == record["text_sha256"]
        assert record["bytes"] == sum(table["bytes"].to_pylist()) == sum(len(text.encode()) for _, _, text in rows)
        archive = next(archive_folder(ONE if record["source"] == "one 1.0" else TWO, cache).iterdir())
        assert record["archive_sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_twice_is_the_same_and_the_second_time_asks_nobody(tiny, cache, tmp_path, without_programs):
    first, before = get(cache), facts("tiny", cache)
    stamps = {file: file.stat().st_mtime_ns for file in (cache / "fetched").glob("*.parquet")}
    shutil.rmtree(tiny)  # no registry any more
    assert get(cache, tmp_path / "lines") == first and facts("tiny", cache) == before
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    assert (tmp_path / "lines").read_text().splitlines() == [
        "isogap fetch: one 1.0: there",
        "isogap fetch: two 1.0: there",
    ]


def test_another_machine_has_the_same_hashes(tiny, cache, tmp_path):
    assert get(tmp_path / "there") == get(cache)


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_damaged_text_is_read_again(damage, tiny, cache):
    first = get(cache)
    file = source_file("one 1.0", cache)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "changed":
        table = pq.read_table(file)
        pq.write_table(table.slice(1).replace_schema_metadata(table.schema.metadata), file)
    else:
        file.unlink()
    with pytest.raises(InputError, match="fetched corpus: isogap fetch corpus tiny"):
        list(documents("tiny", cache))
    assert get(cache) == first and list(documents("tiny", cache))


def test_text_of_another_recipe_is_read_again(tiny, cache, monkeypatch):
    from harness.data import fetched

    monkeypatch.setattr(fetched, "READING_RECIPE", fetched.READING_RECIPE + 1)
    with pytest.raises(InputError, match="a fetched corpus"):
        read_manifest("tiny", cache)


def test_an_archive_that_is_not_whole_is_fetched_anew_once(tiny, cache, tmp_path):
    first = get(cache)
    archive = next(archive_folder(ONE, cache).iterdir())
    archive.write_bytes(archive.read_bytes()[:300])
    source_file("one 1.0", cache).unlink()
    assert get(cache) == first
    broken = tiny / "one-1.0-py3-none-any.whl"
    shutil.rmtree(archive.parent)
    source_file("one 1.0", cache).unlink()
    with broken.open("r+b") as opened:  # pip reads the metadata, which stands at the end
        opened.seek(60)
        opened.write(b"\0" * 200)
    with pytest.raises(InputError, match="one 1.0: archive: .*a damaged one twice"):
        get(cache)
    assert not archive_folder(ONE, cache).exists()


def test_text_that_is_not_what_it_was_is_refused(tiny, cache, tmp_path, monkeypatch):
    record = get(cache)["records"][0]
    known = {"archive": record["archive_sha256"], "text": "0" * 64}
    monkeypatch.setitem(expected(), "one 1.0", known)
    with pytest.raises(InputError, match="one 1.0: sha256 of the text: .*constraints.txt"):
        get(cache)
    known["text"] = record["text_sha256"]
    assert get(cache)["records"][0] == record


def test_a_package_that_is_not_there_is_named_and_the_others_are_kept(tiny, tmp_path):
    cache = tmp_path / "cache"
    (tiny / "two-1.0-py3-none-any.whl").unlink()
    with pytest.raises(InputError, match="two 1.0: pip: "):
        get(cache)
    assert source_file("one 1.0", cache).exists() and not manifest_file("tiny", cache).exists()


def test_without_npm_its_sources_are_missing_and_said_to_be(tiny, tmp_path, monkeypatch, without_programs):
    monkeypatch.setitem(SOURCES, "tiny", (ONE, BOOK))
    told = get(tmp_path / "cache", tmp_path / "lines")
    assert [record["source"] for record in told["records"]] == ["one 1.0"]
    assert told["missing"] == [["book 1.0.0", "npm is not installed"]]
    assert "book 1.0.0: missing: npm is not installed" in (tmp_path / "lines").read_text()


def test_with_npm_they_are_there(tiny, npm, tgz, tmp_path, monkeypatch):
    monkeypatch.setitem(SOURCES, "tiny", (BOOK,))
    tgz(npm / "book-1.0.0.tgz", {"package.json": '{"name": "book", "version": "1.0.0"}', "text/a.txt": "Word. " * 90})
    assert get(tmp_path / "cache")["records"][0]["source"] == "book 1.0.0"


def test_killed_in_between_it_goes_on(pypi, wheel, tmp_path, ended_children):
    for name in ("one", "two"):
        wheel(pypi, name, "1.0", {f"{name}/a.py": FUNCTIONS["f"]})
    (tmp_path / "child.py").write_text(CHILD)
    command = [sys.executable, str(tmp_path / "child.py"), str(tmp_path / "cache")]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, env=env, start_new_session=True)
    ended_children.append(child)
    deadline = time.monotonic() + 60
    while not source_file("one 1.0", tmp_path / "cache").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not manifest_file("tiny", tmp_path / "cache").exists()
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stderr
    assert "one 1.0: there" in again and "two 1.0: 0.0 MB in" in again
    assert len(list(documents("tiny", tmp_path / "cache"))) > 2


def test_the_pinned_sources_have_their_hashes():
    pinned = {source.name for sources in SOURCES.values() for source in sources if source.version}
    assert expected().keys() == pinned
    assert all(len(digest) == 64 for hashes in expected().values() for digest in (hashes["archive"], hashes["text"]))


def test_the_sources_are_told_apart():
    sources = [source for sources in SOURCES.values() for source in sources]
    assert len({source_file(source.name, Path()) for source in sources}) == len(sources)
    assert all(source.licence and (source.version is None) == (source.registry == "apt") for source in sources)
