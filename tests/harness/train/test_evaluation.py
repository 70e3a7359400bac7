"""Evaluations: several runs in one call are each what they are alone, and every window is in its place."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import Mesh

from harness.train.accelerators import Accelerator
from harness.train.evaluation import Layout, PackLosses, deal, evaluation_tokens, layout_of
from harness.train.optimizer import hyper_like
from harness.train.programs import Key, mesh_for, trace
from models.compute import Compute
from models.config import make_config
from models.count import flops
from models.transformer import token_losses
from sweeps.shape import Shape, run_bytes, state_bytes

SHAPE = Shape(make_config("dense", vocab=64, context=16, width=16, depth=1, heads=2), 2, False, "adamw", 600)
UNKNOWN = Accelerator(None, None)


@pytest.fixture
def accelerated(monkeypatch):
    """The CPU is taken for an accelerator."""
    monkeypatch.setattr("harness.train.evaluation.accelerator_of", lambda device: UNKNOWN)


@pytest.mark.usefixtures("accelerated", "hurried")
@pytest.mark.slow
def test_runs_evaluated_together_have_the_losses_of_their_models():
    mesh = mesh_for(4, 2)
    layout = layout_of(SHAPE, 4, mesh)
    assert (layout.devices, layout.slots, layout.units, layout.shared) == (2, 2, 2, False)
    traced = trace(Key(SHAPE, 4, Compute(), mesh), 1)
    initialise, evaluate = (traced[name].lower().compile() for name in ("initialise", "evaluate"))
    state = initialise(jax.tree.map(lambda leaf: np.arange(4, dtype=leaf.dtype), hyper_like(4)))
    draw = np.random.default_rng(0)
    windows = {
        slot: draw.integers(0, 64, (count, 17)).astype(np.int32) for slot, count in ((0, 600), (1, 130), (3, 200))
    }

    def losses_of(chosen: dict[int, np.ndarray]) -> PackLosses:
        calls, places = deal(layout, chosen)
        computed = [
            evaluate(state.params, state.biases, call.slots, call.tokens, np.int32(call.count)) for call in calls
        ]
        return PackLosses(computed, places, {slot: len(of_run) for slot, of_run in chosen.items()})

    together = losses_of(windows)
    for slot, of_run in windows.items():
        np.testing.assert_array_equal(together.of(slot), losses_of({slot: of_run}).of(slot))
        params, biases = jax.tree.map(lambda leaf, slot=slot: np.asarray(leaf)[slot], (state.params, state.biases))
        expected = token_losses(SHAPE.model, params, biases, jnp.asarray(of_run), training=False, compute=Compute())[0]
        np.testing.assert_allclose(together.of(slot), expected, rtol=1e-5)


@given(
    chunks=st.integers(1, 3), units=st.integers(1, 4), rows=st.integers(1, 5), devices=st.integers(1, 3),
    slots=st.integers(1, 3), shared=st.booleans(), data=st.data(),
)  # fmt: skip
def test_every_window_is_computed_for_its_run_on_a_device_that_has_it(
    chunks, units, rows, devices, slots, shared, data
):
    units = 1 if shared else units
    layout = Layout(chunks, units, rows, devices, slots, shared)
    most = chunks * units * rows * (devices if shared else 1)  # one call is enough for one run
    counts = data.draw(st.dictionaries(st.integers(0, devices * slots - 1), st.integers(1, most), min_size=1))
    windows = {slot: 100 * slot + 1000 * np.arange(count)[:, None] + [[7, 8]] for slot, count in counts.items()}
    calls, places = deal(layout, {slot: of_run.astype(np.int32) for slot, of_run in windows.items()})
    computed = []
    for call in calls:  # a window's loss is its first token and the slot for which it was computed
        whose = call.slots + (0 if shared else np.arange(devices * units) // units * slots)
        losses = (call.tokens[..., :1] + whose[:, :, None, None]).astype(np.float64)
        losses[call.count :] = np.nan
        computed.append(losses)
        assert not shared or len(np.unique(call.slots)) == 1
    of_devices = [0] * devices
    for slot, count in counts.items():
        of_devices[slot // slots] += -(-count // rows)
    assert len(calls) == (len(counts) if shared else -(-max(of_devices) // (chunks * units)))
    found = PackLosses(computed, places, counts)
    for slot, of_run in windows.items():
        np.testing.assert_array_equal(found.of(slot), of_run[:, :1] + slot)


@given(
    windows=st.integers(1, 3000), context=st.sampled_from([16, 128, 1000, 8192]), run=st.integers(1, 8),
    data=st.integers(1, 4), slots=st.integers(1, 8), accelerated=st.booleans(),
)  # fmt: skip
def test_the_largest_evaluation_of_a_run_is_one_call_of_full_chunks(windows, context, run, data, slots, accelerated):
    shape = dataclasses.replace(SHAPE, model=dataclasses.replace(SHAPE.model, context=context), probe_windows=windows)
    mesh = Mesh(np.full((run, data), jax.devices()[0]), ("run", "data"))
    with pytest.MonkeyPatch.context() as patch:
        if accelerated:
            patch.setattr("harness.train.evaluation.accelerator_of", lambda device: UNKNOWN)
        layout = layout_of(shape, run * slots, mesh)
    assert layout.shared != accelerated and layout.windows % data == 0
    sharing = run if layout.shared else 1
    at_once = layout.units * layout.windows * sharing
    assert windows <= layout.chunks * at_once < windows + at_once + layout.units * data * sharing
    most = 4096 if accelerated else 1024
    assert layout.units <= slots and (layout.windows - data) * layout.units < max(1, most // context)
    assert layout.units == 1 or layout.windows * context >= 2048


@given(
    width=st.sampled_from([32, 128, 512]), depth=st.integers(1, 12), vocab=st.sampled_from([257, 50304]),
    peak=st.sampled_from([None, 1e13, 197e12, 989e12]), memory=st.integers(10**9, 2 * 10**11),
)  # fmt: skip
def test_an_evaluation_fills_an_accelerator_but_not_its_memory(width, depth, vocab, peak, memory):
    model = make_config("dense", vocab=vocab, context=128, width=width, depth=depth, heads=width // 16)
    shape = dataclasses.replace(SHAPE, model=model, micro_batch=8)
    tokens = evaluation_tokens(shape, Accelerator(peak, memory))
    assert tokens & (tokens - 1) == 0
    assert tokens <= evaluation_tokens(shape, Accelerator(peak, 2 * memory))  # more memory never means less at once
    assert evaluation_tokens(shape, Accelerator(peak, None)) >= tokens
    of_token = (run_bytes(shape) - state_bytes(shape)) / shape.turn_tokens
    assert tokens * of_token <= memory / 20 or tokens == 1
    if tokens > 4096:  # a millisecond at the peak is not exceeded
        assert peak is not None and tokens * flops(model).forward <= 1e-3 * peak
