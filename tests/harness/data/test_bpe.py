import pytest

from harness.data.readers import read_text
from harness.data.split import split
from harness.data.tokenizers import WORD_PATTERN, merge_ranks, ranks_tokenizer, train_library_tokenizer
from sweeps.errors import InputError

UNICODE = "naïve Ωmega 漢字 🙂 \t\r\n  x 12345 can't CAN'T <|endoftext|> \x00\x7f\xa0\xad"


@pytest.fixture(scope="module")
def sides(text_folder):
    documents = list(read_text(text_folder))
    train, heldout = split({d.group: d.source for d in documents}, 0.2)
    return [d.text for d in documents if d.group in train][:40], [
        *(d.text for d in documents if d.group in heldout),
        UNICODE,
    ]


@pytest.fixture(scope="module")
def trained(sides):
    return train_library_tokenizer(sides[0], 600, "sources")


def test_tiktoken_gives_the_ids_of_the_library_that_trained(sides, trained):
    ours = ranks_tokenizer(merge_ranks(trained), WORD_PATTERN)
    assert ours.vocab == 600
    for text in (*sides[0], *sides[1]):
        ids = ours.encode(text)
        assert ids.tolist() == trained.encode(text).ids
        assert ours.decode(ids) == text


def test_a_truncated_merge_list_is_the_tokenizer_trained_to_that_size(sides, trained):
    short = merge_ranks(train_library_tokenizer(sides[0], 300, "sources"))
    long = merge_ranks(trained)
    assert short == {token: rank for token, rank in long.items() if rank < 299}
    assert ranks_tokenizer(short, WORD_PATTERN).hash == ranks_tokenizer(long, WORD_PATTERN, 300).hash


def test_single_bytes_have_the_first_ranks(trained):
    ranks = merge_ranks(trained)
    assert sorted(token for token, rank in ranks.items() if rank < 256) == [bytes([value]) for value in range(256)]
    assert sorted(ranks.values()) == list(range(599))


def test_training_is_repeatable(sides, trained):
    assert merge_ranks(train_library_tokenizer(sides[0], 600, "sources")) == merge_ranks(trained)


def test_a_corpus_too_small_says_how_many_ids_it_supports():
    # Pairs that occur twice: ab, abc. With 256 bytes and the end of the document that makes 259.
    texts = ["abc", "abc", "xyz"]
    with pytest.raises(InputError, match="sources: tokenizer: got 'bpe:400', expected at most bpe:259"):
        train_library_tokenizer(texts, 400, "sources")
    assert merge_ranks(train_library_tokenizer(texts, 259, "sources"))[b"abc"] == 257
