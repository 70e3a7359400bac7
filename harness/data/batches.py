"""Batches as a pure function of (config, step): no iterator, no state, the same packed, solo or resumed."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int32
from numpy.lib.stride_tricks import sliding_window_view

from harness.data.permutation import mix, permute
from sweeps.errors import InputError


def window_count(unique_tokens: int, context: int) -> int:
    """Number of windows W = (U - 1) // context in the first U tokens of a stream.

    Window i covers the tokens i * context .. i * context + context inclusive: context inputs, and the same tokens
    shifted by one as targets. Every token but the first is a target exactly once.

    Raises:
        InputError: U is too small for one window.
    """
    windows = (unique_tokens - 1) // context
    if windows < 1:
        raise InputError("data", "unique_tokens", unique_tokens, f"at least context + 1 = {context + 1} tokens")
    return windows


def cut_windows(
    tokens: Int[np.ndarray, "tokens"], context: int, index: Int[np.ndarray, "*shape"]
) -> Int32[np.ndarray, "*shape context+1"]:
    """The windows with the given indices, inputs and targets together."""
    # A view of all windows, then whole rows: four times faster than indexing token by token.
    windows = sliding_window_view(np.asarray(tokens), context + 1)[::context]
    return windows[index].astype(np.int32)


def window_index(position: Int[np.ndarray, "*shape"], windows: int, seed: int) -> Int[np.ndarray, "*shape"]:
    """Which window stands at a position of a run's endless stream of windows.

    Positions k * W .. (k + 1) * W - 1 are epoch k: they visit every window exactly once, in an order that is drawn
    anew for each (seed, epoch).

    Args:
        position: step * batch + row, non-negative.
        windows: W, the number of windows.
        seed: the run's data seed.
    """
    flat = np.asarray(position, dtype=np.int64).ravel()
    epoch, place = np.divmod(flat, windows)
    seed_key = mix(np.asarray([seed & (2**64 - 1)], dtype=np.uint64))
    key = mix(seed_key + epoch.astype(np.uint64)).astype(np.int64)
    return permute(place, windows, key).reshape(np.shape(position))


def batches(
    tokens: Int[np.ndarray, "tokens"],
    context: int,
    unique_tokens: int,
    seed: int,
    steps: Sequence[int] | Int[np.ndarray, "steps"],
    batch: int,
) -> Int32[np.ndarray, "steps batch context+1"]:
    """The batches of the given steps.

    Args:
        tokens: the train stream; only its first `unique_tokens` are used.
        context: tokens of input per window.
        unique_tokens: U.
        seed: the run's data seed; it fixes the order of the windows in every epoch.
        steps: step numbers from 0, any of them in any order; `range(a, b)` as a rule.
        batch: windows per step.

    Raises:
        InputError: the stream is shorter than U, or U shorter than one window.
    """
    if unique_tokens > len(tokens):
        raise InputError("data", "unique_tokens", unique_tokens, f"at most {len(tokens)}, the train split's tokens")
    windows = window_count(unique_tokens, context)
    position = np.asarray(steps, dtype=np.int64)[:, None] * batch + np.arange(batch)
    return cut_windows(tokens, context, window_index(position, windows, seed))
