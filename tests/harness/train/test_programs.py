"""The compiled step: a run's numbers are its own, whatever trains beside it and however its steps are cut."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import harness.train.programs
from harness.train.accelerators import Accelerator
from harness.train.evaluation import PackLosses, deal, layout_of
from harness.train.optimizer import Hyper, hyper_of, stack_hyper
from harness.train.programs import (
    Key,
    Programs,
    chunks_of,
    compile_ahead,
    dispatch_turns,
    mesh_for,
    programs,
    shardings_of,
    trace,
)
from harness.train.step import TrainState
from models.compute import Compute
from models.config import make_config
from models.transformer import token_losses
from sweeps.config import OptimizerConfig, RunConfig
from sweeps.grid import load
from sweeps.shape import Shape, shape_of

CHUNK = 128
# Of the laboratory's AdamW runs.
SHAPE = Shape(make_config("dense", vocab=257, context=16, width=16, depth=1, heads=2), 2, False, "adamw", 16)
STEPS = 50


@dataclasses.dataclass(frozen=True)
class Entry:
    """A run in a pack: its seed, its data and what its optimizer does."""

    seed: int
    data: int
    steps: int
    optimizer: OptimizerConfig


RUNS = (
    Entry(1, 11, STEPS, OptimizerConfig(lr=0.003)),
    Entry(2, 12, STEPS, OptimizerConfig(lr=0.01, schedule="cosine", warmup_steps=5, weight_decay=0.0)),
    Entry(3, 13, STEPS, OptimizerConfig(lr=0.001, schedule="wsd", clip=0.2, beta2=0.99)),
    Entry(4, 14, 20, OptimizerConfig(lr=0.02)),
)
STRANGERS = (
    Entry(9, 91, STEPS, OptimizerConfig(lr=0.05, beta1=0.5)),
    Entry(8, 92, 3, OptimizerConfig(lr=1e-5)),
    Entry(7, 93, STEPS, OptimizerConfig(lr=1e30)),
)


@pytest.fixture(scope="module")
def config(lab) -> RunConfig:
    """Of the same signature as the laboratory's AdamW runs."""
    config = load(lab.spec).configs[0]
    assert shape_of(config, 2048) == SHAPE
    return config


@pytest.fixture(scope="module")
def four(config) -> Programs:
    return programs(Key(SHAPE, 4, Compute(), mesh_for(4, config.batch)))


def windows(config: RunConfig, entry: Entry) -> np.ndarray:
    """Text with something to learn: twelve of the 257 tokens."""
    shape = STEPS, config.batch, config.model.context + 1
    return np.random.default_rng(entry.data).integers(0, 12, shape).astype(np.int32)


def hypers(config: RunConfig, entries) -> Hyper:
    configs = [config.model_copy(update={"optimizer": e.optimizer, "steps": e.steps, "seed": e.seed}) for e in entries]
    return stack_hyper([hyper_of(run, 1) for run in configs])


def train(compiled: Programs, config: RunConfig, entries, cuts=(STEPS,), state: TrainState | None = None):
    """(leaves of the state, metrics by name [STEPS, R], state) after the steps, dispatched in these cuts."""
    hyper = hypers(config, entries)
    reached = compiled.initialise(hyper) if state is None else state
    tokens = np.stack([windows(config, entry) for entry in entries], axis=1)
    recorded, start = [], 0
    for count in cuts:
        chunk = np.zeros((CHUNK, *tokens.shape[1:]), np.int32)
        chunk[:count] = tokens[start : start + count]
        reached, metrics = compiled.advance(reached, hyper, chunk, jnp.int32(count))
        recorded.append({name: np.asarray(value)[:count] for name, value in metrics._asdict().items()})
        start += count
    merged = {name: np.concatenate([part[name] for part in recorded]) for name in recorded[0]}
    return [np.asarray(leaf) for leaf in jax.tree.leaves(reached)], merged, reached


@pytest.fixture(scope="module")
def together(four, config):
    return train(four, config, RUNS)


def one(trained, place: int):
    """One run's leaves and its metrics while it ran."""
    leaves, metrics, _ = trained
    return [leaf[place] for leaf in leaves], {name: values[:, place] for name, values in metrics.items()}


def assert_same_bits(a, b, steps: int = STEPS):
    for left, right in zip(a[0], b[0], strict=True):
        np.testing.assert_array_equal(left, right)
    for name in a[1]:
        np.testing.assert_array_equal(a[1][name][:steps], b[1][name][:steps], err_msg=name)


