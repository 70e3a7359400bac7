"""Objectives and drawing routers in the compiled step: what is normalised, beside neighbours, resumed, and lowered."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.train.accelerators import Accelerator
from harness.train.evaluation import PackLosses, deal, layout_of
from harness.train.optimizer import hyper_of, stack_hyper
from harness.train.programs import Key, chunks_of, compile_some, mesh_for, trace
from harness.train.step import micro_batch_gradient, new_state
from models.compute import Compute, compute_for
from models.config import ModelConfig, TrainingObjective, make_config
from models.objective import counted
from models.transformer import token_losses
from sweeps.config import DataConfig, OptimizerConfig, RunConfig
from sweeps.shape import Shape, shape_of

STEPS, BATCH, CONTEXT, VOCAB = 12, 8, 16, 40
# The id of the run with the objective that counts RANGES, and the signature of its shape.
BEFORE = "e1fbb7cfa5aa", "ee1fc8fb7b52"
# Few of the tokens, and not evenly spread.
RANGES = ((0, 5), (30, 33))
CASES: dict[str, tuple[str, TrainingObjective | None, int]] = {  # architecture, objective, sequences of a turn
    "masked, in turns": ("dense", TrainingObjective("masked", 0.3), 4),
    "masked and counted": ("dense", TrainingObjective("masked", 0.3, RANGES, 2), 8),
    "counted, in turns": ("dense", TrainingObjective(counted=RANGES), 2),
    "patches": ("parallel", TrainingObjective(patch=4), 8),
    "forecast of patches, in turns": ("dense", TrainingObjective(patch=4, forecast=True), 2),
    "masked forecast": ("dense", TrainingObjective("masked", 0.5, patch=2, forecast=True), 8),
    "reinforce": ("reinforce", None, 8),
    "balanced, masked": ("balanced", TrainingObjective("masked", 0.3), 8),
}


def model_of(architecture: str = "dense", objective: TrainingObjective | None = None) -> ModelConfig:
    depth = 1 if architecture in ("dense", "parallel") else 2
    sizes: dict[str, Any] = {"vocab": VOCAB, "context": CONTEXT, "width": 16, "depth": depth, "heads": 2}
    return make_config(architecture, **sizes, objective=objective)


def run_of(model: ModelConfig, seed: int = 0, lr: float = 0.01) -> RunConfig:
    data = DataConfig(domain="", tokenizer="bytes", unique_tokens=1000)
    optimizer = OptimizerConfig(lr=lr, clip=0.5)
    return RunConfig(model=model, data=data, optimizer=optimizer, steps=STEPS, batch=BATCH, seed=seed)


def shape_with(run: RunConfig, micro_batch: int) -> Shape:
    return dataclasses.replace(shape_of(run, 2**20), micro_batch=micro_batch, accumulates=micro_batch < BATCH)


def tokens_of(seed: int) -> np.ndarray:
    """Batches in whose first sequences ids are low, and in whose last ones they are high."""
    rng = np.random.default_rng(seed)
    least = np.linspace(0, VOCAB - 12, BATCH).astype(int)[None, :, None]
    return (least + rng.integers(0, 12, (STEPS, BATCH, CONTEXT + 1))).astype(np.int32)


def key_of(model: ModelConfig, micro_batch: int, slots: int = 2, devices: int = 1) -> Key:
    shape = shape_with(run_of(model), micro_batch)
    return Key(shape, slots, Compute(), mesh_for(slots, micro_batch, jax.devices()[:devices]))


@functools.cache
def compiled(key: Key):
    """(The programs that training needs, the most turns of a dispatch)."""
    return compile_some(key, ("initialise", "advance"))


def train(runs: list[RunConfig], micro_batch: int, cuts: tuple[int, ...] | None = None, devices: int = 1, tokens=None):
    """(state, metrics of the last turn of each step [STEPS, R]) of runs side by side; cuts are numbers of turns."""
    turns = BATCH // micro_batch
    made, most = compiled(key_of(runs[0].model, micro_batch, len(runs), devices))
    hyper = stack_hyper([hyper_of(run, turns) for run in runs])
    state, recorded, start = made["initialise"](hyper), [], 0
    each = [tokens_of(run.seed) if tokens is None else tokens for run in runs]
    batches = np.stack([one.reshape(-1, micro_batch, CONTEXT + 1) for one in each], axis=1)
    for count in cuts or (STEPS * turns,):
        chunk = np.zeros((most, *batches.shape[1:]), np.int32)
        chunk[:count] = batches[start : start + count]
        # What a checkpoint holds is enough to go on.
        state = jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), leaf.sharding), state)
        state, metrics = made["advance"](state, hyper, chunk, jnp.int32(count))
        recorded.append([np.asarray(value)[:count] for value in metrics])
        start += count
    names = type(metrics)._fields
    return state, {
        name: np.concatenate(parts)[turns - 1 :: turns]
        for name, parts in zip(names, zip(*recorded, strict=True), strict=True)
    }


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("masked, in turns", "reinforce") else pytest.mark.slow) for n in CASES],
)
def test_beside_others_and_resumed_are_the_same_to_the_bit(name, hurried):
    architecture, objective, micro_batch = CASES[name]
    run = run_of(model_of(architecture, objective), seed=3)
    others = [run.model_copy(update={"seed": 4}), run_of(run.model, seed=5, lr=0.001)]
    state, metrics = train([run, others[0]], micro_batch)
    per_step = BATCH // micro_batch
    cuts = (5 * per_step - 1, 1, 1, (STEPS - 5) * per_step - 1)  # in the midst of a batch
    again, same = train([others[1], run], micro_batch, cuts)
    for field, values in metrics.items():
        np.testing.assert_array_equal(values[:, 0], same[field][:, 1], err_msg=field)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(np.asarray(one)[0], np.asarray(other)[1])
    assert metrics["train_loss"][-1, 0] < metrics["train_loss"][0, 0]


@pytest.mark.parametrize("name", ["reinforce", "masked, in turns"])
def test_what_is_drawn_differs_from_step_to_step_and_from_run_to_run(name, hurried):
    """The same batch at every step, and a rate so small that nothing moves."""
    architecture, objective, micro_batch = CASES[name]
    run = run_of(model_of(architecture, objective), lr=1e-30)
    tokens = np.broadcast_to(tokens_of(0)[:1], (STEPS, BATCH, CONTEXT + 1))
    _, metrics = train([run, run.model_copy(update={"seed": 1})], micro_batch, tokens=tokens)
    assert len(np.unique(metrics["train_loss"])) == 2 * STEPS


@pytest.mark.slow
def test_the_loss_of_a_batch_is_the_mean_over_its_tokens_that_count(hurried):
    """In one turn, and in turns of which some have none of them: the first batch against the losses of all tokens."""
    run = run_of(model_of("dense", TrainingObjective(counted=RANGES)))
    plain = model_of("dense")
    first = new_state(shape_with(run, BATCH), jax.tree.map(jnp.asarray, hyper_of(run, 1)))
    batch = tokens_of(0)[0]
    losses = token_losses(plain, first.params, first.biases, batch, training=True, compute=Compute())[0]
    counts = counted(run.model, batch)
    assert counts.reshape(4, -1).sum(1).min() == 0 and counts.sum() == 20
    whole, metrics = train([run], BATCH)
    assert metrics["train_loss"][0, 0] == pytest.approx(float(np.asarray(losses)[counts].mean()), rel=1e-6)
    turns, in_turns = train([run], 2)
    for name in ("train_loss", "grad_norm"):
        np.testing.assert_allclose(in_turns[name], metrics[name], rtol=2e-5, err_msg=name)
    for one, other in zip(jax.tree.leaves(turns.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3 * np.abs(np.asarray(other)).max())


def test_a_batch_in_which_nothing_counts_moves_nothing(hurried):
    run = run_of(model_of("dense", TrainingObjective(counted=RANGES)))
    tokens = np.full((STEPS, BATCH, CONTEXT + 1), 20, np.int32)
    for micro_batch in (BATCH, 2):
        state, metrics = train([run], micro_batch, tokens=tokens)
        assert not metrics["train_loss"].any() and not metrics["grad_norm"].any() and state.alive.all()


@pytest.mark.parametrize("objective", [TrainingObjective(counted=RANGES), TrainingObjective("masked", 0.4, RANGES, 2)])
def test_a_gradient_in_chunks_is_that_of_the_whole(objective, hurried):
    run = run_of(model_of("dense", objective))
    shape, hyper = shape_with(run, BATCH), jax.tree.map(jnp.asarray, hyper_of(run, 1))
    state, keyed = new_state(shape, hyper), (hyper, jax.random.key(5))
    found = [
        jax.jit(functools.partial(micro_batch_gradient, shape, Compute(), chunks=chunks))(
            state.params, state.biases, tokens_of(0)[0], keyed if run.model.draws else None
        )[0]
        for chunks in (1, 4)
    ]
    assert chunks_of(shape, 2, 1, True) > 1
    for one, other in zip(jax.tree.leaves(found[0][:2]), jax.tree.leaves(found[1][:2]), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6 * max(1e-3, float(jnp.abs(other).max())) + 1e-8)
    assert found[0].counted is not None and found[0].counted == found[1].counted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "objective"),
    [("dense", TrainingObjective(counted=RANGES)), ("balanced", None), ("hash", TrainingObjective(counted=RANGES))],
)
def test_two_devices_that_share_a_batch_compute_what_one_does(architecture, objective, hurried):
    """A few steps: a token near a tie would change experts by a rounding, and the runs part."""
    run = run_of(model_of(architecture, objective))
    tokens = np.random.default_rng(0).permuted(tokens_of(0), axis=1)
    (one, expected), (two, metrics) = (train([run], BATCH, (3,), devices, tokens) for devices in (1, 2))
    for name in ("train_loss", "grad_norm", "aux_loss", "load_cv", "router_entropy", "drop_fraction"):
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
    for leaf, other in zip(jax.tree.leaves(two.params), jax.tree.leaves(one.params), strict=True):
        np.testing.assert_allclose(leaf, other, rtol=0, atol=1e-3 * np.abs(np.asarray(other)).max())
    if architecture == "balanced":
        assert metrics["load_cv"].max() == 0 == metrics["drop_fraction"].max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["masked, in turns", "reinforce"])
def test_two_devices_draw_for_themselves(name, hurried):
    architecture, objective, micro_batch = CASES[name]
    _, metrics = train([run_of(model_of(architecture, objective))], micro_batch, devices=2)
    assert metrics["train_loss"][-1, 0] < metrics["train_loss"][0, 0] - 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["masked and counted", "patches", "forecast of patches, in turns", "reinforce"])
def test_evaluation_is_of_what_counts(name, hurried):
    architecture, objective, micro_batch = CASES[name]
    run = run_of(model_of(architecture, objective))
    key, windows = key_of(run.model, micro_batch), tokens_of(9).reshape(-1, CONTEXT + 1)
    evaluate = trace(key, 1)["evaluate"].lower().compile()
    state = compiled(key)[0]["initialise"](stack_hyper([hyper_of(run, BATCH // micro_batch)] * 2))
    calls, places = deal(layout_of(key.shape, 2, key.mesh), {1: windows})
    losses = [evaluate(state.params, state.biases, c.slots, c.tokens, jnp.int32(c.count)) for c in calls]
    found = PackLosses(losses, places, {1: len(windows)}).of(1)
    assert ((found > 0) == counted(run.model, windows)).all()
    params, biases = jax.tree.map(lambda leaf: leaf[1], (state.params, state.biases))
    expected = token_losses(run.model, params, biases, jax.numpy.asarray(windows), training=False, compute=Compute())[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_programs_lower_for_cuda_and_tpu(name, monkeypatch):
    monkeypatch.setattr("harness.train.evaluation.accelerator_of", lambda device: Accelerator(None, None))
    architecture, objective, micro_batch = CASES[name]
    shape = shape_with(run_of(model_of(architecture, objective)), micro_batch)
    key = Key(shape, 2, compute_for("cuda"), mesh_for(2, micro_batch, jax.devices()[:1]))
    for program, traced in trace(key, turns=3).items():
        for platform in ("cuda", "tpu"):
            text = traced.lower(lowering_platforms=(platform,)).as_text()
            assert program not in ("advance", "evaluate") or "bf16" in text


def test_objectives_are_programs_of_their_own():
    ranges = TrainingObjective(counted=RANGES)
    objectives = [
        None,
        ranges,
        *(TrainingObjective("masked", share) for share in (0.15, 0.3)),
        TrainingObjective(patch=2),
        *(TrainingObjective(kind, forecast=True) for kind in ("next", "masked")),
    ]
    models = [model_of("dense", objective) for objective in objectives]
    models += [model_of(name) for name in ("hash", "balanced", "reinforce")]
    runs = [run_of(model) for model in models]
    assert len({shape_of(run, 2048).signature for run in runs}) == len({run.run_id for run in runs}) == len(models)
    for run in runs:
        assert RunConfig.model_validate_json(run.canonical_json()) == run
    assert "objective" not in runs[0].canonical_json()
    # Ids and programs that were recorded before there were forecasts.
    assert ["forecast" in run.canonical_json() for run in runs[:7]] == [False] * 5 + [True] * 2
    assert (runs[1].run_id, shape_of(runs[1], 2048).signature) == BEFORE
