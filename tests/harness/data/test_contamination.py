import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.contamination import LONGEST_LIST, contamination
from harness.data.documents import Document, make_document

WORDS = [f"w{k}" for k in range(3000)]


def text(random: Random, words: int) -> str:
    return " ".join(random.choices(WORDS, k=words))


def tuples(document: Document) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", document.text)
    return [tuple(words[k : k + 13]) for k in range(len(words) - 12)]


@settings(max_examples=20)
@given(st.integers(0, 2**32).map(Random))
def test_the_report_is_that_of_sets_of_thirteen_words(random):
    passages = [text(random, random.randint(10, 30)) for _ in range(8)]

    def side(size: int) -> list[Document]:
        return [
            make_document(
                f"g{random.randrange(6)}",
                " ".join([text(random, random.randrange(40)), *random.sample(passages, random.randint(0, 3))]),
                random.choice("xy"),
            )
            for _ in range(size)
        ]

    heldout, train = side(10), side(12)
    report = contamination(heldout, train)
    first = {gram: d for d in reversed(train) for gram in tuples(d)}
    leaks: dict[tuple[str, str, str, str], int] = {}
    for d in heldout:
        for gram in tuples(d):
            if gram in first:
                key = (d.group, d.source, first[gram].group, first[gram].source)
                leaks[key] = leaks.get(key, 0) + 1
    total = sum(len(tuples(d)) for d in heldout)
    assert report.grams == total and report.share == (sum(leaks.values()) / total if total else 0.0)
    found = {(k.heldout_group, k.heldout_source, k.train_group, k.train_source): k.grams for k in report.group_leaks}
    assert found == leaks
    assert [leak.grams for leak in report.group_leaks] == sorted(leaks.values(), reverse=True)
    between = {(leak.heldout_source, leak.train_source): leak.grams for leak in report.source_leaks}
    assert between == {pair: sum(n for k, n in leaks.items() if (k[1], k[3]) == pair) for pair in between}
    for row in report.by_source:
        assert row.grams == sum(len(tuples(d)) for d in heldout if d.source == row.source)
        assert row.leaked == sum(n for k, n in leaks.items() if k[1] == row.source)


def test_planted_copies_are_measured_and_named_first(monkeypatch):
    monkeypatch.setattr("harness.data.streams.BATCH_BYTES", 20_000)
    random = Random(1)
    heldout = [make_document(f"held {k}", text(random, 150), "web") for k in range(500)]
    train = [make_document(f"train {k}", text(random, 150), f"site {k % 5}") for k in range(2000)]
    assert contamination(heldout, train).share == 0.0
    train += [make_document(f"copy {k}", d.text.upper(), "planted") for k, d in enumerate(heldout[:10])]
    train += [make_document("quote", heldout[20].text[:120], "site 0")]
    random.shuffle(train)
    report = contamination(heldout, train)
    assert report.share == pytest.approx(0.02, rel=0.1)
    assert (report.source_leaks[0].heldout_source, report.source_leaks[0].train_source) == ("web", "planted")
    assert {leak.train_group for leak in report.group_leaks[:10]} == {f"copy {k}" for k in range(10)}
    assert report.source_leaks[1].train_source == "site 0"


def test_the_list_of_groups_is_capped():
    documents = [make_document(f"g{k}", text(Random(k), 20), "s") for k in range(LONGEST_LIST + 20)]
    copies = [make_document(f"copy {k}", d.text, "t") for k, d in enumerate(documents)]
    report = contamination(documents, copies)
    assert report.share == 1.0 and len(report.group_leaks) == LONGEST_LIST
    assert sum(leak.grams for leak in report.source_leaks) == report.grams == 8 * len(documents)


def test_sides_without_thirteen_words_leak_nothing():
    short, long = [make_document("g", "a few words")], [make_document("h", text(Random(0), 30))]
    for heldout, train in (([], []), (short, long), (long, short), (short, [])):
        assert contamination(heldout, train).share == 0.0
