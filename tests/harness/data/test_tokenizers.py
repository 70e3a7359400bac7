import os

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.load import load_tiktoken_bpe

from harness.data.tokenizers import (
    FOLDER_VARIABLES,
    WORD_PATTERN,
    TokenizerSpec,
    bytes_tokenizer,
    parse_tokenizer,
    published_tokenizer,
    ranks_tokenizer,
    read_ranks,
    write_ranks,
)
from sweeps.errors import InputError

SINGLE = {bytes([value]): value for value in range(256)}
MERGES = [b"th", b"in", b" a", b"the", b"ing", b" the", b"\xc3\xa9", b"  ", b"thing"]
RANKS = SINGLE | {token: 256 + number for number, token in enumerate(MERGES)}
TOKENIZERS = [bytes_tokenizer(), ranks_tokenizer(RANKS, WORD_PATTERN), ranks_tokenizer(RANKS, WORD_PATTERN, 260)]


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
    assert ranks_tokenizer(dict(RANKS), WORD_PATTERN).hash == TOKENIZERS[1].hash


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
        ("gpt2", TokenizerSpec("published", 50257, "gpt2")),
        ("o200k_base[:32000]", TokenizerSpec("published", 32000, "o200k_base")),
    ],
)
def test_names_are_taken_apart(name, spec):
    assert parse_tokenizer(name) == spec


def test_a_published_vocabulary_encodes_as_published(monkeypatch, tmp_path):
    # With special tokens and, like p50k_base, a rank that is left out.
    ranks = SINGLE | {b"th": 256, b"in": 258}
    encoding = tiktoken.Encoding(
        "own", pat_str=WORD_PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 257}
    )
    monkeypatch.setattr(tiktoken, "get_encoding", {"own": encoding}.__getitem__)
    tokenizer = published_tokenizer("own", 260, tmp_path)
    assert tokenizer.vocab == 260
    assert tokenizer.encode("thin").tolist() == encoding.encode_ordinary("thin") == [256, 258]
    assert published_tokenizer("own", 257, tmp_path).encode("thin").tolist() == list(b"thin")


@pytest.mark.parametrize("chosen", [None, "TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"])
def test_files_are_looked_for_in_the_cache_unless_the_user_has_chosen_another_folder(chosen, monkeypatch, tmp_path):
    for name in FOLDER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if chosen:
        monkeypatch.setenv(chosen, "elsewhere")
    seen = []

    def encoding(name):
        seen.append({variable: os.environ.get(variable) for variable in FOLDER_VARIABLES})
        return tiktoken.Encoding(name, pat_str=WORD_PATTERN, mergeable_ranks=SINGLE, special_tokens={})

    monkeypatch.setattr(tiktoken, "get_encoding", encoding)
    before = dict(os.environ)
    published_tokenizer("own", 257, tmp_path)
    expected = {chosen: "elsewhere"} if chosen else {"TIKTOKEN_CACHE_DIR": str(tmp_path / "tiktoken")}
    assert seen == [dict.fromkeys(FOLDER_VARIABLES) | expected] and os.environ == before


@pytest.mark.parametrize(
    ("name", "remedy"), [("o200k_harmony", "isogap fetch tokenizer o200k_base"), ("gpt2", "network")]
)
def test_a_vocabulary_that_cannot_be_had_says_in_one_line_how_to_get_it(name, remedy, monkeypatch, tmp_path):
    def refuse(name):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(tiktoken, "get_encoding", refuse)
    with pytest.raises(InputError, match=remedy) as error:
        published_tokenizer(name, 1000, tmp_path)
    assert "\n" not in str(error.value)


def test_ids_are_unsigned_words():
    assert all(tokenizer.encode("text").dtype == np.uint32 for tokenizer in TOKENIZERS)
