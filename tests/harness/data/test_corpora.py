import os

import pytest

from harness.data.corpora import FETCHED, find_corpus, named_corpora
from sweeps.errors import InputError


def test_the_named_corpora_say_what_they_are():
    named = named_corpora()
    assert [corpus.name for corpus in named] == ["stdlib_code", "library_code", "api_docs", "installed", *FETCHED]
    assert all(corpus.description and corpus.licence for corpus in named)
    assert [part.name for part in named[3].parts] == ["stdlib_code", "library_code", "api_docs"]
    assert len({corpus.fingerprint() for corpus in named[:4]}) == 4


@pytest.mark.parametrize("domain", ["wikipedia", "text:", "hf:", "csv:x", ""])
def test_other_names_are_refused_with_the_accepted_ones(domain):
    with pytest.raises(
        InputError, match="stdlib_code, library_code, api_docs, installed, web, code, science, .*text:PATH"
    ):
        find_corpus(domain)


def test_a_path_that_is_absent_is_refused(tmp_path):
    for kind in ("text", "jsonl", "parquet"):
        with pytest.raises(InputError, match="exists"):
            find_corpus(f"{kind}:{tmp_path}/absent")


def test_the_fingerprint_changes_with_the_files(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    domain = f"text:{tmp_path}"
    first = find_corpus(domain).fingerprint()
    assert find_corpus(domain).fingerprint() == first
    os.utime(tmp_path / "a.txt", ns=(1, 1))
    touched = find_corpus(domain).fingerprint()
    (tmp_path / "b.txt").write_text("two")
    assert len({first, touched, find_corpus(domain).fingerprint()}) == 3


def test_a_name_of_the_hub_may_carry_a_configuration():
    assert find_corpus("hf:owner/name").fingerprint() != find_corpus("hf:owner/name:config").fingerprint()
