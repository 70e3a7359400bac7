from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.documents import make_document
from harness.data.split import is_held_out, split
from sweeps.errors import InputError


def corpus(groups: int, pieces: int = 3):
    return [make_document(f"package/file{g}.py", f"text {g} {p}") for g in range(groups) for p in range(pieces)]


@settings(max_examples=20)
@given(st.integers(200, 400), st.sampled_from([0.1, 0.2, 0.5]))
def test_no_group_and_no_text_stands_on_both_sides(groups, fraction):
    documents = corpus(groups)
    train, heldout = split(documents, fraction)
    assert {d.group for d in train}.isdisjoint(d.group for d in heldout)
    assert {d.text for d in train}.isdisjoint(d.text for d in heldout)
    assert sorted(d.id for d in train + heldout) == sorted(d.id for d in documents)


def test_the_held_out_share_is_the_fraction():
    held = sum(is_held_out(f"file{g}", 0.1) for g in range(20_000))
    assert abs(held - 2000) < 4 * np.sqrt(20_000 * 0.1 * 0.9)


def test_a_group_is_held_out_in_every_corpus_or_in_none():
    small = corpus(100)
    _, in_small = split(small, 0.1)
    _, in_large = split(small + [make_document(f"other/{g}", f"words {g}") for g in range(500)], 0.1)
    assert {d.group for d in in_small} == {d.group for d in in_large if d.group.startswith("package")}


@given(st.floats(0.01, 0.5), st.floats(0.01, 0.5), st.integers(0, 10**6).map(str))
def test_what_a_smaller_fraction_holds_out_a_larger_one_does_too(one, other, group):
    assert is_held_out(group, max(one, other)) >= is_held_out(group, min(one, other))


@settings(max_examples=20)
@given(st.integers(0, 2**32).map(Random))
def test_the_order_depends_on_texts_alone_and_a_corpus_that_grows_keeps_it(random):
    documents = corpus(100)
    train, _ = split(random.sample(documents, len(documents)), 0.1)
    assert train == split(documents, 0.1)[0]
    grown, _ = split(documents + corpus(150)[300:], 0.1)
    known = {d.id for d in train}
    assert [d for d in grown if d.id in known] == train


def test_a_prefix_is_spread_over_the_files():
    train, _ = split(corpus(300, pieces=10), 0.1)
    # 100 of 2,700 documents, drawn from 270 files of 10 each: 270 * (1 - C(2690, 100) / C(2700, 100)) = 84 expected.
    assert 75 < len({d.group for d in train[:100]}) < 93


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1, 2])
def test_a_fraction_that_leaves_a_side_empty_is_refused(fraction):
    with pytest.raises(InputError, match="heldout_fraction"):
        split(corpus(20), fraction)


def test_too_few_source_files_are_refused_in_one_line():
    with pytest.raises(InputError, match="more source files") as error:
        split(corpus(1), 0.001)
    assert "\n" not in str(error.value)
