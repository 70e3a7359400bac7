"""What a spec's values may be: numbers, token counts such as `20 N`, learning-rate rules, mixtures of corpora, and the
names of tokenizers."""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainValidator, model_validator

TOKEN_SPELLINGS = "a number, or a multiple of N or of a power of N: `20 N`, `0.1 N^0.74`"
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?"
_MULTIPLE = re.compile(rf"({_NUMBER})?\s*\*?\s*N\s*(?:(?:\^|\*\*)\s*({_NUMBER}))?")
# 256 bytes and the end of the document; with fewer ids some texts could not be encoded.
SMALLEST_VOCAB = 257
# tiktoken's names with their numbers of ids. Each is the largest id of the published file + 2: one because ids start at
# 0, and one for the end of the document, which is the last id (p50k_base leaves id 50256 free).
PUBLISHED_VOCAB = {
    "gpt2": 50_257,
    "r50k_base": 50_257,
    "p50k_base": 50_282,
    "p50k_edit": 50_282,
    "cl100k_base": 100_257,
    "o200k_base": 199_999,
    "o200k_harmony": 199_999,
}
# Ids of the tokenizer of token worlds: one character for each of the 20,992 ideographs, and the end of the document.
MOST_SYMBOLS = 20_993
TOKENIZER_SPELLINGS = (
    f"bytes, bpe:V or bpe:V@CORPUS with V from 257 to 1,000,000, NAME or NAME[:V] with NAME one of "
    f"{', '.join(PUBLISHED_VOCAB)} and V from 257 to all it has; for token worlds symbols:V with V from 2 to 20,993"
)


def _plain_number(value: object) -> object:
    """Turn text such as 1e6, which YAML 1.1 does not read as a number, into a number; refuse true and false."""
    if isinstance(value, bool):
        raise ValueError("a number, not a truth value")
    if isinstance(value, str) and re.fullmatch(rf"[+-]?{_NUMBER}", value.strip()):
        return float(value)
    return value


def _whole_number(value: object) -> object:
    number = _plain_number(value)
    if isinstance(number, float) and math.isfinite(number) and number == int(number):
        return int(number)
    return number


Real = Annotated[float, BeforeValidator(_plain_number), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_whole_number), Field(strict=True)]


@dataclass(frozen=True)
class TokenRule:
    """coefficient x N^exponent tokens; a plain number has the exponent 0."""

    coefficient: float
    exponent: float

    def tokens(self, n: float) -> float:
        """The number of tokens for N parameters."""
        return self.coefficient * n**self.exponent


def parse_tokens(value: object) -> object:
    """A number above 0 and up to 1e18, or text such as `20 N` or `0.1 N^0.74`, as a TokenRule; else ValueError."""
    if isinstance(value, TokenRule):
        return value
    number, exponent = _plain_number(value), 0.0
    if isinstance(value, str) and (match := _MULTIPLE.fullmatch(value.strip())):
        number, exponent = float(match[1] or 1), float(match[2] or 1)
    if not isinstance(number, (int, float)) or not 0 < number <= 1e18 or exponent > 10:
        raise ValueError(TOKEN_SPELLINGS)
    return TokenRule(float(number), exponent)


Tokens = Annotated[TokenRule, BeforeValidator(parse_tokens)]


def parse_counted(value: object) -> tuple[tuple[int, int], ...] | None:
    """The ranges of ids, [first, last] each, that a list names, in rising order and joined where they touch.

    None, for `all`. ValueError for anything else.
    """
    if value is None or value == "all":
        return None
    pairs = [_range_of(pair) for pair in value] if isinstance(value, (list, tuple)) else []
    if not pairs or None in pairs:
        raise ValueError("all, or a list of ranges of ids, first and last: [[0, 9], [32, 32]]")
    joined: list[tuple[int, int]] = []
    for first, last in sorted(filter(None, pairs)):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return tuple(joined)


def _range_of(pair: object) -> tuple[int, int] | None:
    ends = [_whole_number(end) for end in pair] if isinstance(pair, (list, tuple)) else []
    match ends:
        case [int(first), int(last)] if 0 <= first <= last:
            return first, last
    return None


Counted = Annotated[tuple[tuple[int, int], ...] | None, PlainValidator(parse_counted)]


# What can be measured of a finished run's model, the names of the files in `harness/measures`.
MEASURES = ("layers", "pass_rates")
# The shares in the domain `mixed`, a common pre-training mixture: half web text, a quarter each of code and papers.
MIXED = {"web": 0.5, "code": 0.25, "science": 0.25}
_SHARE = re.compile(rf"({_NUMBER}) (\S.*)")


def parse_domain(domain: str) -> tuple[tuple[float, str], ...]:
    """(Share of the tokens, corpus) for each part of a domain; a plain corpus is one part with the share 1.

    ValueError if a mixture names a corpus twice, or has a share of 0.
    """
    if domain == "mixed":
        return tuple((share, name) for name, share in MIXED.items())
    parts = [_SHARE.fullmatch(part) for part in domain.split(" + ")]
    if not all(parts):
        return ((1.0, domain),)
    shares = [float(part[1]) for part in parts if part]
    names = [part[2] for part in parts if part]
    total = sum(shares)
    if len(set(names)) < len(names) or not total > 0 or not min(shares) > 0:
        raise ValueError("a mixture of different corpora with shares above 0: 0.5 web + 0.5 code")
    return tuple((share / total, name) for share, name in zip(shares, names, strict=True))