def assert_close(a, b, steps: int = STEPS):
    """Losses and gradients within 1e-5; Adam's steps, which divide by gradients of any size, within 1e-3."""
    for name in ("train_loss", "lr", "grad_norm"):
        np.testing.assert_allclose(a[1][name][:steps], b[1][name][:steps], rtol=1e-5, err_msg=name)
    for leaf, other in zip(a[0], b[0], strict=True):
        np.testing.assert_allclose(leaf, other, rtol=0, atol=1e-3 * np.abs(other).max())


@pytest.mark.slow
def test_a_pack_equals_its_runs_alone(together, four, config):
    alone = programs(Key(SHAPE, 1, Compute(), mesh_for(1, config.batch)))
    start = jax.tree.map(np.asarray, four.initialise(hypers(config, RUNS)))
    for place, entry in enumerate(RUNS):
        mine = jax.tree.map(lambda leaf, place=place: jnp.asarray(leaf[place : place + 1]), start)
        solo = train(alone, config, [entry], state=mine)
        assert_close(one(together, place), one(solo, 0), entry.steps)


@pytest.mark.parametrize("place", range(4))
def test_a_run_does_not_depend_on_its_slot_or_its_neighbours(together, four, config, place):
    others = list(STRANGERS)
    others.insert((place + 1) % 4, RUNS[place])
    moved = train(four, config, others)
    assert_same_bits(one(together, place), one(moved, (place + 1) % 4), RUNS[place].steps)


@pytest.mark.parametrize("cuts", [(25, 25), (1, 48, 1), (7, 13, 17, 13), (0, 50, 0)])
def test_how_steps_are_cut_into_dispatches_does_not_matter(together, four, config, cuts):
    again = train(four, config, RUNS, cuts)
    for place in range(4):
        assert_same_bits(one(together, place), one(again, place))


@pytest.mark.slow
def test_two_devices_compute_what_one_does(together, four, config):
    narrow = programs(Key(SHAPE, 4, Compute(), mesh_for(4, config.batch, jax.devices()[:1])))
    assert dict(narrow.mesh.shape) == {"run": 1, "data": 1}
    start = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), four.initialise(hypers(config, RUNS)))
    single = train(narrow, config, RUNS, state=start)
    for place in range(4):
        assert_close(one(together, place), one(single, place), RUNS[place].steps)


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(("slots", "devices"), [(4, 2), (1, 2)])
def test_a_turn_in_chunks_is_the_turn(monkeypatch, config, slots, devices):
    """Whether the devices have two runs each, or share one."""
    batched = config.model_copy(update={"batch": 8})
    shape = dataclasses.replace(SHAPE, micro_batch=8)
    mesh = mesh_for(slots, 8, jax.devices()[:devices])
    trained = []
    for chunks, limit in ((2, 2**30), (4, None)):
        mine = slots // mesh.shape["run"], mesh.shape["data"]
        sequences = 8 // mine[1]
        limit = limit or mine[0] * sequences // 4 * shape.model.context * shape.model.ffn_width
        monkeypatch.setattr(harness.train.programs, "CHUNK_FEATURES", limit)
        assert chunks_of(shape, *mine, True) == chunks
        compiled = {
            name: traced.lower().compile() for name, traced in trace(Key(shape, slots, Compute(), mesh), CHUNK).items()
        }
        made = Programs(
            **compiled, turns=CHUNK, layout=layout_of(shape, slots, mesh), mesh=mesh, shardings=shardings_of(mesh)
        )
        trained.append(train(made, batched, RUNS[:slots], (20,)))
    for place in range(slots):
        assert_close(one(trained[0], place), one(trained[1], place), 20)


def test_chunks_are_whole_sequences_and_a_mixture_is_one():
    wide = make_config("dense", vocab=257, context=256, width=1024, depth=1, heads=8)
    assert chunks_of(dataclasses.replace(SHAPE, model=wide, micro_batch=6), 2, 1, True) == 6
    assert chunks_of(dataclasses.replace(SHAPE, model=wide, micro_batch=6), 1, 2, True) == 3
    routed = make_config("top2", vocab=257, context=256, width=1024, depth=1, heads=8)
    assert chunks_of(dataclasses.replace(SHAPE, model=routed, micro_batch=6), 1, 2, True) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("architecture", ["top2", "fine_grained_shared", "switch_top1"])
