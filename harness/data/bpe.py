"""Training a byte-level BPE on the train split of a corpus."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from harness.data.tokenizers import WORD_PATTERN
from sweeps.errors import InputError

# Change this number with the recipe below or the pattern of words: trained merge lists are cached under it.
BPE_RECIPE = 1


def train_library_tokenizer(texts: Iterable[str], vocab: int, where: str) -> Tokenizer:
    """A tokenizer of the `tokenizers` library with vocab - 1 ids: 256 bytes, then merges in order of training.

    A pair must occur twice to be merged. There are no special tokens, which would shift the ids against the merges.

    Args:
        texts: documents of the train split.
        vocab: ids wanted, the end-of-document token (which the library knows nothing of) included.
        where: name of the corpus, for the error.

    Raises:
        InputError: the texts have too few repeated pairs for that many merges.
    """
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated")
    # The library's stubs miss that pre_tokenizer and decoder are assignable properties.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - 1,
        min_frequency=2,
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    supported = tokenizer.get_vocab_size() + 1
    if supported < vocab:
        raise InputError(where, "tokenizer", f"bpe:{vocab}", f"at most bpe:{supported}: no more pairs repeat")
    return tokenizer


def merge_ranks(tokenizer: Tokenizer) -> dict[bytes, int]:
    """The ids of a byte-level tokenizer as tiktoken ranks, in order, as bytes."""
    decode = _stand_ins()
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return {bytes(decode[character] for character in token): rank for token, rank in vocabulary}


def _stand_ins() -> dict[str, int]:
    """Character -> byte of the byte-level alphabet: printable Latin-1 stands for itself, others for 256, 257 ..."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + k): value for k, value in enumerate(others)}
