"""Tokenizers by name: bytes, BPE trained on a corpus of ours, and published tiktoken vocabularies, whole or truncated.

Every vocabulary counts the end-of-document token, which is always its last id.
"""

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import tiktoken
from jaxtyping import Int, UInt16, UInt32

from sweeps.errors import InputError

# Splits text into words before merging: contractions, letters with one leading mark or space, up to three digits,
# punctuation, line ends, blanks. No possessive quantifiers, so that the Rust engines of `tokenizers` (which trains)
# and of `tiktoken` (which encodes, 6 times faster) agree on every text.
WORDS = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
# 256 bytes and the end of the document; below that a vocabulary cannot carry every text.
SMALLEST = 257
SPELLINGS = "bytes, bpe:V, bpe:V@CORPUS, tiktoken:NAME or tiktoken:NAME:V"


@dataclass(frozen=True)
class TokenizerSpec:
    """A tokenizer's name taken apart.

    Attributes:
        kind: "bytes", "bpe" or "tiktoken".
        vocab: size of the vocabulary with the end-of-document token; None for a whole tiktoken vocabulary.
        source: the corpus whose train split trains a BPE (None: the corpus that is tokenized), or the tiktoken name.
    """

    kind: str
    vocab: int | None
    source: str | None


@dataclass(frozen=True)
class Tokenizer:
    """Text to ids and back.

    Attributes:
        vocab: number of ids; vocab - 1 is the end-of-document token, which `encode` never returns.
        hash: of the byte strings of all ids and of the word pattern, 32 hexadecimal digits.
        token_bytes: bytes of text per id; 0 for the end of the document.
        encode: ids of a text.
        decode: the text of ids without end-of-document tokens; exact for whole texts.
    """

    vocab: int
    hash: str
    token_bytes: UInt16[np.ndarray, "vocab"]
    encode: Callable[[str], UInt32[np.ndarray, "tokens"]]
    decode: Callable[[Int[np.ndarray, "tokens"]], str]


def parse_tokenizer(name: str) -> TokenizerSpec:
    """The parts of a tokenizer's name.

    Raises:
        InputError: not one of the known spellings, or a vocabulary below 257.
    """
    if name == "bytes":
        return TokenizerSpec("bytes", SMALLEST, None)
    kind, _, rest = name.partition(":")
    match = re.fullmatch(r"(\d+)(?:@(.+))?", rest) if kind == "bpe" else re.fullmatch(r"([\w-]+)(?::(\d+))?", rest)
    if kind not in ("bpe", "tiktoken") or match is None:
        raise InputError("data", "tokenizer", name, SPELLINGS)
    size, source = (match[1], match[2]) if kind == "bpe" else (match[2], match[1])
    if size is not None and int(size) < SMALLEST:
        raise InputError("data", "tokenizer", name, f"a vocabulary of at least {SMALLEST}: 256 bytes, end of document")
    return TokenizerSpec(kind, None if size is None else int(size), source)


def bytes_tokenizer() -> Tokenizer:
    """UTF-8 bytes as ids 0..255, and 256 for the end of the document."""

    def encode(text: str) -> UInt32[np.ndarray, "tokens"]:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.uint32)

    def decode(ids: Int[np.ndarray, "tokens"]) -> str:
        return bytes(ids.tolist()).decode(errors="replace")

    ranks = {bytes([value]): value for value in range(256)}
    return Tokenizer(SMALLEST, _hash(ranks, ""), _token_bytes(ranks, SMALLEST), encode, decode)


def ranks_tokenizer(ranks: dict[bytes, int], pattern: str, vocab: int | None = None) -> Tokenizer:
    """The byte-pair tokenizer of a merge list.

    Ranks in the order of merging make vocabularies nest: a list cut at some rank is exactly the tokenizer that
    training would have given had it stopped there, since bytes come first and a merge uses only earlier ones.

    Args:
        ranks: token to rank; the 256 single bytes have the ranks 0..255.
        pattern: regular expression that cuts a text into words, within which merges happen.
        vocab: keep the ranks below vocab - 1, and let vocab - 1 be the end of the document; None keeps all.
    """
    vocab = max(ranks.values()) + 2 if vocab is None else vocab
    kept = {token: rank for token, rank in ranks.items() if rank < vocab - 1}
    encoding = tiktoken.Encoding("isogap", pat_str=pattern, mergeable_ranks=kept, special_tokens={})

    def encode(text: str) -> UInt32[np.ndarray, "tokens"]:
        return encoding.encode_to_numpy(text, disallowed_special=())

    def decode(ids: Int[np.ndarray, "tokens"]) -> str:
        return encoding.decode(ids.tolist())

    return Tokenizer(vocab, _hash(kept, pattern), _token_bytes(kept, vocab), encode, decode)


def tiktoken_tokenizer(name: str, vocab: int | None) -> Tokenizer:
    """A published tiktoken vocabulary, whole or truncated to `vocab` ids.

    Raises:
        InputError: no such name, its file cannot be had, or it has fewer than `vocab` ids.
    """
    known = tiktoken.list_encoding_names()
    if name not in known:
        raise InputError("data", "tokenizer", f"tiktoken:{name}", f"one of {', '.join(known)}")
    try:
        encoding = tiktoken.get_encoding(name)
    except Exception as error:  # whatever the download raises: no network, no proxy, a refused or damaged file
        raise InputError(
            "data",
            "tokenizer",
            f"tiktoken:{name}",
            "a vocabulary file that can be downloaded, or that lies in the folder named by TIKTOKEN_CACHE_DIR "
            f"({type(error).__name__} on download; the package litellm carries cl100k_base, o200k_base and p50k_base "
            "in litellm/litellm_core_utils/tokenizers)",
        ) from error
    # The two attributes that tiktoken's own documentation names for building one encoding from another.
    ranks, pattern = encoding._mergeable_ranks, encoding._pat_str
    if vocab is not None and vocab > max(ranks.values()) + 2:
        raise InputError("data", "tokenizer", f"tiktoken:{name}:{vocab}", f"at most {max(ranks.values()) + 2} ids")
    return ranks_tokenizer(ranks, pattern, vocab)


def write_ranks(ranks: dict[bytes, int]) -> str:
    """A merge list in tiktoken's text format: one line a token, base64 and rank."""
    return "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())


def read_ranks(text: str) -> dict[bytes, int]:
    """The inverse of `write_ranks`."""
    pairs = (line.split() for line in text.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _hash(ranks: dict[bytes, int], pattern: str) -> str:
    return blake2b(f"{pattern}\n{write_ranks(ranks)}".encode(), digest_size=16).hexdigest()


def _token_bytes(ranks: dict[bytes, int], vocab: int) -> UInt16[np.ndarray, "vocab"]:
    lengths = np.zeros(vocab, dtype=np.uint16)
    for token, rank in ranks.items():
        lengths[rank] = len(token)
    return lengths
