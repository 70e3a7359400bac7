import re
from itertools import combinations
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.documents import Document, make_document
from harness.data.duplicates import SHARED, SIMILAR, clean, near_copies, shared_passages

WORDS = [f"w{k}" for k in range(2000)]


def tuples(text: str, n: int) -> list[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9_]+", text.lower())
    return [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]


def jaccard(one: str, other: str) -> float:
    a, b = set(tuples(one, 5)), set(tuples(other, 5))
    return len(a & b) / len(a | b) if a | b else 0.0


def copies_with_changes(random: Random, originals: int) -> list[Document]:
    """Texts of 30 to 200 words, each with copies in which some words are others."""
    documents = []
    for number in range(originals):
        words = random.choices(WORDS, k=random.randint(30, 200))
        for copy in range(random.randint(1, 4)):
            changed = list(words)
            for _ in range(random.randint(0, 6) if copy else 0):
                changed[random.randrange(len(changed))] = random.choice(WORDS)
            documents.append(make_document(f"g{number}.{copy}", " ".join(changed), f"s{copy}"))
    random.shuffle(documents)
    return documents


@settings(max_examples=20)
@given(st.integers(0, 2**32).map(Random))
def test_near_copies_are_those_of_the_exact_jaccard_index(random):
    texts = {d.text: d for d in copies_with_changes(random, 12)}
    documents = list(texts.values())
    found = near_copies(documents)
    stayed: list[int] = []
    for k, document in enumerate(documents):
        similar = {other: jaccard(document.text, documents[other].text) for other in stayed}
        # A pair near the threshold may be missed (0.1 % of those at it): these random texts have few.
        best = max(similar, key=lambda other: (similar[other], -other), default=-1)
        expected = best if best >= 0 and similar[best] >= SIMILAR else -1
        assert found[k] == expected
        if expected < 0:
            stayed.append(k)


def test_texts_of_a_few_words_have_no_near_copies():
    documents = [make_document(f"g{k}", text) for k, text in enumerate(["a b c d", "a b c d!", "", "x", "X"])]
    assert (near_copies(documents) == -1).all()
    assert (near_copies([]) == -1).all() and (shared_passages([]) == -1).all()


def owners(document: Document, stayed: dict[int, Document]) -> list[int]:
    """For each 13-gram that others have, the first of other groups that has it."""
    others = {k: set(tuples(other.text, 13)) for k, other in stayed.items() if other.group != document.group}
    having = [[k for k, grams in others.items() if gram in grams] for gram in tuples(document.text, 13)]
    return [numbers[0] for numbers in having if numbers]


@settings(max_examples=20)
@given(st.integers(0, 2**32).map(Random))
def test_shared_passages_are_those_of_sets_of_thirteen_words(random):
    passages = [random.choices(WORDS, k=random.randint(13, 30)) for _ in range(6)]
    documents = []
    for _ in range(20):
        words = random.choices(WORDS, k=random.randint(5, 150))
        for passage in random.sample(passages, random.randint(0, 2)):
            place = random.randrange(len(words))
            words[place:place] = passage
        documents.append(make_document(f"g{random.randrange(15)}", " ".join(words)))
    found = shared_passages(documents)
    stayed: dict[int, Document] = {}
    for k, document in enumerate(documents):
        foreign = owners(document, stayed)
        if len(foreign) > SHARED * len(tuples(document.text, 13)):
            assert found[k] == max(set(foreign), key=lambda other: (foreign.count(other), -other))
        else:
            assert found[k] == -1
            stayed[k] = document


def test_a_group_may_repeat_itself():
    text = " ".join(Random(0).choices(WORDS, k=60))
    halves = [make_document("page", f"{text} {' '.join(Random(k).choices(WORDS, k=200))}") for k in (1, 2)]
    assert len(clean(halves).documents) == 2
    moved = [halves[0], make_document("other", halves[1].text)]
    assert len(clean(moved).documents) == 1


@settings(max_examples=10)
@given(st.integers(0, 2**32).map(Random))
def test_cleaning_does_not_depend_on_the_order_of_reading(random):
    documents = copies_with_changes(random, 10)
    documents += [make_document(f"z{k}", d.text, "again") for k, d in enumerate(documents[:5])]
    cleaned = clean(documents)
    assert clean(random.sample(documents, len(documents))) == cleaned
    assert len(documents) == len(cleaned.documents) + sum(removal.documents for removal in cleaned.removals)
    size = sum(len(d.text.encode()) for d in documents)
    assert size == sum(len(d.text.encode()) for d in cleaned.documents) + sum(r.bytes for r in cleaned.removals)
    # Nothing is left to remove.
    assert clean(cleaned.documents).removals == ()
    assert all(jaccard(a.text, b.text) < SIMILAR for a, b in combinations(cleaned.documents, 2))


def test_of_equal_texts_the_alphabetically_first_group_stays_and_the_pair_is_named():
    rows = [("b", "y"), ("a", "z"), ("c", "x")]
    documents = [make_document(group, "equal text", source) for group, source in rows]
    for order in (documents, documents[::-1], documents[1:] + documents[:1]):
        cleaned = clean(order)
        assert [d.group for d in cleaned.documents] == ["a"]
        found = [(r.stage, r.source, r.kept_source, r.documents, r.bytes) for r in cleaned.removals]
        assert found == [("exact", "x", "z", 1, 10), ("exact", "y", "z", 1, 10)]
