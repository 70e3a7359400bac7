"""Routers against loops over tokens, gradients against a dense one-hot mixture, and what balancing does."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.config import Activation, ModelConfig, MoEConfig, default_moe
from models.ffn import feed_forward
from models.moe import expert_capacity, step_bias
from models.routers import choose_biased, choose_by_expert, choose_top

BATCH, TIME, WIDTH = 2, 12, 8
MIXTURES = {
    "switch": dataclasses.replace(
        default_moe("switch_top1", 8, 4), every=1, capacity_factor=0.75, eval_capacity_factor=None
    ),
    "top2": default_moe("top2", 8, 4),
    "top2 with drops": dataclasses.replace(default_moe("top2", 8, 4), capacity_factor=0.75, eval_capacity_factor=2.0),
    "expert choice": dataclasses.replace(default_moe("expert_choice", 8, 4), capacity_factor=0.75),
    "fine grained": dataclasses.replace(default_moe("fine_grained_shared", 8, 8), balance_weight=0.1, z_weight=0.01),
    "hash": default_moe("hash", 8, 4, 1),
    "balanced": dataclasses.replace(default_moe("balanced", 8, 5, 1), z_weight=0.01),
    "reinforce": dataclasses.replace(default_moe("reinforce", 8, 4, 1), balance_weight=0.1, z_weight=0.01),
}


def config_of(moe: MoEConfig, activation: Activation = "gelu") -> ModelConfig:
    return ModelConfig(
        vocab=5, context=TIME, width=WIDTH, depth=1, heads=2, ffn_width=8, activation=activation, moe=moe
    )


def rows(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, WIDTH)) * 1.5


def as_plain(state) -> dict:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), nnx.to_pure_dict(state))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MIXTURES)
def test_a_layer_is_the_loop_over_its_tokens(moe_layer, plain, name, training):
    config = config_of(MIXTURES[name], "swiglu" if name == "fine grained" else "gelu")
    state, apply = moe_layer(config, 1)
    x = rows(BATCH * TIME)
    y, report = apply(state, jnp.asarray(x, jnp.float32), BATCH, training)
    expected = plain.mixture(config, as_plain(state), x, BATCH, training)
    np.testing.assert_allclose(y, expected.y, atol=2e-5)
    np.testing.assert_array_equal(report.load, expected.load)
    for field, value in (
        ("load_cv", expected.load.std() / expected.load.mean()),
        ("drop_fraction", expected.dropped),
        ("router_entropy", expected.entropy),
        ("aux_loss", expected.loss),
    ):
        assert getattr(report.stats, field) == pytest.approx(value, rel=1e-5, abs=1e-6)
    if training:
        assert (expected.dropped > 0) == (MIXTURES[name].capacity_factor not in (None, 1.0))


@pytest.mark.parametrize(("name", "n"), [("top2", 1), ("top2", 2), ("fine grained", 2), ("fine grained", 3)])
def test_a_few_tokens_find_their_experts(moe_layer, plain, name, n):
    """With at most one assignment an expert there are as many blocks as experts, of other experts."""
    config = config_of(MIXTURES[name])
    state, apply = moe_layer(config, 1)
    y, _ = apply(state, jnp.asarray(rows(n, 3), jnp.float32), 1, False)
    np.testing.assert_allclose(y, plain.mixture(config, as_plain(state), rows(n, 3), 1, False).y, atol=2e-5)


def dense_mixture(moe: MoEConfig, state, x, wanted, kept):
    """(output, auxiliary losses) with every expert computed for every token; the routing is given."""
    below = jax.lax.stop_gradient(x) if moe.routing == "reinforce" else x
    h = below @ state["router"][...] if moe.routing != "hash" else jnp.zeros(wanted.shape)
    p = jax.nn.softmax(h, axis=-1)
    score = jax.nn.sigmoid(h) if moe.routing == "fine_grained_shared" else p
    gates = wanted if moe.routing in ("hash", "reinforce") else score * wanted
    if moe.routing in ("top2", "fine_grained_shared"):
        gates = gates / gates.sum(-1, keepdims=True)
    if moe.routing == "fine_grained_shared":
        p = score / score.sum(-1, keepdims=True)
    experts = state["experts"]
    everywhere = jnp.broadcast_to(x, (moe.experts, *x.shape))
    outputs = feed_forward(everywhere, experts["up"][...], experts["down"][...], None)
    y = ((gates * kept).T[:, :, None] * outputs).sum(0)
    if moe.shared_experts:
        y = y + feed_forward(x, state["shared"]["up"][...], state["shared"]["down"][...], None)
    if moe.routing == "fine_grained_shared":
        f, mean_p = (z.reshape(BATCH, TIME, -1).mean(1) for z in (wanted / moe.experts_per_token, p))
        balance = moe.experts * (f * mean_p).sum(-1).mean()
    else:
        first = wanted if moe.routing == "reinforce" else jax.nn.one_hot(jnp.argmax(p, axis=-1), moe.experts)
        balance = 1.0 if moe.routing == "expert_choice" else moe.experts * (first.mean(0) * p.mean(0)).sum()
    return y, moe.balance_weight * balance + moe.z_weight * jnp.square(jax.nn.logsumexp(h, axis=-1)).mean()


@pytest.mark.parametrize("name", MIXTURES)
def test_gradients_are_those_of_the_dense_mixture_and_the_bias_has_none(moe_layer, plain, name):
    config = config_of(MIXTURES[name])
    state, apply = moe_layer(config, 1)
    x = rows(BATCH * TIME)
    expected = plain.mixture(config, as_plain(state), x, BATCH, True)
    wanted, kept = (jnp.asarray(z, jnp.float32) for z in (expected.wanted, expected.kept))
    weights = jnp.asarray(rows(BATCH * TIME, 7), jnp.float32)
    x = jnp.asarray(x, jnp.float32)

    def sparse(state, x):
        y, report = apply(state, x, BATCH, True)
        return (y * weights).sum() + report.stats.aux_loss

    def dense(state, x):
        y, loss = dense_mixture(MIXTURES[name], state, x, wanted, kept)
        return (y * weights).sum() + loss

    found, exact = (jax.jit(jax.grad(f, argnums=(0, 1)))(state, x) for f in (sparse, dense))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-5), found, exact)
    if "bias" in state:
        assert not np.any(found[0]["bias"][...])


@pytest.mark.parametrize("name", ["switch", "top2", "fine grained"])
def test_a_uniform_router_has_a_balance_loss_of_its_weight(moe_layer, name):
    moe = dataclasses.replace(MIXTURES[name], balance_weight=0.01, z_weight=0.0)
    state, apply = moe_layer(config_of(moe), 1)
    state = jax.tree.map(lambda leaf: leaf, state)
    state["router"] = state["router"].replace(jnp.zeros((WIDTH, moe.experts)))
    _, report = apply(state, jnp.asarray(rows(BATCH * TIME), jnp.float32), BATCH, True)
    assert report.stats.aux_loss == pytest.approx(0.01, rel=1e-6)
    assert report.stats.router_entropy == pytest.approx(math.log(moe.experts), rel=1e-5)


def test_gates_add_up_to_one():
    h = jnp.asarray(rows(40, 2), jnp.float32) * 3
    bias = jnp.asarray(np.linspace(-0.2, 0.2, WIDTH), jnp.float32)
    for choice in (choose_top(jax.nn.softmax(h), 2), choose_biased(jax.nn.sigmoid(h), bias, 3, 4)):
        np.testing.assert_allclose(choice.gates.sum(-1), 1, rtol=1e-6)
        assert (choice.wanted.sum(-1) == 1).all() and (choice.wanted.sum(1) <= 1).all()
    top1 = choose_top(jax.nn.softmax(h), 1)
    np.testing.assert_array_equal(top1.gates[:, 0], jax.nn.softmax(h).max(-1))  # Switch: the probability itself


def test_expert_choice_takes_its_share_of_a_long_sequence():
    """A fraction k/E of the tokens of any order without drift, and so mean load k a token for each expert alike."""
    h = np.random.default_rng(4).normal(size=(4 * 512, 8)) + np.linspace(-2, 2, 8)
    choice = jax.jit(choose_by_expert, static_argnums=(1, 2))(jax.nn.softmax(jnp.asarray(h, jnp.float32)), 2, 4)
    share = np.asarray(choice.wanted).sum((0, 1)) / (4 * 512)
    np.testing.assert_allclose(share, 2 / 8, atol=0.02)


def test_capacity_is_the_published_one():
    moe = default_moe("switch_top1", 8, 8)
    assert (expert_capacity(moe, 100, True), expert_capacity(moe, 100, False)) == (
        16,
        25,
    )  # ceil(1.25 x 100 / 8), ceil(2 x 100 / 8)
    assert expert_capacity(default_moe("top2", 8), 100, True) is None


def test_one_expert_is_the_dense_feed_forward(moe_layer):
    """Dropless top-1 with one expert: its gate is exactly 1, and each block's product is the dense one bit for bit."""
    state, apply = moe_layer(config_of(MoEConfig("switch_top1", 1, 1, 8)), 5)
    up, down = state["experts"]["up"][...], state["experts"]["down"][...]
    x = jnp.asarray(rows(BATCH * TIME), jnp.float32)
    y, report = apply(state, x, BATCH, True)
    np.testing.assert_array_equal(y, jax.jit(feed_forward)(x, up[0], down[0], None))
    assert report.stats.drop_fraction == 0.0 and report.stats.aux_loss == 0.0


