import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.batches import batches, window_count, window_index
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
    cut = batches(tokens, context, unique_tokens, 0, range(windows), 1).reshape(windows, context + 1)
    assert (cut == cut[:, :1] + np.arange(context + 1)).all()  # contiguous
    assert sorted(cut[:, 1:].ravel()) == list(range(1, windows * context + 1))
    assert unique_tokens - windows * context <= context  # what is left over is shorter than a window


@settings(max_examples=30)
@given(st.integers(0, 1000), st.lists(st.integers(0, 300), min_size=1, max_size=10), st.integers(1, 7))
def test_a_batch_depends_on_its_step_alone(seed, steps, batch):
    tokens = np.random.default_rng(0).integers(0, 257, 5000).astype(np.uint16)
    together = batches(tokens, 16, 3000, seed, steps, batch)
    assert together.dtype == np.int32 and together.shape == (len(steps), batch, 17)
    for row, step in zip(together, steps, strict=True):
        assert (row == batches(tokens, 16, 3000, seed, [step], batch)[0]).all()


def test_tokens_past_the_prefix_are_never_touched():
    tokens = np.concatenate([np.zeros(1000), np.ones(1000)]).astype(np.uint16)
    assert batches(tokens, 10, 1000, 3, range(500), 4).max() == 0


def test_more_unique_tokens_than_there_are_is_refused():
    with pytest.raises(InputError, match="unique_tokens: got 11, expected at most 10"):
        batches(np.zeros(10, dtype=np.uint16), 2, 11, 0, range(1), 1)
