"""Sentences of a probabilistic context-free grammar whose entropy is known exactly.

The grammar is in Greibach normal form: every rule writes one symbol and then expands at most two nonterminals. A
nonterminal is a context c, which is the last `order` symbols since a phrase began or went on, and the kind of that
beginning if it is among them. From c the grammar writes

    c -> a c'                      an ordinary symbol a, and goes on in the context c' that ends with a
    c -> (t begin_t ) after_t      with brackets of type t around an inner phrase, and goes on after it
    c -> end                       where the phrase ends: the closing bracket, or the end of the document

so that a model has to remember which brackets are open. The symbol written and the stack of open brackets determine
the next context: no sentence has two derivations, and the entropy of sentences is that of derivations.

In every context the ordinary symbols have the probabilities of a Zipf law, in an order that is the context's own: by
the sum of random scores of the symbol, of the symbol with the one before it, and so on. Shorter contexts thus predict
part of what longer ones do, and contexts are as frequent as a product of Zipf laws makes them: a model that knows more
of them has a lower loss, little by little.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, NamedTuple

import numpy as np
from annotated_types import Ge, Le, Lt
from jaxtyping import Float, Int64, UInt64
from scipy.special import xlogy

from harness.data.permutation import mix
from harness.data.simulation.draws import draw_key, each_word, words
from harness.data.world import Drawn, World

# Probabilities are whole numbers of this part.
_WHOLE = 1 << 32
_MOST_RULES = 1 << 22
# Documents are written side by side, this many at once.
_TOGETHER = 1 << 16


@dataclass(frozen=True)
class GrammarOptions:
    """The options of the grammar.

    Attributes:
        symbols: the number of ordinary symbols.
        order: how many symbols a context has.
        zipf: the exponent of the probabilities of symbols by their rank.
        length: the mean number of symbols of a phrase without those inside it, but with the bracket or the end that
            closes it. A document has length / (1 - nesting) on average.
        nesting: the mean number of phrases right inside a phrase.
        brackets: the number of types of brackets.
        documents: how many documents there are; a larger corpus begins with those of a smaller one.
        seed: another grammar.
    """

    symbols: Annotated[int, Ge(2), Le(4096)] = 64
    order: Annotated[int, Ge(1), Le(6)] = 2
    zipf: Annotated[float, Ge(0), Le(8)] = 1.5
    length: Annotated[int, Ge(4), Le(1000)] = 16
    nesting: Annotated[float, Ge(0), Lt(1)] = 0.5
    brackets: Annotated[int, Ge(1), Le(64)] = 4
    documents: Annotated[int, Ge(2), Le(10_000_000)] = 100_000
    seed: Annotated[int, Ge(0), Lt(2**31)] = 0

    def __post_init__(self) -> None:
        if self.symbols ** (self.order + 1) > _MOST_RULES:
            raise ValueError(f"symbols^(order + 1) up to {_MOST_RULES:,}, for that many rules")


class Grammar(NamedTuple):
    """The rules of a grammar, for contexts 0 .. C - 1, the first of which begins a document.

    The symbols that a context may write are the V ordinary ones, then an opening bracket of each of the B types, then
    the end of the phrase.

    Attributes:
        bounds: the cumulated probabilities of these symbols, in parts of 2^32.
        following: the context after each ordinary symbol; after an opening bracket the one that begins the phrase.
        after: the context after the closing bracket of each type.
    """

    bounds: UInt64[np.ndarray, "C V+B+1"]
    following: Int64[np.ndarray, "C V+B"]
    after: Int64[np.ndarray, "B"]

    @property
    def probabilities(self) -> Float[np.ndarray, "C V+B+1"]:
        """The probability of each symbol in each context."""
        return np.diff(self.bounds.astype(np.float64), axis=1, prepend=0.0) / _WHOLE


@lru_cache(1)
def make_grammar(options: GrammarOptions) -> Grammar:
    """The grammar of these options.

    Contexts of j symbols since a beginning of kind k (0 a document, then types of brackets that have been opened, then
    types that have been closed) come first, by j, k and the symbols; then those of `order` symbols.
    """
    v, order, types = options.symbols, options.order, options.brackets
    kinds = 1 + 2 * types
    scores, starts, total = [], [], 0
    for length in range(order + 1):
        starts.append(total)
        parts = (kinds if length < order else 1) * v**length
        scores.append(_scores(options, length, np.arange(parts)))
        total += parts
    ranks = np.argsort(np.argsort(-np.concatenate(scores), axis=1, kind="stable"), axis=1, kind="stable")

    nesting = Decimal(str(options.nesting))
    closing = int(_WHOLE / (options.length - 1 - nesting))
    opening = int(_WHOLE * nesting / options.length) // types
    weights = np.full((total, v + types + 1), opening, np.uint64)
    weights[:, -1] = closing
    weights[:kinds, -1] = 0  # no phrase ends where it begins or goes on
    zipf = [Decimal(rank) ** -Decimal(str(options.zipf)) for rank in range(1, v + 1)]
    for rows, ending in ((slice(0, kinds), 0), (slice(kinds, None), closing)):
        rest = _WHOLE - ending - opening * types
        shares = np.array([int(rest * share / sum(zipf)) for share in zipf], np.uint64)
        shares[0] += np.uint64(rest - int(shares.sum()))
        weights[rows, :v] = shares[ranks[rows]]

    following = np.empty((total, v + types), np.int64)
    for length, start in enumerate(starts):
        parts = (kinds if length < order else 1) * v**length
        longer = np.arange(parts)[:, None] * v + np.arange(v)
        target = starts[min(length + 1, order)]
        # At the full order the oldest symbol, or the kind of beginning, drops out.
        following[start : start + parts, :v] = target + (longer % v**order if length >= order - 1 else longer)
    following[:, v:] = 1 + np.arange(types)
    return Grammar(np.cumsum(weights, axis=1), following, 1 + types + np.arange(types))


def _scores(options: GrammarOptions, length: int, parts: Int64[np.ndarray, "parts"]) -> Int64[np.ndarray, "parts V"]:
    """The score of each symbol after a context of `length` symbols: a sum over the suffixes of the context."""
    v, symbols = options.symbols, np.arange(options.symbols)
    whole = length if length == options.order else length + 1  # the kind of beginning counts as one more
    total = np.zeros((len(parts), v), np.int64)
    for kept in range(whole + 1):
        suffix = parts if kept > length else parts % v**kept
        name = draw_key("grammar", options.seed, kept, length if kept > length else "")
        hashed = mix(np.uint64(name) + mix((suffix[:, None] * v + symbols).astype(np.uint64)))
        total += (hashed >> np.uint64(24)).astype(np.int64)
    return total


def mean_length(options: GrammarOptions) -> float:
    """The mean number of symbols of a document, its end included."""
    beginnings, others = _visits(make_grammar(options))
    return beginnings + others


def _visits(grammar: Grammar) -> tuple[float, float]:
    """How often a document is in a context where a phrase begins or goes on, and in another one, on average.

    With o and e the probabilities of a bracket and of an end, n of the first and m of the second have x = o (n + m)
    inner phrases, of which each begins twice, n = 1 + 2 x, and all end, e m = 1 + x.
    """
    p, types = grammar.probabilities, len(grammar.after)
    opening, ending = float(p[0, -1 - types : -1].sum()), float(p[-1, -1])
    inner = opening * (1 + 1 / ending) / (1 - 2 * opening - opening / ending)
    return 1 + 2 * inner, (1 + inner) / ending


def _entropy(options: GrammarOptions) -> float:
    """Nats per token of the stream of documents and their ends: entropy of a document over its mean length.

    Contexts differ in which symbols are probable, but not in how probable these are: there are two entropies only.
    """
    grammar = make_grammar(options)
    beginnings, others = _visits(grammar)
    at_beginning, elsewhere = (float(-np.sum(xlogy(p, p))) for p in grammar.probabilities[[0, -1]])
    return (beginnings * at_beginning + others * elsewhere) / (beginnings + others)


def _window_entropy(options: GrammarOptions, context: int) -> float | None:
    """Nats per target of windows; None with phrases in phrases, where all that is seen says which brackets are open.

    With k tokens seen a model knows all that matters if they reach back to the end of a document, or are as many as the
    grammar's order, and else the last k symbols. So only the first `order` - 1 targets have a higher entropy than the
    stream.
    """
    if options.nesting:
        return None
    grammar, v, order, kinds = make_grammar(options), options.symbols, options.order, 1 + 2 * options.brackets
    parts = [(kinds if length < order else 1) * v**length for length in range(order + 1)]
    lengths = np.repeat(np.arange(order + 1), parts)
    last = np.concatenate([np.arange(count) % v**length for length, count in enumerate(parts)])
    p = grammar.probabilities[:, [*range(v), -1]]
    # How often the stream is in each context: after the end of a document it is in context 0.
    moves = np.zeros((len(p), len(p)))
    np.add.at(moves, (np.arange(len(p))[:, None], grammar.following[:, :v]), p[:, :-1])
    moves[:, 0] += p[:, -1]
    balance = np.vstack([(moves.T - np.eye(len(p)))[1:], np.ones(len(p))])
    often = np.linalg.solve(balance, np.eye(len(p))[-1])
    total = max(context - order + 1, 0) * -float(often @ np.sum(xlogy(p, p), axis=1))
    for seen in range(1, min(order, context + 1)):
        # Contexts that began in the window are known, each a group of its own.
        groups = np.where(lengths < seen, -1 - np.arange(len(p)), last % v**seen)
        members = (groups == np.unique(groups)[:, None]) * often
        mixed, whole = members @ p, members.sum(axis=1)
        total += float(np.sum(xlogy(whole, whole)) - np.sum(xlogy(mixed, mixed)))
    return total / context


def log_probability(options: GrammarOptions, ids: Int64[np.ndarray, "tokens"]) -> float:
    """Log probability of a document, its end included, in nats; of ids that no document has it is -inf."""
    grammar, v, types = make_grammar(options), options.symbols, options.brackets
    context, stack, total = 0, [], 0.0
    for token in [*(int(token) for token in ids), v + 2 * types]:
        symbol = min(token, v + types)
        if symbol == v + types and (stack.pop() if stack else 2 * types) != token - v:
            return -np.inf
        part = int(grammar.bounds[context, symbol]) - (int(grammar.bounds[context, symbol - 1]) if symbol else 0)
        if not part:
            return -np.inf
        total += math.log(part / _WHOLE)
        if token < v + types:
            context = int(grammar.following[context, token])
            stack += [token - v + types] if token >= v else []
        elif token < v + 2 * types:
            context = int(grammar.after[token - v - types])
    return total if not stack else -np.inf


def _documents(options: GrammarOptions) -> Iterator[Drawn]:
    keys = words(draw_key("grammar", options.seed, "documents"), options.documents)
    for first in range(0, options.documents, _TOGETHER):
        for number, ids in enumerate(_write(options, keys[first : first + _TOGETHER]), first):
            yield Drawn(str(number), "grammar", ids)


def _write(options: GrammarOptions, keys: UInt64[np.ndarray, "documents"]) -> list[Int64[np.ndarray, "tokens"]]:
    """A document for each key, all written at once, symbol by symbol, until the last one has ended."""
    grammar, v, types = make_grammar(options), options.symbols, options.brackets
    live, context, depth = np.arange(len(keys)), np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
    stack = np.zeros((len(keys), 8), np.int64)
    owners, written = [], []
    step = 0
    while len(live):
        drawn = each_word(keys[live], step) >> np.uint64(32)
        symbol = (grammar.bounds[context] <= drawn[:, None]).sum(axis=1)
        opens, ends = (symbol >= v) & (symbol < v + types), symbol == v + types
        if depth.max() == stack.shape[1]:
            stack = np.concatenate([stack, np.zeros_like(stack)], axis=1)
        stack[np.flatnonzero(opens), depth[opens]] = symbol[opens] - v
        depth += opens.astype(np.int64) - ends
        stay = depth >= 0
        closed = np.zeros_like(symbol)
        inside = np.flatnonzero(ends & stay)
        closed[inside] = stack[inside, depth[inside]]
        inner = grammar.following[context, np.where(ends, 0, symbol)]
        context = np.where(ends, grammar.after[closed], inner)
        owners.append(live[stay])
        written.append((symbol + closed)[stay])
        live, context, depth, stack = live[stay], context[stay], depth[stay], stack[stay]
        step += 1
    owner, tokens = np.concatenate(owners), np.concatenate(written)
    ordered = tokens[np.argsort(owner, kind="stable")]
    return np.split(ordered, np.cumsum(np.bincount(owner, minlength=len(keys)))[:-1])


GRAMMAR = World(
    "sentences of a random probabilistic grammar with nested phrases",
    "none: it is computed",
    GrammarOptions,
    vocab=lambda options: options.symbols + 2 * options.brackets + 1,
    documents=_documents,
    entropy=_entropy,
    window_entropy=_window_entropy,
    ranges=lambda options: {
        "symbols": range(options.symbols),
        "opening": range(options.symbols, options.symbols + options.brackets),
        "closing": range(options.symbols + options.brackets, options.symbols + 2 * options.brackets),
    },
)
