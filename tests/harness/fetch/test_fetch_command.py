import pytest

from harness.data.catalog import corpora
from harness.data.corpora import find_corpus
from harness.data.documents import make_document
from harness.data.fetched import Manifest, Record, write_manifest, write_source
from harness.fetch import command
from sweeps.errors import InputError


def fetched(name, cache, console=None):
    """A corpus of one source and of another that is missing, as a fetch leaves it."""
    source = f"{name} a 1.0"
    texts = [" ".join(f"{name}{k}word{i}" for i in range(20)) for k in range(50)]
    group = [make_document(f"{source}/{k // 5}", text, source, "MIT") for k, text in enumerate(texts)]
    group += [make_document(f"{source}/copy", text, source, "MIT") for text in texts[:3]]
    record = Record(f"{name} a 1.0", "pip a", "1.0", "MIT", "0" * 64, "", 0, 0)
    record = write_source(sorted(group, key=lambda d: (d.group, d.id)), record, cache)
    manifest = Manifest(name, (record,), (("b", "apt-get is not installed"),))
    write_manifest(manifest, cache)
    return manifest


@pytest.fixture
def no_registries(monkeypatch):
    monkeypatch.setattr(command, "fetch_corpus", fetched)
    monkeypatch.setattr(command, "fetch_hub", fetched)


def test_a_fetched_corpus_is_prepared_and_described(no_registries, isogap, tmp_path):
    ended = isogap("fetch", "corpus", "code", "--cache", tmp_path)
    assert ended.status == 0, ended.err
    (line,) = [line for line in ended.out.splitlines() if "MIT" in line]
    # 53 documents, of which three stand there twice.
    assert line.split()[1:3] == ["code", "a"] and "53" in line.split() and "3" in line.split()
    assert "0.00% stand in the rest" in ended.out
    assert "code: without b: apt-get is not installed" in ended.out
    assert "less than the 45 MB" in ended.out
    row = {row["name"]: row for row in corpora(tmp_path)}["code"]
    assert row["prepared"] and row["documents"] == 50


def test_mixed_is_all_three(no_registries, isogap, tmp_path):
    ended = isogap("fetch", "corpus", "mixed", "--cache", tmp_path, "--via", "hub")
    assert ended.status == 0, ended.err
    assert all(f"hub_{name}: 50 documents in 10 groups" in ended.out for name in ("web", "code", "science"))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(("novels",), "web, code, science or mixed"), (("web", "--via", "post"), "registries or hub")],
)
def test_what_cannot_be_fetched_is_one_line(arguments, word, isogap, tmp_path):
    ended = isogap("fetch", "corpus", *arguments, "--cache", tmp_path)
    assert ended.status == 2 and word in ended.err and ended.err.count("\n") == 1


def test_a_corpus_that_was_not_fetched_says_how(tmp_path):
    for name, how in (("web", "corpus web$"), ("hub_code", "corpus code --via hub$")):
        with pytest.raises(InputError, match=f"data: domain: got '{name}', expected a fetched corpus: .*{how}"):
            find_corpus(name, tmp_path).fingerprint()
        with pytest.raises(InputError, match="a fetched corpus"):
            list(find_corpus(name, tmp_path).documents())


def test_its_fingerprint_is_that_of_its_text(tmp_path):
    fetched("web", tmp_path / "a")
    fetched("web", tmp_path / "b")
    first = find_corpus("web", tmp_path / "a")
    assert first.fingerprint() == find_corpus("web", tmp_path / "b").fingerprint()
    assert len(list(first.documents())) == 53
    write_manifest(Manifest("web", ()), tmp_path / "b")
    assert first.fingerprint() != find_corpus("web", tmp_path / "b").fingerprint()
