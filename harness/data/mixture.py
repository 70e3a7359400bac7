"""The training batches of a run: windows of one corpus, or of several in fixed shares, as one numbered stream.

Each part of a mixture has its share of the W windows, rounded to whole windows. The windows are numbered part after
part, and training permutes all of them. So every epoch visits each window once, the shares are those that were asked
for, and the U unique tokens of a mixture are a piece of each part's stream, for the first draw its beginning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Int, Int32

from harness.data.corpora import find_corpus
from harness.data.store import TokenStore
from harness.data.windows import cut_windows, first_window, window_count, window_index
from sweeps.config import DataConfig, RunConfig
from sweeps.errors import InputError


@dataclass(frozen=True)
class Mixture:
    """The text of a run: windows of the train streams of its parts.

    Attributes:
        stores: the token store of each part, all of one tokenizer.
        windows: how many windows of each part's train stream the run may see.
        context: the number of input tokens of a window.
        draw: which draw of the text this is, see `harness.data.windows.first_window`.
    """

    stores: tuple[TokenStore, ...]
    windows: tuple[int, ...]
    context: int
    draw: int = 0

    def places(self, index: Int[np.ndarray, "*shape"]) -> tuple[Int[np.ndarray, "*shape"], Int[np.ndarray, "*shape"]]:
        """The part of each of the run's windows, numbered from 0, and the window's number in the part's stream."""
        part, number = locate(index, self.windows)
        pools = [(len(store.train) - 1) // self.context for store in self.stores]
        firsts = [
            first_window(self.draw, count, pool) if count else 0
            for count, pool in zip(self.windows, pools, strict=True)
        ]
        return part, (number + np.asarray(firsts)[part]) % np.asarray(pools)[part]

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes per token of the training text."""
        return self._mean([store.bytes_per_token for store in self.stores])

    @property
    def contamination(self) -> float:
        """The mean contamination of the parts, weighted by their numbers of windows."""
        return self._mean([store.contamination for store in self.stores])

    def _mean(self, values: list[float]) -> float:
        parts = zip(self.windows, values, strict=True)
        return sum(windows * value for windows, value in parts) / sum(self.windows)


def stores_of(opened: Callable[..., TokenStore], data: DataConfig) -> tuple[TokenStore, ...]:
    """The stores of a run's parts. `opened` is `harness.data.store.prepare` with its argument `cache` bound."""
    return tuple(opened(name, data.tokenizer, **data.split) for _, name in data.parts)


def share_out(total: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    """Split a total into whole numbers in these shares, by the method of largest remainders."""
    exact = [total * share / sum(shares) for share in shares]
    whole = [int(number) for number in exact]
    most = sorted(range(len(shares)), key=lambda i: whole[i] - exact[i])
    for index in most[: total - sum(whole)]:
        whole[index] += 1
    return tuple(whole)


def mixture_of(config: RunConfig, stores: tuple[TokenStore, ...]) -> Mixture:
    """A run's text, from the stores of its parts.

    Raises:
        InputError: a vocabulary that is not the model's, parts whose tokenizers differ, a part that holds out what
            another trains on, or a part that holds less than its share of the run's tokens.
    """
    context, vocab = config.model.context, config.model.vocab
    windows = share_out(config.windows, tuple(share for share, _ in config.data.parts))
    shares = tuple(share for share, _ in config.data.parts)
    for store in stores[1:]:
        _one_tokenizer(config, stores[0], store)
    for one, other in permutations(stores, 2):
        if one.reads_heldout_of(other):
            expected = (
                f"parts that hold out the same of what they share: {other.domain} holds out what {one.domain} reads"
            )
            raise InputError(config.run_id, "data.domain", config.data.domain, expected)
    for store, count in zip(stores, windows, strict=True):
        if store.vocab != vocab:
            raise InputError(config.run_id, "model.vocab", vocab, f"{store.vocab}, that of {store.tokenizer}")
        if count and len(store.train) < count * context + 1:
            most = available_tokens(shares, stores)
            expected = f"at most {most}, for what the train split of {store.domain} holds in {store.tokenizer}"
            raise InputError(config.run_id, "data.unique_tokens", config.data.unique_tokens, expected)
    return Mixture(stores, windows, context, config.data.draw)


def probe_stores(
    config: RunConfig, mixture: Mixture, stores: Callable[[DataConfig], tuple[TokenStore, ...]]
) -> list[TokenStore]:
    """The stores of the other domains on which a run is measured, split as its own text is.

    Args:
        stores: `stores_of` with its first argument bound.

    Raises:
        InputError: a domain whose ids mean something else, or that shares text with what the run reads under another
            name, or of which documents are held out that the run reads.
    """
    found = []
    for domain in config.probe.domains:
        parts = {part.name for part in find_corpus(domain).parts}
        for _, own in config.data.parts:
            if own in parts or domain in {part.name for part in find_corpus(own).parts}:
                expected = f"a corpus that shares no text with {own}, which the run reads"
                raise InputError(config.run_id, "probe.domains", domain, expected)
        (store,) = stores(config.data.model_copy(update={"domain": domain}))
        _one_tokenizer(config, mixture.stores[0], store)
        if any(own.reads_heldout_of(store) for own in mixture.stores):
            expected = f"a corpus that holds out no document on which {config.data.domain} trains"
            raise InputError(config.run_id, "probe.domains", domain, expected)
        found.append(store)
    return found


def _one_tokenizer(config: RunConfig, first: TokenStore, other: TokenStore) -> None:
    """InputError if the ids of two stores do not mean the same: each corpus trains a `bpe:V` of its own."""
    if first.tokenizer_hash != other.tokenizer_hash:
        expected = f"one tokenizer for {first.domain} and {other.domain}, such as {first.tokenizer}@{first.domain}"
        raise InputError(config.run_id, "data.tokenizer", config.data.tokenizer, expected)


def available_tokens(shares: tuple[float, ...], stores: tuple[TokenStore, ...]) -> int:
    """The most unique tokens that a run on these parts can have."""
    return min(int(len(store.train) / share) for share, store in zip(shares, stores, strict=True))


def train_batches(
    mixture: Mixture, seed: int, first: int, stop: int, batch: int
) -> Int32[np.ndarray, "steps batch context+1"]:
    """The batches, of `batch` windows each, of the steps first .. stop - 1.

    The run's data seed fixes the order of the windows in every epoch.
    """
    position = np.arange(first * batch, stop * batch).reshape(stop - first, batch)
    places = mixture.places(window_index(position, sum(mixture.windows), seed))
    return read_windows([store.train for store in mixture.stores], mixture.context, *places)


def read_windows(
    streams: Sequence[Int[np.ndarray, "tokens"]],
    context: int,
    part: Int[np.ndarray, "*shape"],
    number: Int[np.ndarray, "*shape"],
) -> Int32[np.ndarray, "*shape context+1"]:
    """The windows with these numbers in the streams of these parts."""
    if len(streams) == 1:
        return cut_windows(streams[0], context, number)
    tokens = np.empty((*number.shape, context + 1), np.int32)
    for which, stream in enumerate(streams):
        in_part = part == which
        if in_part.any():
            tokens[in_part] = cut_windows(stream, context, number[in_part])
    return tokens


def locate(
    index: Int[np.ndarray, "*shape"], windows: tuple[int, ...]
) -> tuple[Int[np.ndarray, "*shape"], Int[np.ndarray, "*shape"]]:
    """The part that each window of a mixture belongs to, and the window's number within that part."""
    ends = np.cumsum(windows)
    part = np.searchsorted(ends, index, side="right")
    return part, index - (ends - windows)[part]


def heldout_windows(mixture: Mixture) -> tuple[int, ...]:
    """The number of held-out windows of each part; InputError if a part has less held-out text than one window."""
    for store in mixture.stores:
        if len(store.heldout) <= mixture.context:
            expected = f"less than {len(store.heldout)}, the tokens of held-out text there are to measure on"
            raise InputError("data", "context", mixture.context, expected)
    return tuple(window_count(len(store.heldout), mixture.context) for store in mixture.stores)