def mixture_name(shares: object) -> object:
    """Turn a mapping of corpora to shares into the mixture's name, `0.25 code + 0.75 web`; keep any other value.

    ValueError if a share is not a positive number.
    """
    if isinstance(shares, str) and shares != "mixed" and len(parts := parse_domain(shares)) > 1:
        shares = {name: share for share, name in parts}
    if not isinstance(shares, dict):
        return shares
    numbers = {str(name): _plain_number(share) for name, share in shares.items()}
    usable = {name: n for name, n in numbers.items() if isinstance(n, (int, float)) and 0 < n < math.inf}
    if not usable or len(usable) < len(numbers):
        raise ValueError("a corpus, or a mapping of corpora to their shares: {web: 0.5, code: 0.5}")
    total = sum(usable.values())
    return " + ".join(f"{share / total:.6g} {name}" for name, share in sorted(usable.items()))


class PowerOf(BaseModel, frozen=True, extra="forbid"):
    """The factor (quantity / at)^p of a learning rate: `at` is in the quantity's unit, p is the change per e-fold."""

    at: Annotated[Real, Field(gt=0)]
    p: Annotated[Real, Field(ge=-4, le=4)]


# The quantities of a run that a rule `power` may read.
RATE_QUANTITIES = ("params", "width", "batch_tokens", "tokens")


class RateRule(BaseModel, frozen=True, extra="forbid"):
    """The peak learning rate as a function of a run's sizes.

    Rule `params`: c (N / 1e6)^-p. GPT-3's table 2.1 (Brown et al. 2020) goes from 6e-4 at 1.25e8 parameters to 6e-5 at
    1.75e11, which is p = 0.32. Rule `width`: c / sqrt(width), the width factor in equation 3 of Vaswani et al. 2017.

    Rule `power`: c times (quantity / at)^p for each of the given quantities, so that c is the rate of a run that has
    them all at their `at`. The Delphi runs (marin-community/marin, pull request 3292, 2026) used
    c sqrt(B / B0) (D / D0)^-0.3, with batch_tokens for B and tokens for D; the later recipe in issue 6044 there is
    proportional to B^0.5 D^-0.395 width^-0.15.

    Attributes:
        c: the rate's factor, per step.
        p: the exponent of rule `params`.
        params: N by the cell's `params_kind`, as a factor of rule `power`.
        width: the width of the model, likewise.
        batch_tokens: B, tokens of a step, likewise.
        tokens: D, tokens of the whole run, likewise.
    """

    rule: Literal["params", "width", "power"]
    c: Annotated[Real, Field(gt=0)]
    p: Annotated[Real, Field(ge=0, le=2)] | None = None
    params: PowerOf | None = None
    width: PowerOf | None = None
    batch_tokens: PowerOf | None = None
    tokens: PowerOf | None = None

    @model_validator(mode="after")
    def _complete(self):
        if (self.p is None) != (self.rule != "params"):
            raise ValueError("p with rule `params`, and only with it")
        if bool(self._powers) != (self.rule == "power"):
            raise ValueError(f"one or more of {', '.join(RATE_QUANTITIES)} with rule `power`, and only with it")
        return self

    @property
    def _powers(self) -> dict[str, PowerOf]:
        powers = {name: getattr(self, name) for name in RATE_QUANTITIES}
        return {name: power for name, power in powers.items() if power is not None}

    def rate(self, *, params: float, width: int, batch_tokens: int, tokens: int) -> float:
        """The peak learning rate, rounded to six digits: a run's id must not depend on the last bit of a power.

        Args:
            params: N, number of parameters.
            width: width of the model.
            batch_tokens: B, tokens of a step.
            tokens: D, tokens of the run.
        """
        value = self.c
        if self.rule == "width":
            value /= math.sqrt(width)
        elif self.rule == "params":
            value *= (params / 1e6) ** -(self.p or 0.0)
        else:
            run = {"params": params, "width": width, "batch_tokens": batch_tokens, "tokens": tokens}
            value *= math.prod((run[name] / power.at) ** power.p for name, power in self._powers.items())
        return float(f"{value:.6g}")


def vocab_of(tokenizer: str) -> int:
    """The number of ids of a tokenizer, end-of-document token included; ValueError for an unknown spelling."""
    smallest = SMALLEST_VOCAB
    if tokenizer == "bytes":
        return SMALLEST_VOCAB
    if match := re.fullmatch(r"symbols:(\d{1,5})", tokenizer):
        size, smallest, largest = int(match[1]), 2, MOST_SYMBOLS
    elif match := re.fullmatch(r"bpe:(\d{1,7})(?:@.+)?", tokenizer):
        size, largest = int(match[1]), 1_000_000
    elif (match := re.fullmatch(r"(\w+?)(?:\[:(\d{1,7})\])?", tokenizer)) and match[1] in PUBLISHED_VOCAB:
        largest = PUBLISHED_VOCAB[match[1]]
        size = int(match[2] or largest)
    else:
        raise ValueError(TOKENIZER_SPELLINGS)
    if not smallest <= size <= largest:
        raise ValueError(TOKENIZER_SPELLINGS)
    return size
