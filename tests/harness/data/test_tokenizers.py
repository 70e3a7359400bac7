import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.load import load_tiktoken_bpe

from harness.data.tokenizers import (
    WORDS,
    TokenizerSpec,
    bytes_tokenizer,
    parse_tokenizer,
    ranks_tokenizer,
    read_ranks,
    tiktoken_tokenizer,
    write_ranks,
)
from sweeps.errors import InputError

SINGLE = {bytes([value]): value for value in range(256)}
MERGES = [b"th", b"in", b" a", b"the", b"ing", b" the", b"\xc3\xa9", b"  ", b"thing"]
RANKS = SINGLE | {token: 256 + number for number, token in enumerate(MERGES)}
TOKENIZERS = [bytes_tokenizer(), ranks_tokenizer(RANKS, WORDS), ranks_tokenizer(RANKS, WORDS, 260)]


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_decoding_undoes_encoding_and_the_byte_lengths_add_up(text):
    for tokenizer in TOKENIZERS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.token_bytes[ids].sum() == len(text.encode())
        assert len(tokenizer.token_bytes) == tokenizer.vocab
        assert not len(ids) or ids.max() < tokenizer.vocab - 1


def test_the_last_id_ends_documents_and_stands_for_no_bytes():
    assert [tokenizer.vocab for tokenizer in TOKENIZERS] == [257, 256 + len(MERGES) + 1, 260]
    assert [tokenizer.token_bytes[-1] for tokenizer in TOKENIZERS] == [0, 0, 0]


def test_merges_happen_in_order_of_rank():
    whole, cut = TOKENIZERS[1:]
    assert whole.encode("thing the").tolist() == [RANKS[b"thing"], RANKS[b" the"]]
    assert cut.encode("thing").tolist() == [256, 257, ord("g")]  # ranks below 259: th, in, " a"


def test_special_looking_text_is_ordinary_text():
    for tokenizer in TOKENIZERS:
        assert tokenizer.decode(tokenizer.encode("<|endoftext|>")) == "<|endoftext|>"


def test_hashes_tell_vocabularies_and_patterns_apart():
    assert len({t.hash for t in (*TOKENIZERS, ranks_tokenizer(RANKS, r"\s+|\S+"))}) == 4
    assert ranks_tokenizer(dict(RANKS), WORDS).hash == TOKENIZERS[1].hash


def test_merge_lists_survive_their_text_format(tmp_path):
    assert read_ranks(write_ranks(RANKS)) == RANKS
    file = tmp_path / "ours.tiktoken"
    file.write_text(write_ranks(RANKS))
    assert load_tiktoken_bpe(str(file)) == RANKS  # tiktoken itself reads it


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("bytes", TokenizerSpec("bytes", 257, None)),
        ("bpe:1024", TokenizerSpec("bpe", 1024, None)),
        ("bpe:300@text:/some/folder", TokenizerSpec("bpe", 300, "text:/some/folder")),
        ("tiktoken:gpt2", TokenizerSpec("tiktoken", None, "gpt2")),
        ("tiktoken:o200k_base:32000", TokenizerSpec("tiktoken", 32000, "o200k_base")),
    ],
)
def test_names_are_taken_apart(name, spec):
    assert parse_tokenizer(name) == spec


@pytest.mark.parametrize("name", ["", "byte", "bpe", "bpe:", "bpe:x", "bpe:256", "tiktoken:", "tiktoken:gpt2:9", "a:1"])
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match="tokenizer: got"):
        parse_tokenizer(name)


@pytest.fixture
def published(monkeypatch):
    """A published encoding with special tokens and, like p50k_base, a rank that is left out."""
    ranks = SINGLE | {b"th": 256, b"in": 258}
    encoding = tiktoken.Encoding("own", pat_str=WORDS, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 257})
    monkeypatch.setattr(tiktoken, "list_encoding_names", lambda: ["own"])
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: encoding)
    return encoding


def test_a_published_vocabulary_encodes_as_published(published):
    tokenizer = tiktoken_tokenizer("own", None)
    assert tokenizer.vocab == 260
    assert tokenizer.encode("thin").tolist() == published.encode_ordinary("thin") == [256, 258]
    assert tiktoken_tokenizer("own", 257).encode("thin").tolist() == list(b"thin")


def test_a_vocabulary_larger_than_published_is_refused(published):
    with pytest.raises(InputError, match="at most 260 ids"):
        tiktoken_tokenizer("own", 261)
    with pytest.raises(InputError, match="one of own"):
        tiktoken_tokenizer("other", None)


def test_a_vocabulary_that_cannot_be_had_says_in_one_line_how_to_provide_it(monkeypatch):
    def refuse(name):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(tiktoken, "get_encoding", refuse)
    with pytest.raises(InputError, match="TIKTOKEN_CACHE_DIR") as error:
        tiktoken_tokenizer("gpt2", 1000)
    assert "\n" not in str(error.value)


def test_ids_are_unsigned_words():
    assert all(tokenizer.encode("text").dtype == np.uint32 for tokenizer in TOKENIZERS)
