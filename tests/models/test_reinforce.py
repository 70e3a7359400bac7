"""Routers that draw, and what reinforces them: against the exact gradient of the expected loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from models.compute import Compute
from models.config import TrainingObjective, make_config
from models.objective import show
from models.routers import Policy, choose_by_hash, choose_sampled, reinforce_loss
from models.transformer import init, mean_loss
from models.weights import is_router


def losses_of_arms(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(Logits of 3 rows and 4 arms, the loss of each arm in each row)."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(3, 4)), rng.normal(size=(3, 4)) * 2 + 5


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [4.0, 1.0, 0.0]])
@pytest.mark.parametrize("baseline", [0.0, -5.0])
def test_the_expected_gradient_is_that_of_the_expected_loss(weights, baseline):
    """The mean over all arms, weighted by the policy, of the gradient when that arm is drawn."""
    logits, losses = losses_of_arms()
    policy = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    counts, total = np.asarray(weights), sum(weights)
    exact = policy * (losses - (policy * losses).sum(1, keepdims=True)) * counts[:, None] / total

    @jax.jit
    def gradient(logits, arms):
        def added(logits):
            log_policy = jnp.take_along_axis(jax.nn.log_softmax(logits), arms[:, None], axis=1)[:, 0]
            chosen = jnp.take_along_axis(jnp.asarray(losses, jnp.float32), arms[:, None], axis=1)[:, 0] * counts_
            own = Policy(log_policy, jnp.full(3, baseline))
            return reinforce_loss([own], chosen, counts_, jnp.float32(total))

        return jax.grad(added)(logits)

    counts_ = jnp.asarray(counts, jnp.float32)
    mean = np.zeros((3, 4))
    for arms in np.ndindex(4, 4, 4):
        chance = np.prod(policy[np.arange(3), arms])
        mean += chance * np.asarray(gradient(jnp.asarray(logits, jnp.float32), jnp.asarray(arms)))
    np.testing.assert_allclose(mean, exact, atol=2e-6)


def test_the_baseline_learns_the_expected_reward_and_nothing_else_does_from_its_error():
    logits, losses = losses_of_arms()
    chosen = jnp.asarray(losses[:, 0], jnp.float32)

    def added(logits, baseline, losses):
        policy = Policy(jax.nn.log_softmax(logits)[:, 0], baseline)
        return reinforce_loss([policy], losses, jnp.ones(3), jnp.float32(3.0))

    arguments = jnp.asarray(logits, jnp.float32), jnp.asarray([-1.0, -2.0, -3.0]), chosen
    to_logits, to_baseline, to_losses = jax.grad(added, argnums=(0, 1, 2))(*arguments)
    np.testing.assert_allclose(to_baseline, 0.01 * 2 * (arguments[1] + chosen) / 3, rtol=1e-5)
    assert not np.any(to_losses)
    right = arguments[0], -chosen, chosen  # no surprise, no lesson
    assert not np.any(jax.grad(added)(*right)) and np.any(to_logits)


def test_experts_are_drawn_from_the_policy_in_training_and_are_the_likeliest_in_evaluation():
    logits = jnp.asarray(np.broadcast_to(np.log([0.5, 0.3, 0.15, 0.05]), (20_000, 4)), jnp.float32)
    choice, log_probability = choose_sampled(logits, jax.random.key(0))
    drawn = np.asarray(choice.wanted)[:, 0].sum(0)
    assert stats.chisquare(drawn, 20_000 * np.array([0.5, 0.3, 0.15, 0.05])).pvalue > 1e-3
    np.testing.assert_allclose(log_probability, np.asarray(logits)[np.asarray(choice.wanted)[:, 0]], atol=1e-6)
    greedy, _ = choose_sampled(logits, None)
    assert np.asarray(greedy.wanted)[:, 0].argmax(1).max() == 0 and (np.asarray(greedy.gates) == 1).all()


@pytest.mark.parametrize("objective", [None, TrainingObjective(patch=2, counted=((0, 4),))])
def test_a_model_of_one_position_reinforces_by_its_exact_gradient(objective):
    """One position visits one of three experts, so that the expected loss is a sum of three; gates are 1, so that the
    router changes nothing but the chances. Keys are tried until every expert has been drawn."""
    patch = objective.patch if objective else 1
    config = make_config("reinforce", vocab=7, context=patch, width=8, depth=1, heads=1, experts=3, moe_every=1,
                         objective=objective)  # fmt: skip
    params, biases = init(config, jax.random.key(1))
    tokens = jnp.asarray([[3, 5, 2][: patch + 1]])

    @jax.jit
    def gradient_of(params, key):
        rows: list[jax.Array] = []

        def tap(place, activations):
            rows.extend([activations] if place == "branch_in" else [])
            return activations

        def loss(params):
            example = show(config, tokens)
            mean, stats, loads = mean_loss(config, params, biases, example, compute=Compute(), key=key, tap=tap)
            return mean + stats.aux_loss, (mean, loads[0].argmax(), rows[-1][0])

        return jax.value_and_grad(loss, has_aux=True)(params)

    found = {}
    for seed in range(60):
        (_, (mean, expert, x)), gradient = gradient_of(params, jax.random.key(seed))
        leaves = jax.tree_util.tree_leaves_with_path(gradient)
        router = next(leaf for path, leaf in leaves if is_router(path) and leaf.shape == (8, 3))
        found[int(expert)] = float(mean), np.asarray(router, np.float64)
    assert found.keys() == {0, 1, 2}
    matrix = next(
        leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if is_router(path) and leaf.shape == (8, 3)
    )
    h = np.asarray(x, np.float64) @ np.asarray(matrix, np.float64)
    policy = np.exp(h) / np.exp(h).sum()
    losses = np.array([found[arm][0] for arm in range(3)])
    exact = np.outer(x, policy * (losses - policy @ losses))
    # The balance loss, 0.01 x 3 p of the drawn expert, has a gradient of its own.
    balance = [0.03 * np.outer(x, policy[arm] * (np.eye(3)[arm] - policy)) for arm in range(3)]
    mean = sum(policy[arm] * (found[arm][1] - balance[arm]) for arm in range(3))
    np.testing.assert_allclose(mean, exact, rtol=1e-3, atol=1e-7)
    assert np.abs(exact).max() > 1e-5


def test_a_bandit_learns_its_best_arm():
    _, losses = losses_of_arms(3)
    logits, baseline = jnp.zeros((3, 4)), jnp.full(3, -5.0)

    def added(state, key):
        choice, log_probability = choose_sampled(state[0], key)
        of_row = jnp.where(choice.wanted[:, 0], jnp.asarray(losses, jnp.float32), 0).sum(1)
        return reinforce_loss([Policy(log_probability, state[1])], of_row, jnp.ones(3), jnp.float32(3.0))

    @jax.jit
    def learn(state, keys):
        def step(state, key):
            slope = jax.grad(added)(state, key)
            return (state[0] - 0.3 * slope[0], state[1] - 10 * slope[1]), None

        return jax.lax.scan(step, state, keys)[0]

    logits, expected = learn((logits, baseline), jax.random.split(jax.random.key(0), 3000))
    np.testing.assert_array_equal(logits.argmax(1), losses.argmin(1))
    np.testing.assert_allclose(expected, -losses.min(1), atol=0.3)


def test_the_hash_of_an_id_is_fixed_and_spreads_ids_evenly():
    for experts in (1, 2, 8, 64):
        choice = choose_by_hash(jnp.arange(4096), experts)
        expert = np.asarray(choice.wanted)[:, 0].argmax(1)
        share = np.bincount(expert, minlength=experts) / 4096
        np.testing.assert_allclose(share, 1 / experts, rtol=0.04)
        assert (np.asarray(choice.gates) == 1).all()
    # Recorded runs have these experts: letters, digits and spaces of bytes.
    of_bytes = np.asarray(choose_by_hash(jnp.asarray([*b"etaoin 019"]), 8).wanted)[:, 0].argmax(1)
    assert of_bytes.tolist() == EXPERTS


EXPERTS = [3, 5, 7, 4, 7, 7, 6, 5, 2, 1]
