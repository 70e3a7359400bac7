"""Tokenizers by name: bytes, BPE trained on a corpus, published tiktoken vocabularies, and the symbols of token worlds.

Every vocabulary counts the end-of-document token, which is always its last id.
"""

import base64
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tiktoken
from jaxtyping import Int, UInt16, UInt32
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as LibraryTokenizer

from harness.data.documents import digest
from harness.data.world import ids_to_text, text_to_ids
from sweeps.errors import InputError
from sweeps.rules import MOST_SYMBOLS, SMALLEST_VOCAB, vocab_of

# Splits text into words before merging: contractions, letters with one leading mark or space, up to three digits,
# punctuation, line ends, blanks. It has no possessive quantifiers, so that the Rust engines of `tokenizers` (which
# trains) and of `tiktoken` (which encodes, 6 times faster) agree on every text.
WORD_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
)
# Change this number when the training below or the pattern of words changes: trained merge lists are cached under it.
BPE_RECIPE = 1
# Published vocabularies -> the name of their file in the package. Two of them share a file with another.
FETCHED_AS = {
    "o200k_base": "o200k_base",
    "o200k_harmony": "o200k_base",
    "cl100k_base": "cl100k_base",
    "p50k_base": "p50k_base",
    "p50k_edit": "p50k_base",
}
# The environment variables that name tiktoken's cache folder, in the order in which it looks.
FOLDER_VARIABLES = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")


@dataclass(frozen=True)
class TokenizerSpec:
    """The parts of a tokenizer's name.

    Attributes:
        kind: "bytes", "bpe", "symbols" or "published".
        vocab: size of the vocabulary with the end-of-document token.
        source: the corpus whose train split trains a BPE (None: the corpus that is tokenized), or tiktoken's name of a
            published vocabulary.
    """

    kind: str
    vocab: int
    source: str | None


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer, which turns text into ids and back.

    Attributes:
        vocab: number of ids; vocab - 1 is the end-of-document token, which `encode` never returns.
        hash: hash of the byte strings of all ids and of the word pattern, 32 hexadecimal digits.
        token_bytes: bytes of text per id, 1 for a symbol of a token world; 0 for the end of the document.
        encode: returns the ids of a text.
        decode: returns the text of ids without end-of-document tokens; exact for whole texts.
    """

    vocab: int
    hash: str
    token_bytes: UInt16[np.ndarray, "vocab"]
    encode: Callable[[str], UInt32[np.ndarray, "tokens"]]
    decode: Callable[[Int[np.ndarray, "tokens"]], str]


def parse_tokenizer(name: str) -> TokenizerSpec:
    """The parts of a tokenizer's name.

    Raises InputError for a name of another form, or a vocabulary that is too small or above what was published.
    """
    try:
        vocab = vocab_of(name)
    except ValueError as error:
        raise InputError("data", "tokenizer", name, str(error)) from error
    if name == "bytes":
        return TokenizerSpec("bytes", vocab, None)
    if name.startswith("bpe:"):
        return TokenizerSpec("bpe", vocab, name.partition("@")[2] or None)
    if name.startswith("symbols:"):
        return TokenizerSpec("symbols", vocab, None)
    return TokenizerSpec("published", vocab, name.partition("[")[0])


def bytes_tokenizer() -> Tokenizer:
    """UTF-8 bytes as ids 0..255, and 256 for the end of the document."""

    def encode(text: str) -> UInt32[np.ndarray, "tokens"]:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint32)

    def decode(ids: Int[np.ndarray, "tokens"]) -> str:
        return bytes(ids.tolist()).decode(errors="replace")

    ranks = {bytes([value]): value for value in range(256)}
    return Tokenizer(SMALLEST_VOCAB, _hash(ranks, ""), _token_bytes(ranks, SMALLEST_VOCAB), encode, decode)


def symbols_tokenizer(vocab: int) -> Tokenizer:
    """The ids that a token world wrote as characters, 0 .. vocab - 2, and vocab - 1 for the end of the document.

    A symbol counts as one byte. `encode` raises InputError for a text with other characters.
    """

    def encode(text: str) -> UInt32[np.ndarray, "tokens"]:
        ids = text_to_ids(text)
        if len(ids) and (largest := int(ids.max())) > vocab - 2:
            expected = f"symbols:{largest + 2} or more" if largest < MOST_SYMBOLS - 1 else "a tokenizer of text"
            raise InputError("data", "tokenizer", f"symbols:{vocab}", expected)
        return ids

    sizes = np.ones(vocab, np.uint16)
    sizes[-1] = 0
    return Tokenizer(vocab, digest("symbols", vocab), sizes, encode, ids_to_text)


def ranks_tokenizer(ranks: dict[bytes, int], pattern: str, vocab: int | None = None) -> Tokenizer:
    """The byte-pair tokenizer of a merge list.

    Ranks in the order of merging make vocabularies nest: a list cut at some rank is exactly the tokenizer that
    training would have given had it stopped there, since bytes come first and a merge joins only earlier tokens.

    Args:
        ranks: token to rank; the 256 single bytes have the ranks 0..255.
        pattern: regular expression that cuts a text into words, within which merges happen.
        vocab: keep the ranks below vocab - 1, and let vocab - 1 be the end of the document; None keeps all.
    """
    vocab = max(ranks.values()) + 2 if vocab is None else vocab
    kept = {token: rank for token, rank in ranks.items() if rank < vocab - 1}
    # Without a special token tiktoken looks for an empty one at each character of a text, which halves its speed.
    special = {"<|endoftext|>": vocab - 1}
    encoding = tiktoken.Encoding("isogap", pat_str=pattern, mergeable_ranks=kept, special_tokens=special)

    def encode(text: str) -> UInt32[np.ndarray, "tokens"]:
        return encoding.encode_to_numpy(text, disallowed_special=())

    def decode(ids: Int[np.ndarray, "tokens"]) -> str:
        return encoding.decode(ids.tolist())

    return Tokenizer(vocab, _hash(kept, pattern), _token_bytes(kept, vocab), encode, decode)


def train_library_tokenizer(texts: Iterable[str], vocab: int, where: str) -> LibraryTokenizer:
    """A tokenizer of the `tokenizers` library with vocab - 1 ids: 256 bytes, then merges in order of training.

    A pair must occur twice to be merged. There are no special tokens, which would shift the ids against the merges.

    Args:
        texts: documents of the train split.
        vocab: number of ids, one of them the end of the document, which this tokenizer of the library lacks.
        where: name of the corpus, for the error.

    Raises:
        InputError: the texts have too few repeated pairs for that many merges.
    """
    tokenizer = LibraryTokenizer(models.BPE())
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


def merge_ranks(tokenizer: LibraryTokenizer) -> dict[bytes, int]:
    """The vocabulary of a byte-level tokenizer as tiktoken ranks: bytes of a token -> its id, in the order of ids."""
    decode = _stand_ins()
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return {bytes(decode[character] for character in token): rank for token, rank in vocabulary}


def _stand_ins() -> dict[str, int]:
    """Character -> byte of the byte-level alphabet: characters 256, 257, ... stand for bytes that are not printable."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + k): value for k, value in enumerate(others)}


