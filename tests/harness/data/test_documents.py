from hashlib import blake2b

from harness.data.documents import content_hash, make_document


def test_an_id_is_the_hash_of_the_utf8_text_and_nothing_else():
    document = make_document("a/b.py", "naïve\n")
    assert document.id == blake2b("naïve\n".encode(), digest_size=16).hexdigest()
    assert make_document("elsewhere", "naïve\n").id == document.id


def test_lone_surrogates_are_replaced_so_that_every_text_encodes():
    assert make_document("g", "a\ud800b").text == "a?b"


def test_the_content_hash_sees_texts_groups_sources_and_licences():
    rows = [("a", "x"), ("a", "y"), ("b", "x"), ("a", "x", "s"), ("a", "x", "t"), ("a", "x", "s", "l")]
    assert len({content_hash([make_document(*row)]) for row in rows}) == len(rows)