def test_the_bias_steps_by_the_sign_of_the_missing_load():
    rng = np.random.default_rng(6)
    bias, load = rng.normal(size=9), rng.integers(0, 50, 9).astype(float)
    load[3] = load[np.arange(9) != 3].mean()  # exactly the mean: no step
    found = step_bias(jnp.asarray(bias, jnp.float32), jnp.asarray(load, jnp.float32), 1e-2)
    np.testing.assert_allclose(found, bias + 1e-2 * np.sign(load.mean() - load), rtol=1e-6)


def test_the_bias_selects_but_does_not_weigh():
    h = jnp.asarray(rows(24, 8), jnp.float32)
    score = jax.nn.sigmoid(h)
    plain, shifted = (choose_biased(score, jnp.full(WIDTH, b), 3, 2) for b in (0.0, 0.5))
    jax.tree.map(np.testing.assert_array_equal, plain, shifted)  # a common bias changes nothing at all
    pushed = choose_biased(score, jnp.zeros(WIDTH).at[5].set(2.0), 3, 2)
    assert pushed.wanted[:, 0, 5].all()
    np.testing.assert_array_less(pushed.gates[:, 0], 1.0)  # its gate is its score's share, not the biased one's


@pytest.mark.parametrize(("rate", "balanced"), [(1e-3, True), (0.0, False)])
def test_loss_free_balancing_evens_a_skewed_stream(rate, balanced):
    experts, tokens, steps = 16, 256, 500
    skew = jnp.linspace(-1.0, 1.0, experts)

    def step(bias, key):
        h = skew[None] + 0.3 * jax.random.normal(key, (tokens, experts))
        load = choose_biased(jax.nn.sigmoid(h), bias, 3, 4).wanted.sum((0, 1)).astype(jnp.float32)
        return step_bias(bias, load, rate), load.std() / load.mean()

    _, cv = jax.jit(lambda keys: jax.lax.scan(step, jnp.zeros(experts), keys))(
        jax.random.split(jax.random.key(0), steps)
    )
    assert cv[:10].mean() > 1
    assert (cv[-50:].mean() < 0.3) if balanced else (cv[-50:].mean() > 1)