def tiktoken_folder(cache: Path) -> Path:
    """The folder of fetched vocabulary files, which have tiktoken's own names."""
    return cache / "tiktoken"


def published_tokenizer(name: str, vocab: int, cache: Path) -> Tokenizer:
    """A published vocabulary of tiktoken, cut to `vocab` ids; InputError if its file is out of reach.

    The file is the one that `isogap fetch tokenizer` has put into the cache, unless TIKTOKEN_CACHE_DIR or its older
    name is set to another folder; where it is absent, tiktoken downloads it. tiktoken checks its hash.
    """
    try:
        with _files_in(tiktoken_folder(cache)):
            encoding = tiktoken.get_encoding(name)
    except Exception as error:  # The download may raise anything: no network, no proxy, a refused or damaged file.
        remedy = (
            f"`isogap fetch tokenizer {FETCHED_AS[name]}`" if name in FETCHED_AS else "a network: no package has it"
        )
        expected = f"a vocabulary whose file is here; get it by {remedy} ({type(error).__name__} on download)"
        raise InputError("data", "tokenizer", name, expected) from error
    # The two attributes that tiktoken's own documentation names for building one encoding from another.
    return ranks_tokenizer(encoding._mergeable_ranks, encoding._pat_str, vocab)


@contextmanager
def _files_in(folder: Path) -> Iterator[None]:
    """Make tiktoken look for its files in this folder, unless the user has chosen another."""
    if any(name in os.environ for name in FOLDER_VARIABLES):
        yield
        return
    # tiktoken reads its folder from the environment only.
    os.environ[FOLDER_VARIABLES[0]] = str(folder)
    try:
        yield
    finally:
        del os.environ[FOLDER_VARIABLES[0]]


def write_ranks(ranks: dict[bytes, int]) -> str:
    """A merge list in tiktoken's text format: one line per token, with base64 and rank."""
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())


def read_ranks(text: str) -> dict[bytes, int]:
    """The inverse of `write_ranks`."""
    pairs = (line.split() for line in text.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _hash(ranks: dict[bytes, int], pattern: str) -> str:
    return digest(pattern, write_ranks(ranks))


def _token_bytes(ranks: dict[bytes, int], vocab: int) -> UInt16[np.ndarray, "vocab"]:
    lengths = np.zeros(vocab, dtype=np.uint16)
    for token, rank in ranks.items():
        lengths[rank] = len(token)
    return lengths
