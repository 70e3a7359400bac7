"""The transformer against a plain numpy one, finite differences, and the future."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.compute import Compute, compute_for
from models.config import ARCHITECTURES, BaseSize, make_config
from models.moe import step_biases
from models.objective import show
from models.transformer import init, mean_loss, token_losses
from models.weights import is_router

VARIANTS = [
    *((architecture, {}) for architecture in ARCHITECTURES),
    ("dense", {"activation": "swiglu", "tied": False, "qk_norm": True}),
    ("top2", {"base": BaseSize(4, 6, 2)}),
]


@pytest.mark.parametrize(("architecture", "options"), VARIANTS)
def test_logits_and_losses_are_those_of_a_plain_gpt(tiny, plain, architecture, options):
    model = tiny(architecture, **options)
    found = model.evaluate(model.params, model.biases, model.tokens)
    inputs, targets = model.tokens[:, :-1], np.asarray(model.tokens[:, 1:])

    def losses_of(scores):
        chosen = np.take_along_axis(scores, targets[..., None], -1)[..., 0]
        return np.log(np.exp(scores).sum(-1)) - chosen

    expected, _ = plain.logits(model.config, model.params, model.biases, inputs, False)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    if options:
        return
    if architecture == "switch_top1":  # whose capacity differs in evaluation

        @jax.jit
        def evaluation_losses(params, biases, tokens):
            return token_losses(model.config, params, biases, tokens, training=False, compute=Compute())[0]

        losses = evaluation_losses(model.params, model.biases, model.tokens)
        np.testing.assert_allclose(losses, losses_of(expected), atol=1e-4)
    (objective, (losses, stats, loads)), _ = model.train(model.params, model.biases, model.tokens)
    expected, layers = plain.logits(model.config, model.params, model.biases, inputs, True)
    np.testing.assert_allclose(losses, losses_of(expected), atol=1e-4)
    assert len(layers) == len(loads) == sum(map(model.config.is_moe_layer, range(model.config.depth)))
    for load, layer in zip(loads, layers, strict=True):
        np.testing.assert_array_equal(load, layer.load)
    reports = {
        "load_cv": np.mean([z.load.std() / z.load.mean() for z in layers]) if layers else 0,
        "drop_fraction": np.mean([z.dropped for z in layers]) if layers else 0,
        "router_entropy": np.mean([z.entropy for z in layers]) if layers else 0,
        "aux_loss": sum(z.loss for z in layers),
    }
    for name, value in reports.items():
        assert getattr(stats, name) == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert objective == pytest.approx(float(losses.mean()) + reports["aux_loss"], rel=1e-5)
    assert (stats.drop_fraction > 0) == (architecture in ("switch_top1", "expert_choice"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_are_finite_differences(tiny, architecture):
    """Leaf by leaf along a random direction. A token that changes experts within the step makes the loss jump, so the
    step shrinks, and a batch with a near tie gives way to the next; a wrong slope fails them all. A router that learns
    by reinforcement has no slope here but that of its balance loss, which does not reach what is below it."""
    model = tiny(architecture, balance_weight=0.0) if architecture == "reinforce" else tiny(architecture)
    rng = np.random.default_rng(5)
    paths, structure = jax.tree_util.tree_flatten_with_path(model.params)
    leaves = [np.asarray(leaf) for _, leaf in paths]
    batches = rng.integers(0, model.config.vocab, (4, *model.tokens.shape)).astype(np.int32)
    slopes = [jax.tree.leaves(model.train(model.params, model.biases, batch)[1]) for batch in batches]

    def agrees(which: int, batch, slope, step: float) -> bool:
        direction = rng.normal(size=slope.shape)
        direction /= np.linalg.norm(direction)
        direction += slope / np.linalg.norm(slope)  # never orthogonal to it

        def objective(shift):
            moved = [*leaves[:which], np.float32(leaves[which] + shift * direction), *leaves[which + 1 :]]
            (value, _), _ = model.train(jax.tree.unflatten(structure, moved), model.biases, batch)
            return float(value)

        exact, found = (slope * direction).sum(), (objective(step) - objective(-step)) / (2 * step)
        return abs(found - exact) <= 0.01 * abs(exact) + 2e-7 / step  # a float32 loss of 3 is known to 2e-7

    for which, (path, _) in enumerate(paths):
        if architecture == "reinforce" and is_router(path):
            assert all(not np.any(slope[which][...]) for slope in slopes)
            continue
        trials = [(b, step) for b in range(len(batches)) for step in (0.04, 0.02, 0.01, 0.005, 0.0025)]
        assert any(agrees(which, batches[b], np.asarray(slopes[b][which]), step) for b, step in trials), path


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_depends_on_the_future(tiny, architecture):
    """Not on a sequence's own, nor on another's, in training (where tokens are dropped) and in evaluation.

    But in training, where loads are balanced over the batch, everything depends on everything, as published."""
    model = tiny(architecture)
    rng = np.random.default_rng(8)

    def outputs(tokens):
        (_, (losses, _, _)), _ = model.train(model.params, model.biases, tokens)
        return np.asarray(losses), np.asarray(model.evaluate(model.params, model.biases, tokens))

    tokens = np.asarray(model.tokens)
    losses, scores = outputs(tokens)
    moved = leaked = 0.0
    for t in range(tokens.shape[1] - 2):
        for sequences in ([0, 1, 2], [0], [1, 2]):
            changed = tokens.copy()
            later = changed[sequences, t + 1 :]
            changed[sequences, t + 1 :] = rng.integers(0, model.config.vocab, later.shape)
            found_losses, found = outputs(changed)
            leaked = max(leaked, np.abs(found_losses[:, :t] - losses[:, :t]).max(initial=0.0))
            np.testing.assert_allclose(found[:, : t + 1], scores[:, : t + 1], atol=2e-5)
            moved = max(moved, np.abs(found[:, t + 1 :] - scores[:, t + 1 :]).max())
    assert moved > 0.1
    assert leaked > 0.1 if architecture == "balanced" else leaked < 2e-5


@pytest.mark.parametrize(
    "architecture", ["dense", "parallel", "top2", "fine_grained_shared", "hash", "balanced", "reinforce"]
)
def test_without_drops_a_sequence_does_not_depend_on_the_others(tiny, architecture):
    model = tiny(architecture)
    changed = model.tokens.at[1:].set(3)
    before, after = (model.evaluate(model.params, model.biases, tokens) for tokens in (model.tokens, changed))
    np.testing.assert_allclose(before[0], after[0], atol=2e-5)
    assert jnp.abs(before[1:] - after[1:]).max() > 0.1


@pytest.mark.parametrize("architecture", ["expert_choice", "fine_grained_shared", "balanced"])
def test_runs_of_a_pack_are_solo_runs(tiny, architecture):
    model = tiny(architecture)
    rng = np.random.default_rng(9)

    def shaken(a):
        return np.float32(a + 0.3 * rng.normal(size=a.shape))

    def stack(trees):
        return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)

    runs = [
        (*jax.tree.map(shaken, (model.params, model.biases)), rng.integers(0, 17, (3, 21)).astype(np.int32))
        for _ in range(3)
    ]
    packed = jax.jit(jax.vmap(model.train))(*stack(runs))
    solo = stack([model.train(*run) for run in runs])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), packed, solo)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_gradient_lowers_for_accelerators(tiny, architecture):
    model = tiny(architecture)
    compute = compute_for("tpu")
    assert compute == compute_for("cuda") == Compute("bfloat16", "fused", "plain", 0, "batched")
    gradient = jax.jit(jax.grad(lambda p, b, t, c: model.objective(p, b, t, c)[0]), static_argnums=3)
    arguments = model.params, model.biases, model.tokens
    gradient.trace(*arguments, Compute("bfloat16"))  # no dtypes meet by themselves
    with jax.numpy_dtype_promotion("standard"):  # but in the gradient of jax.nn.dot_product_attention
        traced = gradient.trace(*arguments, compute)
        for platform in ("cuda", "tpu"):
            assert "bf16" in traced.lower(lowering_platforms=(platform,)).as_text()


def test_bfloat16_rounds_and_no_more(tiny):
    model = tiny("dense")
    rounded = jax.jit(jax.value_and_grad(model.objective, has_aux=True), static_argnums=3)
    (_, (losses, _, _)), gradient = model.train(model.params, model.biases, model.tokens)
    (_, (found, _, _)), slopes = rounded(model.params, model.biases, model.tokens, Compute("bfloat16"))
    assert found.dtype == jnp.float32
    assert 0 < np.abs(np.subtract(found, losses)).mean() < 0.04
    paths, _ = jax.tree_util.tree_flatten_with_path(gradient)
    for (path, exact), slope in zip(paths, jax.tree.leaves(slopes), strict=True):
        assert slope.dtype == jnp.float32
        error = np.linalg.norm(slope - exact) / np.linalg.norm(exact)
        assert error < 0.06, path


def test_bfloat16_sums_the_gradient_of_a_common_token_in_float32(tiny):
    """97% of 4,000 tokens are one: a bfloat16 sum would stop growing, 30% off."""
    model = tiny("parallel")
    tokens = np.random.default_rng(0).choice(4, (200, 21), p=[0.97, 0.01, 0.01, 0.01]).astype(np.int32)
    gradient = jax.jit(jax.grad(lambda p, b, t, c: model.objective(p, b, t, c)[0]), static_argnums=3)
    exact, found = (
        np.asarray(gradient(model.params, model.biases, tokens, Compute(dtype))["embedding"][...])
        for dtype in ("float32", "bfloat16")
    )
    assert np.linalg.norm(found - exact) < 0.03 * np.linalg.norm(exact)


@pytest.mark.parametrize("architecture", ["dense", "fine_grained_shared"])
def test_the_loss_of_training_is_the_mean_of_the_token_losses(tiny, architecture):
    model = tiny(architecture)

    def mean(params, loss):
        example = show(model.config, model.tokens)
        value, stats, loads = mean_loss(model.config, params, model.biases, example, compute=Compute(loss=loss))
        return value + stats.aux_loss, loads

    (expected, (_, _, loads)), gradient = model.train(model.params, model.biases, model.tokens)
    for loss in ("one_pass", "plain"):
        (found, same_loads), slope = jax.jit(jax.value_and_grad(lambda p, loss=loss: mean(p, loss), has_aux=True))(
            model.params
        )
        assert found == pytest.approx(float(expected), rel=1e-6)
        jax.tree.map(np.testing.assert_array_equal, same_loads, loads)
        for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("architecture", ["hash", "balanced", "reinforce"])
def test_a_single_expert_is_the_dense_feed_forward(tiny, architecture):
    """The gate of one expert is 1."""
    dense, routed = tiny("dense"), tiny(architecture, experts=1)

    def losses(config, params, training):
        key = jax.random.key(0)
        options = {"training": training, "compute": Compute(), "key": key}
        return token_losses(config, params, dense.biases, dense.tokens, **options)[0]

    def names(path):
        return [part.key for part in path if hasattr(part, "key")]

    leaves = {str(names(path)): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(dense.params)}

    def of_dense(path, leaf):
        if "router" in names(path) or "baseline" in names(path):
            return leaf
        same = leaves[str(["ffn" if name == "moe" else name for name in names(path) if name != "experts"])]
        return same[None] if "experts" in names(path) else same

    given = jax.tree_util.tree_map_with_path(of_dense, routed.params)
    for training in (True, False):
        found = jax.jit(lambda params, training=training: losses(routed.config, params, training))(given)
        expected = jax.jit(lambda params, training=training: losses(dense.config, params, training))(dense.params)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("architecture", ["dense", "fine_grained_shared"])
def test_an_untrained_model_knows_nothing(tiny, architecture):
    model = tiny(architecture)
    params, biases = init(model.config, jax.random.key(3))
    (_, (losses, _, _)), _ = model.train(params, biases, model.tokens)
    assert float(losses.mean()) == pytest.approx(math.log(model.config.vocab), abs=0.03)
    packed = jax.eval_shape(jax.vmap(lambda key: init(model.config, key)), jax.random.split(jax.random.key(3), 5))
    assert jax.tree.map(lambda a: (a.shape, a.dtype), packed) == jax.tree.map(
        lambda a: ((5, *a.shape), a.dtype), (model.params, model.biases)
    )


def test_each_layers_bias_steps_by_its_own_load():
    """More than ten layers: in numeric, not alphabetic order."""
    config = make_config("fine_grained_shared", vocab=5, context=4, width=4, depth=12, heads=1, ffn_width=4, experts=4)
    _, shapes = jax.eval_shape(lambda key: init(config, key), jax.random.key(0))
    biases = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    loads = [jnp.zeros(4).at[layer % 4].set(8.0 + layer) for layer in range(12)]
    stepped = step_biases(config, biases, loads)
    for layer in range(12):
        found = nnx.to_pure_dict(stepped)["blocks"][layer]["moe"]["bias"]
        np.testing.assert_allclose(found, np.where(np.arange(4) == layer % 4, -1e-3, 1e-3), rtol=1e-6)
    dense = dataclasses.replace(config, moe=None)
    nothing = init(dense, jax.random.key(0))[1]
    assert step_biases(dense, nothing, []) is nothing