def test_a_mixture_split_over_two_devices_computes_what_one_does(config, architecture):
    """Loads, balance and selection biases are those of the whole batch. A few steps: a token near a tie would change
    experts by a rounding, and the runs part."""
    model = make_config(architecture, vocab=257, context=16, width=16, depth=2, heads=2)
    mixture = config.model_copy(update={"model": model, "batch": 4})
    shape = dataclasses.replace(SHAPE, model=model, micro_batch=4)
    split = programs(Key(shape, 1, Compute(), mesh_for(1, 4)))
    whole = programs(Key(shape, 1, Compute(), mesh_for(1, 4, jax.devices()[:1])))
    assert split.mesh.shape["data"] == 2 and whole.mesh.shape["data"] == 1
    (leaves, metrics, _), (expected, expected_metrics, _) = (
        train(compiled, mixture, RUNS[:1], (3,)) for compiled in (split, whole)
    )
    for name, values in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    for leaf, other in zip(leaves, expected, strict=True):
        np.testing.assert_allclose(leaf, other, rtol=0, atol=1e-3 * np.abs(other).max())
    assert expected_metrics["load_cv"].min() > 0


def test_a_finished_run_keeps_its_state_to_the_bit(together, four, config):
    at_its_end = train(four, config, RUNS, (20,))
    leaves, _ = one(together, 3)
    for leaf, other in zip(leaves, one(at_its_end, 3)[0], strict=True):
        np.testing.assert_array_equal(leaf, other)
    assert int(together[2].step[3]) == 20 and bool(together[2].alive[3])


def test_a_diverged_run_keeps_the_last_state_it_had_to_the_bit(four, config):
    entries = [RUNS[0], STRANGERS[2], RUNS[1], RUNS[2]]
    leaves, metrics, state = train(four, config, entries)
    alive = np.asarray(state.alive)
    assert alive.tolist() == [True, False, True, True]
    finite = np.isfinite(metrics["train_loss"][:, 1]) & np.isfinite(metrics["grad_norm"][:, 1])
    survived = int(np.argmin(finite))
    assert 1 <= survived < STEPS and int(state.step[1]) == survived
    short, _, _ = train(four, config, entries, (survived,))
    for leaf, other in zip(leaves[:-1], short[:-1], strict=True):  # the last leaf is `alive`
        np.testing.assert_array_equal(leaf[1], other[1])


def test_training_lowers_the_loss_and_records_its_own_rate(together):
    _, metrics, _ = together
    assert np.all(np.abs(metrics["train_loss"][0] - np.log(257)) < 0.1)
    last = metrics["train_loss"][-10:, :2].mean(0)
    assert np.all(last < np.log(257) - 0.5) and np.all(last > np.log(12) - 0.05)
    np.testing.assert_allclose(metrics["lr"][:, 0], 0.003, rtol=1e-6)
    assert np.all(metrics["grad_norm"] > 0)


def evaluated(compiled: Programs, state: TrainState, slot: int, windows: np.ndarray) -> np.ndarray:
    """Losses [W, T] of windows under the parameters of the run in a slot."""
    calls, places = deal(compiled.layout, {slot: windows})
    losses = [
        compiled.evaluate(state.params, state.biases, call.slots, call.tokens, jnp.int32(call.count)) for call in calls
    ]
    return PackLosses(losses, places, {slot: len(windows)}).of(slot)


@pytest.mark.parametrize("slot", range(4))
def test_evaluation_is_the_models_loss_of_each_window(together, four, config, slot):
    tokens = windows(config, RUNS[slot])[:, 0][:16]
    got = evaluated(four, together[2], slot, tokens)
    params, biases = jax.tree.map(lambda leaf: np.asarray(leaf)[slot], together[2][:2])
    loss = jax.jit(lambda p, b, t: token_losses(config.model, p, b, t, training=False, compute=Compute())[0])
    np.testing.assert_allclose(got, loss(params, biases, tokens), rtol=1e-5, atol=1e-6)


def test_runs_enter_where_the_mask_says_and_leave_the_others_alone(together, four, config):
    before = [np.array(leaf) for leaf in jax.tree.leaves(together[2])]
    fresh = four.initialise(hypers(config, STRANGERS + RUNS[:1]))
    expected = [np.array(leaf) for leaf in jax.tree.leaves(fresh)]
    mask = np.asarray([False, True, False, True])
    copy = jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), leaf.sharding), together[2])
    entered = jax.tree.leaves(four.enter(copy, fresh, mask))
    for old, new, got in zip(before, expected, entered, strict=True):
        for slot in range(4):
            np.testing.assert_array_equal(np.asarray(got)[slot], (new if mask[slot] else old)[slot])


