"""Windows of a token stream: how they are cut, and in which order a run visits them.

The order is a pure function of (seed, position). There is no state: a run reads the same windows in a pack, alone or
resumed.
"""

import numpy as np
from jaxtyping import Int, Int32
from numpy.lib.stride_tricks import sliding_window_view

from harness.data.permutation import mix, permute
from sweeps.errors import InputError

# The golden ratio less 1: how far from each other turns through the pool begin, as a share of it.
TURN_SHIFT = (5**0.5 - 1) / 2


def window_count(unique_tokens: int, context: int) -> int:
    """Number of windows W = (U - 1) // context in the first U tokens of a stream; InputError if there is none.

    Window i covers the tokens i * context .. i * context + context inclusive: context inputs, and the same tokens
    shifted by one as targets. Every token but the first is a target exactly once.
    """
    windows = (unique_tokens - 1) // context
    if windows < 1:
        raise InputError("data", "unique_tokens", unique_tokens, f"at least context + 1 = {context + 1} tokens")
    return windows


def first_window(draw: int, windows: int, pool: int) -> int:
    """Where in a pool of windows the run of windows of a draw begins; it goes on cyclically.

    Draws 0, 1, ... lie one behind the other as long as they fit into the pool without overlap. The next ones do so too,
    from another place in the pool: multiples of the golden ratio, modulo 1, spread evenly however many there are.

    Args:
        windows: how many windows a draw has, at most `pool`.
    """
    turn, place = divmod(draw, pool // windows)
    return (place * windows + int(turn * TURN_SHIFT % 1.0 * pool)) % pool


def shared_windows(draws: int, windows: int, pool: int) -> float:
    """The share of the windows of draws 0 .. draws - 1 that another of them reads too, from 0 to 1."""
    starts = np.asarray([first_window(draw, windows, pool) for draw in range(draws)])
    # How many draws read each window of the pool: a sum over where they begin and end, with those that wrap around.
    changes = np.zeros(pool + 1, np.int64)
    ends = starts + windows
    np.add.at(changes, starts, 1)
    np.add.at(changes, np.minimum(ends, pool), -1)
    changes[0] += np.count_nonzero(ends > pool)
    np.add.at(changes, ends[ends > pool] - pool, -1)
    readers = np.cumsum(changes[:pool])
    return float(readers[readers > 1].sum() / (draws * windows))


def cut_windows(
    tokens: Int[np.ndarray, "tokens"], context: int, index: Int[np.ndarray, "*shape"]
) -> Int32[np.ndarray, "*shape context+1"]:
    """The windows with the given indices, inputs and targets together."""
    # Taking rows from a view of all windows is four times faster than indexing token by token.
    windows = sliding_window_view(np.asarray(tokens), context + 1)[::context]
    return windows[index].astype(np.int32)


def window_index(position: Int[np.ndarray, "*shape"], windows: int, seed: int) -> Int[np.ndarray, "*shape"]:
    """Which window stands at a position of a run's endless stream of W = `windows` windows.

    Positions k * W .. (k + 1) * W - 1 are epoch k: they visit every window exactly once, in an order that is drawn
    anew for each (seed, epoch).

    Args:
        position: step * batch + row, non-negative.
        seed: the run's data seed.
    """
    flat = np.asarray(position, dtype=np.int64).ravel()
    epoch, place = np.divmod(flat, windows)
    return permute(place, windows, _keys(seed, epoch)).reshape(np.shape(position))


def window_visits(
    window: Int[np.ndarray, "points"], positions: int, windows: int, seed: int
) -> tuple[Int[np.ndarray, "points"], Int[np.ndarray, "points"]]:
    """How often each window occurs at the first `positions` positions of a run's stream; and its last place (-1: none).

    Args:
        window: indices below W = `windows`.
        positions: step * batch, the windows consumed so far.
        seed: the run's data seed.
    """
    epoch = positions // windows
    keys = _keys(seed, np.asarray([epoch, max(epoch - 1, 0)]))
    places = [permute(window, windows, key, inverse=True) for key in keys]
    again = epoch * windows + places[0] < positions
    before = (epoch - 1) * windows + places[1] if epoch else np.full(np.shape(window), -1)
    return epoch + again, np.where(again, epoch * windows + places[0], before)


def _keys(seed: int, epoch: Int[np.ndarray, "points"]) -> Int[np.ndarray, "points"]:
    seed_key = mix(np.asarray([seed & (2**64 - 1)], dtype=np.uint64))
    return mix(seed_key + epoch.astype(np.uint64)).astype(np.int64)
