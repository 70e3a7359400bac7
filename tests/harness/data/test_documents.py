from hashlib import blake2b
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from harness.data.documents import content_hash, deduplicate, make_document


def test_an_id_is_the_hash_of_the_utf8_text_and_nothing_else():
    document = make_document("a/b.py", "naïve\n")
    assert document.id == blake2b("naïve\n".encode(), digest_size=16).hexdigest()
    assert make_document("elsewhere", "naïve\n").id == document.id


def test_lone_surrogates_are_replaced_so_that_every_text_encodes():
    assert make_document("g", "a\ud800b").text == "a?b"


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(["a", "b", "ab", "ba"]))), st.integers(0, 99).map(Random)
)
def test_deduplication_keeps_each_text_once_whatever_the_order_of_listing(pairs, random):
    documents = [make_document(group, text) for group, text in pairs]
    unique = deduplicate(documents)
    assert {document.text for document in unique} == {text for _, text in pairs}
    assert len(unique) == len({text for _, text in pairs})
    shuffled = random.sample(documents, len(documents))
    assert deduplicate(shuffled) == unique
    assert content_hash(deduplicate(shuffled)) == content_hash(unique)


def test_the_content_hash_sees_texts_and_groups():
    hashes = {content_hash([make_document(g, t)]) for g, t in (("a", "x"), ("a", "y"), ("b", "x"))}
    assert len(hashes) == 3
