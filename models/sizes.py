"""From a target size to a shape: which width, depth and heads give a model of N parameters.

The rule for the aspect ratio a = width / depth interpolates between a = 16 at 1e4 non-embedding parameters and GPT-3's
table 2.1 (Brown et al. 2020): a = 64 at 8.5e7 (its Small). It is near the table again at 1.2e9 (the rule gives
96, GPT-3 XL has 85). With N = 12 width^2 depth, depth grows slowly, as N^0.28. In Kaplan et al. 2020 (figure 5) the
loss varies by a few per cent for aspect ratios from about 10 to 200. So the size takes precedence over the ratio.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from models.config import Activation, BaseSize, ModelConfig, TrainingObjective, make_config
from models.count import Which, count

# The largest accepted relative error of a model's size.
TOLERANCE = 0.10
LARGEST = 1e13
# The smallest aspect ratio of a shape, unless it has the least depth.
SMALLEST_ASPECT = 2.0
# Searches, tried in order until one finds a shape within 10%. Each is a triple: the widths to try; the ratios
# feed-forward width / width to try (None: the default ratio); and the largest factor by which the aspect ratio may
# differ from `aspect_ratio`.
_FRIENDLY = (*range(8, 256, 8), *range(256, 1 << 16, 64))
_EVEN = tuple(range(2, 512, 2))
_STRETCHED = (2.0, 2.5, 3.0, 3.5, 4.5, 5.0, 6.0, 7.0, 8.0)
_SEARCHES: tuple[tuple[tuple[int, ...], tuple[float | None, ...], float], ...] = (
    (_FRIENDLY, (None,), 2.0),
    (_EVEN, (None,), 2.0),
    (_EVEN, _STRETCHED, 2.0),
    (_FRIENDLY, (None,), 4.0),
    (_EVEN, (None, *_STRETCHED), 4.0),
)


class SizeError(ValueError):
    """No shape comes within 10% of the target.

    Attributes:
        closest: the shape with the nearest size.
        error: the relative error of its size.
    """

    def __init__(self, message: str, closest: ModelConfig, error: float):
        super().__init__(message)
        self.closest, self.error = closest, error


def aspect_ratio(nonembedding: float) -> float:
    """Width over depth for that many active non-embedding parameters: 16 (N / 1e4)^0.153, kept within 16..100."""
    return min(100.0, 16.0 * max(1.0, nonembedding / 1e4) ** 0.153)


def choose_heads(width: int) -> int:
    """The number of heads whose width is even and nearest to 16 (below width 128), 32 (below 512) or 64."""
    wanted = 16 if width < 128 else 32 if width < 512 else 64
    divisors = [heads for heads in range(1, width // 2 + 1) if width % (2 * heads) == 0]
    return min(divisors, key=lambda heads: abs(math.log(width / heads / wanted)))


class _Candidate(NamedTuple):
    """A shape, the relative error of its size, and a badness that adds up the errors of size and aspect ratio."""

    config: ModelConfig
    error: float
    badness: float


@functools.lru_cache(maxsize=1 << 14)
def shape_for(
    target: int,
    which: Which,
    architecture: str,
    vocab: int,
    context: int,
    *,
    aspect: float | None = None,
    tied: bool = True,
    activation: Activation = "gelu",
    qk_norm: bool = False,
    experts: int | None = None,
    moe_every: int | None = None,
    base: BaseSize | None = None,
    objective: TrainingObjective | None = None,
) -> ModelConfig:
    """The shape of an architecture that is nearest to `target` parameters at a sensible aspect ratio.

    Widths are multiples of 8 (of 64 from 256 on) with the default feed-forward width and an aspect ratio within a
    factor 2 of the rule. Only if none of these comes within 10% does the search try all even widths, then
    feed-forwards of 2 to 8 times the width, and then aspect ratios within a factor 4.

    Args:
        target: parameters, 1e3 to 1e13.
        which: which parameters are counted: `total`, `nonembedding` or `active`.
        aspect: width over depth; by default `aspect_ratio` of the model's own active non-embedding parameters.
        experts, moe_every: routed experts, and one mixture in how many layers; by default the architecture's own.
        base: the base size of CompleteP; by default the standard parametrisation.
        objective: what is predicted; by default every next token.

    Raises:
        SizeError: no shape is within 10%, for instance because the vocabulary alone is larger; it names the closest.
        ValueError: an unknown architecture, or arguments out of range.
    """
    if not 1 <= target <= LARGEST or (aspect is not None and not 1 <= aspect <= 1000):
        raise ValueError(f"target {target} must lie in 1..{LARGEST:.0e} and aspect {aspect} in 1..1000")
    family = functools.partial(make_config, architecture, vocab=vocab, context=context, activation=activation)
    family = functools.partial(family, tied=tied, qk_norm=qk_norm, experts=experts, moe_every=moe_every)
    family = functools.partial(family, base=base, objective=objective)
    # Arguments that are wrong at every width raise their error here.
    closest = _Candidate(family(width=32, depth=1, heads=1), math.inf, math.inf)
    for widths, ratios, spread in _SEARCHES:
        each = (_candidates(family, target, which, aspect, widths, ratio, spread) for ratio in ratios)
        candidates = list(itertools.chain.from_iterable(each))
        within = [candidate for candidate in candidates if candidate.error < TOLERANCE]
        if within:
            return min(within, key=lambda candidate: (candidate.badness, candidate.config.width)).config
        closest = min([closest, *candidates], key=lambda candidate: candidate.error)
    shape, error, _ = closest
    raise SizeError(
        f"no {architecture} model with a vocabulary of {vocab:,} has {target:,} {which} parameters within 10%: the "
        f"closest, width {shape.width} and depth {shape.depth}, has {count(shape).of(which):,} ({error:.0%} off)",
        shape,
        error,
    )


def _candidates(
    family,
    target: int,
    which: Which,
    aspect: float | None,
    widths: tuple[int, ...],
    ratio: float | None,
    spread: float,
) -> Iterator[_Candidate]:
    """The candidates: for each width the two depths whose sizes enclose the target, if the aspect ratio allows them.

    Parameters grow linearly with depth (in whole periods, when only every second feed-forward is a mixture), so two
    counts give the depth. The least depth is always a candidate.
    """
    for width in widths:
        ffn_width = None if ratio is None else max(4, 4 * round(ratio * width / 4))
        try:
            first = family(width=width, depth=1, heads=choose_heads(width), ffn_width=ffn_width)
        except ValueError:
            continue
        period = first.moe.every if first.moe else 1
        least = dataclasses.replace(first, depth=period)
        base = count(least).of(which)
        slope = (count(dataclasses.replace(first, depth=2 * period)).of(which) - base) / period
        depth = period + math.floor((target - base) / slope)
        for deep in sorted({min(max(depth + more, period), 10_000) for more in (0, 1)}):
            config = dataclasses.replace(first, depth=deep)
            counts, actual = count(config), width / deep
            wanted = aspect or aspect_ratio(counts.active_nonembedding)
            if deep == period or max(SMALLEST_ASPECT, wanted / spread) <= actual <= wanted * spread:
                error = abs(counts.of(which) / target - 1)
                # Twice the aspect ratio costs as much as an error of 4%.
                yield _Candidate(config, error, (error / 0.04) ** 2 + math.log2(actual / wanted) ** 2)
        if base > 2 * target:
            return