@pytest.mark.slow
def test_programs_are_compiled_once_for_their_shape_and_size(four, config):
    assert programs(Key(SHAPE, 4, Compute(), mesh_for(4, config.batch))).advance is four.advance
    assert compile_ahead(Key(SHAPE, 4, Compute(), mesh_for(4, config.batch))).result().advance is four.advance
    other = dataclasses.replace(SHAPE, micro_batch=1)
    assert programs(Key(other, 2, Compute(), mesh_for(2, 1))).advance is not four.advance


@pytest.mark.slow
def test_a_batch_in_turns_is_the_batch(together, config):
    """Turns of half a batch, in a pack with a run whose batches are longer still, against whole batches."""
    shape = dataclasses.replace(SHAPE, micro_batch=1, accumulates=True)
    compiled = programs(Key(shape, 2, Compute(), mesh_for(2, 1)))
    tokens = windows(config, RUNS[0]).reshape(-1, 1, config.model.context + 1)
    beside = np.random.default_rng(5).integers(0, 12, tokens.shape).astype(np.int32)
    runs = [config.model_copy(update={"optimizer": e.optimizer, "steps": e.steps, "seed": e.seed}) for e in RUNS[:2]]
    hyper = stack_hyper([hyper_of(runs[0], 2), hyper_of(runs[1], 8)])
    state = compiled.initialise(hypers(config, RUNS[:2]))
    recorded = []
    for count in (33, 1, 66):  # cut in the midst of a batch
        chunk = np.zeros((compiled.turns, 2, 1, config.model.context + 1), np.int32)
        first = 33 * (count != 33) + 1 * (count == 66)
        chunk[:count] = np.stack([tokens, beside], axis=1)[first : first + count]
        state, metrics = compiled.advance(state, hyper, chunk, jnp.int32(count))
        recorded.append({name: np.asarray(value)[:count] for name, value in metrics._asdict().items()})
    merged = {name: np.concatenate([part[name] for part in recorded])[1::2, 0] for name in recorded[0]}
    whole = one(together, 0)
    for name in ("train_loss", "lr", "grad_norm"):
        np.testing.assert_allclose(merged[name], whole[1][name], rtol=1e-5, err_msg=name)
    assert np.asarray(state.step).tolist() == [STEPS, 100 // 8]
    for leaf, other in zip(jax.tree.leaves(state.params), jax.tree.leaves(together[2].params), strict=True):
        leaf, other = np.asarray(leaf)[0], np.asarray(other)[0]
        np.testing.assert_allclose(leaf, other, rtol=0, atol=1e-3 * np.abs(other).max())


@given(slots=st.integers(1, 64), batch=st.integers(1, 64), devices=st.integers(1, 9))
def test_a_mesh_splits_the_slots_evenly_over_the_most_devices_and_then_the_batch(slots, batch, devices):
    mesh = mesh_for(slots, batch, [jax.devices()[0]] * devices)
    run, data = mesh.shape["run"], mesh.shape["data"]
    assert slots % run == 0 and batch % data == 0 and run * data <= devices
    assert not any(slots % more == 0 for more in range(run + 1, devices + 1))
    assert not any(batch % more == 0 for more in range(data + 1, devices // run + 1))


H100, V5E, UNKNOWN = Accelerator(989e12, 60 * 10**9), Accelerator(197e12, 15 * 10**9), Accelerator(None, None)


def test_dispatches_grow_with_the_device_and_shrink_with_the_turn():
    for device, cost in itertools.product((None, H100, V5E, UNKNOWN), (1e3, 1e9, 1e12, 1e18)):
        assert 1 <= dispatch_turns(cost, device) <= 128
    assert dispatch_turns(1e18, H100) == 1 and dispatch_turns(1.0, None) == 128
    assert dispatch_turns(1e11, None) < dispatch_turns(1e11, V5E) < dispatch_turns(1e11, H100)
    # 20 ms of work at the peak, as long as it is between 1 and 128 turns
    assert dispatch_turns(1e12, H100) * 1e12 == pytest.approx(0.02 * 989e12, rel=0.1)
