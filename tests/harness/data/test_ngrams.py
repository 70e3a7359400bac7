import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.data.ngrams import ngrams

TEXTS = st.lists(st.text("ab_é-. \n\x00ΣZ9漢", max_size=30), max_size=5)


def tuples(text: str, n: int) -> list[tuple[bytes, ...]]:
    words = re.findall(rb"[a-z0-9_\x80-\xff]+", text.lower().encode())
    return [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]


@given(TEXTS, st.sampled_from([1, 2, 3]))
def test_hashes_are_equal_where_the_word_tuples_are(texts, n):
    hashes, counts = ngrams(texts, n)
    expected = [tuples(text, n) for text in texts]
    assert counts.tolist() == [len(grams) for grams in expected]
    together = [gram for grams in expected for gram in grams]
    assert len(hashes) == len(together)
    assert len(set(hashes.tolist())) == len(set(together)) == len(set(zip(hashes.tolist(), together, strict=True)))


@given(TEXTS, TEXTS)
def test_hashes_depend_on_their_own_words_only(before, texts):
    alone, _ = ngrams(texts, 2)
    together, counts = ngrams(before + texts, 2)
    assert together[counts[: len(before)].sum() :].tolist() == alone.tolist()


def test_case_and_punctuation_neither_count_nor_hide_a_copy():
    plain, _ = ngrams(["to be or not to be"], 3)
    other, _ = ngrams(["To be, or -- (not) TO\nbe!"], 3)
    assert plain.tolist() == other.tolist() and len(plain) == 4


def test_hashes_are_the_same_on_every_machine():
    hashes, _ = ngrams(["the quick brown fox"], 4)
    assert hashes.dtype == np.uint64 and hashes.tolist() == [10182064393384852666]
