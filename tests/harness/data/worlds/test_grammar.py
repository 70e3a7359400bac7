"""The grammar's entropy, by enumeration of all its sentences and by what sentences are surprised by."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.special import xlogy

from harness.data.world import parse_world
from harness.data.worlds.grammar import log_probability, make_grammar, mean_length

TINY = "grammar:symbols=2,order=1,length=4,nesting=0.3,brackets=1,documents=40000"


def enumerate_sentences(domain: str, least: float) -> Iterator[tuple[tuple[int, ...], float]]:
    """All sentences whose beginnings are more probable than `least`, with their probabilities, from the rules as the
    grammar's page has them.

    A context is the last `order` symbols since a beginning, and the kind of that beginning if it is among them.
    """
    _, options = parse_world(domain)
    v, types, order = options.symbols, options.brackets, options.order
    grammar = make_grammar(options)
    p = grammar.probabilities
    # The number of the context of each history: kinds of beginnings first, then by length.
    numbers, first = {}, 0
    kinds = [("text",), *[("open", t) for t in range(types)], *[("closed", t) for t in range(types)]]
    for length in range(order + 1):
        for kind in kinds if length < order else [None]:
            for code in range(v**length):
                symbols = tuple(code // v**place % v for place in reversed(range(length)))
                numbers[(kind, *symbols)] = first
                first += 1

    def context(kind: tuple, symbols: tuple[int, ...]) -> int:
        return numbers[(None, *symbols[-order:])] if len(symbols) >= order else numbers[(kind, *symbols)]

    begun: list[tuple[tuple, tuple, tuple, tuple, float]] = [((), (), ("text",), (), 1.0)]
    while begun:
        written, stack, kind, symbols, probability = begun.pop()
        if probability < least:
            continue
        row = (probability * p[context(kind, symbols)]).tolist()
        if not stack and row[-1]:
            yield written, row[-1]
        begun += [((*written, a), stack, kind, (*symbols, a), row[a]) for a in range(v)]
        begun += [((*written, v + t), (*stack, t), ("open", t), (), row[v + t]) for t in range(types)]
        if stack:
            begun.append(((*written, v + types + stack[-1]), stack[:-1], ("closed", stack[-1]), (), row[-1]))


@pytest.fixture(scope="module")
def sentences() -> dict[tuple[int, ...], float]:
    return dict(enumerate_sentences(TINY, 1e-5))


def test_probabilities_of_sentences_are_those_of_the_rules(sentences):
    _, options = parse_world(TINY)
    for ids, probability in list(sentences.items())[::97]:
        assert log_probability(options, np.array(ids, np.int64)) == pytest.approx(math.log(probability))
    # With the sentences that are longer they add up to 1.
    assert 0.85 < sum(sentences.values()) < 1
    for wrong in ([], [3], [0, 3], [2], [2, 0], [2, 0, 3, 3]):  # empty; brackets that do not match
        assert log_probability(options, np.array(wrong, np.int64)) == -math.inf


def test_sentences_are_written_as_often_as_they_are_probable(sentences):
    world, options = parse_world(TINY)
    written = Counter(tuple(document.ids.tolist()) for document in world.documents(options))
    total = written.total()
    frequent = [ids for ids, probability in sentences.items() if probability * total > 20]
    expected = np.array([sentences[ids] * total for ids in frequent])
    chi = np.sum((np.array([written[ids] for ids in frequent]) - expected) ** 2 / expected)
    assert len(frequent) > 50 and abs(chi - len(frequent)) < 4 * math.sqrt(2 * len(frequent))


def test_the_entropy_is_that_of_all_sentences_of_a_tiny_grammar():
    # Short phrases, so that nearly all of the probability is in sentences that can be listed.
    domain = "grammar:symbols=2,order=2,length=4,nesting=0.05,brackets=1,zipf=6"
    world, options = parse_world(domain)
    parts = np.array([(p, len(ids) + 1) for ids, p in enumerate_sentences(domain, 2e-8)])
    p, length = parts.T
    assert 1 - p.sum() < 5e-3
    assert world.entropy(options) == pytest.approx(-np.sum(p * np.log(p)) / np.sum(p * length), rel=0.008)
    assert mean_length(options) == pytest.approx(np.sum(p * length), rel=0.02)


@pytest.mark.parametrize(
    "domain", ["grammar:documents=3000", "grammar:symbols=16,order=3,zipf=1,nesting=0.8,brackets=1,documents=2000"]
)
def test_the_entropy_is_the_mean_surprise_of_sentences(domain):
    world, options = parse_world(domain)
    drawn = [document.ids for document in world.documents(options)]
    surprise = np.array([-log_probability(options, ids) for ids in drawn])
    length = np.array([len(ids) + 1 for ids in drawn])
    entropy = world.entropy(options) or 0.0
    error = np.std(surprise - entropy * length) / np.sqrt(len(drawn)) / length.mean()
    assert error < 0.02 * entropy
    assert abs(surprise.sum() / length.sum() - entropy) < 4 * error


def test_symbols_have_a_zipf_law_in_every_context_and_an_order_of_its_own():
    _, options = parse_world("grammar:symbols=20,zipf=1.2")
    p = make_grammar(options).probabilities[:, :20]
    zipf = np.arange(1, 21) ** -1.2
    ordered = -np.sort(-p / p.sum(axis=1, keepdims=True), axis=1)
    assert ordered == pytest.approx(np.broadcast_to(zipf / zipf.sum(), p.shape), rel=1e-6)
    assert len({tuple(row) for row in np.argsort(-p, axis=1).tolist()}) > 0.95 * len(p)


def test_longer_contexts_say_more():
    # Without brackets the last two symbols are all there is to know.
    world, options = parse_world("grammar:symbols=12,nesting=0,documents=30000")
    stream = np.concatenate([np.append(d.ids, world.vocab(options) - 1) for d in world.documents(options)])
    losses = []
    for order in range(3):
        grams = np.zeros(len(stream) - order, np.int64)
        for place in range(order + 1):
            grams = grams * world.vocab(options) + stream[place : len(stream) - order + place]
        counts = np.bincount(grams)
        before = np.bincount(grams // world.vocab(options))
        losses.append(float(np.sum(xlogy(before, before)) - np.sum(xlogy(counts, counts))) / len(grams))
    assert losses[0] > losses[1] + 0.2 > losses[2] + 0.4
    assert world.entropy(options) == pytest.approx(losses[2], rel=0.01)


def test_options_say_how_long_documents_are_and_what_the_entropy_is():
    for text in ("symbols=20,length=9,nesting=0.6,brackets=3,zipf=1.1", "symbols=8,length=4,nesting=0.9,zipf=0"):
        world, options = parse_world(f"grammar:{text}")
        assert mean_length(options) == pytest.approx(options.length / (1 - options.nesting), rel=1e-6)
        # Seeds are other grammars of one entropy.
        assert world.entropy(options) == world.entropy(parse_world(f"grammar:{text},seed=3")[1])
        other = parse_world(f"grammar:{text},seed=3")[1]
        assert (make_grammar(options).bounds != make_grammar(other).bounds).any()


@pytest.mark.parametrize(("order", "context"), [(1, 3), (2, 1), (2, 4), (3, 2), (3, 5)])
def test_the_entropy_of_windows_is_that_of_all_strings_that_they_can_hold(order, context):
    world, options = parse_world(f"grammar:symbols=2,order={order},length=4,nesting=0,brackets=1,zipf=2")
    grammar = make_grammar(options)
    p, count = grammar.probabilities, len(grammar.bounds)
    # For each token, the probability [context, next context] to write it and to go on there.
    moves = np.zeros((3, count, count))
    for state in range(count):
        for token in range(2):
            moves[token, state, grammar.following[state, token]] = p[state, token]
        moves[2, state, 0] = p[state, -1]
    often = np.full(count, 1 / count)
    for _ in range(5000):
        often = often @ moves.sum(axis=0)

    def entropy(length: int) -> float:
        beliefs = [np.linalg.multi_dot([often, *moves[list(string)], np.ones(count)])
                   for string in itertools.product(range(3), repeat=length)]  # fmt: skip
        return -float(np.sum(xlogy(beliefs, beliefs)))

    found = world.window_entropy(options, context)
    assert found == pytest.approx((entropy(context + 1) - entropy(1)) / context, abs=1e-7)


def test_long_windows_have_the_entropy_of_the_stream_and_short_ones_more():
    world, options = parse_world("grammar:symbols=12,nesting=0")
    stream = world.entropy(options)
    assert stream is not None
    short, longer, longest = (world.window_entropy(options, context) or 0.0 for context in (8, 64, 100_000))
    assert stream < longest < longer < short and longest == pytest.approx(stream, rel=1e-4)
    world, nested = parse_world("grammar")
    assert world.window_entropy(nested, 64) is None
