import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.windows import (
    cut_windows,
    first_window,
    shared_windows,
    window_count,
    window_index,
    window_visits,
)
from sweeps.errors import InputError


@given(st.integers(1, 200), st.integers(0, 2**32), st.integers(1, 4))
def test_each_epoch_visits_every_window_exactly_once(windows, seed, epochs):
    index = window_index(np.arange(epochs * windows), windows, seed).reshape(epochs, windows)
    assert (np.sort(index, axis=1) == np.arange(windows)).all()


def test_orders_differ_between_epochs_and_seeds():
    orders = {
        tuple(window_index(np.arange(50) + 50 * epoch, 50, seed)) for epoch in range(10) for seed in (0, 1, 2, 2**31)
    }
    assert len(orders) == 40


@given(st.integers(1, 40), st.integers(2, 2000))
def test_windows_use_every_target_of_the_prefix_at_most_once(context, unique_tokens):
    if unique_tokens <= context:
        with pytest.raises(InputError, match="unique_tokens"):
            window_count(unique_tokens, context)
        return
    windows = window_count(unique_tokens, context)
    tokens = np.arange(unique_tokens + 100, dtype=np.uint16)
    cut = cut_windows(tokens, context, np.arange(windows))
    assert cut.dtype == np.int32
    assert (cut == cut[:, :1] + np.arange(context + 1)).all()  # contiguous
    assert sorted(cut[:, 1:].ravel()) == list(range(1, windows * context + 1))
    assert unique_tokens - windows * context <= context  # what is left over is shorter than a window


@settings(max_examples=50)
@given(st.integers(1, 30), st.integers(0, 100), st.integers(0, 2**32))
def test_visits_are_those_of_the_stream_read_so_far(windows, positions, seed):
    read = window_index(np.arange(positions), windows, seed)
    counts, last = window_visits(np.arange(windows), positions, windows, seed)
    for window in range(windows):
        places = np.flatnonzero(read == window)
        assert counts[window] == len(places)
        assert last[window] == (places[-1] if len(places) else -1)


@pytest.mark.parametrize(("windows", "pool"), [(10, 100), (7, 100), (33, 100), (60, 100), (100, 100), (1, 5)])
def test_draws_are_disjoint_as_long_as_the_pool_reaches(windows, pool):
    read = [(first_window(draw, windows, pool) + np.arange(windows)) % pool for draw in range(40)]
    fitting = np.concatenate(read[: pool // windows])
    assert len(set(fitting)) == len(fitting) and read[0].tolist() == list(range(windows))
    # Later ones are no copies of earlier ones.
    assert len({part[0] for part in read[:20]}) == min(20, pool)
    for draws in (1, pool // windows, 40):
        readers = np.bincount(np.concatenate(read[:draws]), minlength=pool)
        shared = sum(readers[part[i]] > 1 for part in read[:draws] for i in range(windows)) / (draws * windows)
        assert shared_windows(draws, windows, pool) == pytest.approx(shared)
