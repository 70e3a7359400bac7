"""What objectives show, predict and count, and their losses against the plain transformer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from models.compute import Compute
from models.config import ModelConfig, TrainingObjective, make_config
from models.objective import counted, show
from models.transformer import mean_loss, token_losses

VOCAB = 17
RANGES = ((2, 4), (9, 12))
OBJECTIVES = {
    "masked": ("dense", TrainingObjective("masked", 0.3), True),
    "masked, untied": ("dense", TrainingObjective("masked"), False),
    "counted": ("dense", TrainingObjective(counted=RANGES), True),
    "patches": ("dense", TrainingObjective(patch=4), True),
    "patches, untied": ("dense", TrainingObjective(patch=2), False),
    "masked patches, counted": ("dense", TrainingObjective("masked", 0.4, RANGES, 2), True),
    "masked, routed": ("switch_top1", TrainingObjective("masked", 0.3), True),
    "patches by hash, counted": ("hash", TrainingObjective(patch=2, counted=RANGES), True),
    "forecast": ("dense", TrainingObjective(forecast=True), True),
    "forecast of patches, counted": ("dense", TrainingObjective(patch=4, counted=RANGES, forecast=True), True),
    "masked, forecast of patches": ("dense", TrainingObjective("masked", 0.6, patch=4, forecast=True), True),
    "counted, by reinforcement": ("reinforce", TrainingObjective(counted=RANGES), True),
}


def config_of(objective: TrainingObjective | None, context: int = 20) -> ModelConfig:
    return make_config("dense", vocab=VOCAB, context=context, width=16, depth=1, heads=2, objective=objective)


def windows(count: int, context: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB, (count, context + 1)).astype(np.int32)


def test_next_shows_the_tokens_before():
    tokens = windows(3)
    example = show(config_of(None), jnp.asarray(tokens))
    np.testing.assert_array_equal(example.inputs, tokens[:, :-1])
    np.testing.assert_array_equal(example.targets, tokens[:, 1:])
    assert example.weights is None and counted(config_of(None), tokens).all()


def test_a_patch_shows_the_patch_before_as_far_as_the_window_has_it():
    tokens = windows(2)
    example = show(config_of(TrainingObjective(patch=5)), jnp.asarray(tokens))
    np.testing.assert_array_equal(example.targets, tokens[:, 1:])
    np.testing.assert_array_equal(example.inputs[:, :4], VOCAB)
    np.testing.assert_array_equal(example.inputs[:, 4:], tokens[:, :16])


@pytest.mark.parametrize("objective", [aim for _, aim, _ in OBJECTIVES.values()], ids=OBJECTIVES)
def test_the_host_knows_what_counts_in_evaluation(objective):
    config, tokens = config_of(objective), windows(200)
    weights = jax.jit(lambda tokens: show(config, tokens))(tokens).weights
    found = counted(config, tokens)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, np.ones((200, 20), bool) if weights is None else np.asarray(weights) > 0)
    if objective.counted:
        inside = np.isin(tokens[:, 1:], [2, 3, 4, 9, 10, 11, 12])
        assert not found[~inside].any() and (objective.kind == "masked" or objective.forecast or found[inside].all())
    if objective.forecast:
        assert not found[:, : -objective.patch].any() and found[:, -objective.patch :].any()


@pytest.mark.parametrize(("share", "patch", "hidden"), [(0.15, 1, 3), (0.6, 4, 12), (0.01, 2, 2)])
def test_a_share_of_the_positions_is_hidden_and_counts(share, patch, hidden):
    config, tokens = config_of(TrainingObjective("masked", share, patch=patch)), jnp.asarray(windows(300))
    for key in (None, jax.random.key(0)):
        example = show(config, tokens, key)
        blank = np.asarray(example.inputs == VOCAB)
        assert (blank.sum(1) == hidden).all() and example.weights is not None
        assert (blank.reshape(300, -1, patch).all(2) == blank.reshape(300, -1, patch).any(2)).all()
        np.testing.assert_array_equal(np.asarray(example.weights) > 0, blank)
        np.testing.assert_array_equal(np.asarray(example.inputs)[~blank], np.asarray(tokens[:, 1:])[~blank])


@pytest.mark.parametrize(("share", "patch", "most"), [(0.6, 4, 3), (0.5, 1, 10), (0.01, 2, 1)])
def test_a_forecast_hides_the_end_of_a_window(share, patch, most):
    """In training as many positions as are drawn evenly from one to the most, in evaluation the last."""
    config = config_of(TrainingObjective("masked", share, patch=patch, forecast=True))
    tokens = jnp.asarray(windows(3000))
    example = show(config, tokens)
    blank = np.asarray(example.inputs == VOCAB)
    assert blank[:, -patch:].all() and not blank[:, :-patch].any() and example.weights is not None
    np.testing.assert_array_equal(np.asarray(example.weights) > 0, blank)
    example = show(config, tokens, jax.random.key(0), training=True)
    blank = np.asarray(example.inputs == VOCAB)
    assert (np.diff(blank.astype(int), axis=1) >= 0).all() and not (blank.sum(1) % patch).any()
    np.testing.assert_array_equal(np.asarray(example.weights) > 0, blank)
    np.testing.assert_array_equal(np.asarray(example.inputs)[~blank], np.asarray(tokens[:, 1:])[~blank])
    drawn = np.bincount(blank.sum(1) // patch, minlength=most + 1)
    assert drawn[0] == 0 and len(drawn) == most + 1
    assert most == 1 or stats.chisquare(drawn[1:]).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["next", "masked"])
def test_encoder_and_decoder_forecast_the_same_tokens_from_the_same(tiny, kind):
    """The last patch: none of its tokens changes what is predicted of the others there, and each token before does."""
    model = tiny("dense", objective=TrainingObjective(kind, patch=4, forecast=True))
    tokens = np.asarray(model.tokens)
    losses = jax.jit(
        lambda tokens: token_losses(
            model.config, model.params, model.biases, tokens, training=False, compute=Compute()
        )[0]
    )  # fmt: skip
    still = np.asarray(losses(tokens))
    assert (still[:, -4:] > 0).all() and not still[:, :-4].any()
    for place in range(20):
        moved = tokens.copy()
        moved[0, place + 1] = (moved[0, place + 1] + 1) % VOCAB
        change = np.asarray(losses(moved))[0] - still[0]
        assert not change[:-4].any()
        if place < 16:
            assert np.abs(change[-4:]).max() > 1e-5
        else:  # the target itself has another loss, and no other has
            assert np.flatnonzero(np.abs(change) > 1e-6).tolist() == [place]


def test_a_decoder_trains_on_all_that_it_trains_on_without_forecasts():
    tokens = jnp.asarray(windows(3))
    for counts in (None, RANGES):
        plain, forecast = (
            show(config_of(TrainingObjective(patch=2, counted=counts, forecast=on)), tokens, training=True)
            for on in (False, True)
        )
        jax.tree.map(np.testing.assert_array_equal, plain, forecast)


def test_masks_are_spread_over_places_and_tokens():
    """By chance at a level of 0.1 %: hidden places, hidden tokens, and whether two windows hide the same place."""
    config, tokens = config_of(TrainingObjective("masked", 0.25)), windows(2000)
    for hidden in (
        counted(config, tokens),
        np.asarray(show(config, jnp.asarray(tokens), jax.random.key(1)).inputs) == VOCAB,
    ):
        assert stats.chisquare(hidden.sum(0)).pvalue > 1e-3
        of_token = np.bincount(tokens[:, 1:][hidden], minlength=VOCAB)
        expected = np.bincount(tokens[:, 1:].ravel(), minlength=VOCAB)
        assert stats.chisquare(of_token, expected * of_token.sum() / expected.sum()).pvalue > 1e-3
        same = (hidden[::2] & hidden[1::2]).sum()
        assert abs(same - 1000 * 20 / 16) < 3.3 * np.sqrt(1000 * 20 / 16)


def test_evaluation_masks_are_the_windows_own_and_those_of_training_are_not():
    config, tokens = config_of(TrainingObjective("masked", 0.3)), windows(50)
    mask = counted(config, tokens)
    np.testing.assert_array_equal(counted(config, tokens[::-1])[::-1], mask)
    moved = tokens.copy()
    moved[:, 0] += 1  # it is no target
    np.testing.assert_array_equal(counted(config, moved), mask)
    moved[:, 7] = (moved[:, 7] + 1) % VOCAB
    assert (counted(config, moved) != mask).any(1).mean() > 0.9
    # A sweep that is run again must hide the same places: these are those of the first version.
    assert np.flatnonzero(counted(config, np.arange(21, dtype=np.int32)[None] % VOCAB)).tolist() == PLACES
    draws = [np.asarray(show(config, jnp.asarray(tokens), jax.random.key(seed)).inputs) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any(1).mean() > 0.9


PLACES = [4, 5, 8, 9, 13, 18]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_are_those_of_the_plain_transformer(tiny, plain, name):
    architecture, objective, tied = OBJECTIVES[name]
    model = tiny(architecture, objective=objective, tied=tied)
    tokens = model.tokens
    counts, targets = counted(model.config, np.asarray(tokens)), np.asarray(tokens[:, 1:])

    def expected_losses(training):
        example = show(model.config, tokens, jax.random.key(7) if training else None, training=training)
        scores, _ = plain.logits(model.config, model.params, model.biases, example.inputs, training)
        chosen = np.take_along_axis(scores, targets[..., None], -1)[..., 0]
        return np.log(np.exp(scores).sum(-1)) - chosen, example.weights

    losses, _ = expected_losses(False)
    found = jax.jit(
        lambda params, biases: token_losses(
            model.config, params, biases, tokens, training=False, compute=Compute()
        )[0]
    )(model.params, model.biases)  # fmt: skip
    np.testing.assert_allclose(found, np.where(counts, losses, 0), atol=1e-4)
    # In training the loss is the mean over what counts.
    losses, weights = expected_losses(True)
    (_, (drawn, _, _)), _ = model.train(model.params, model.biases, tokens)
    weights = np.ones_like(losses) if weights is None else np.asarray(weights)
    np.testing.assert_allclose(drawn, losses * weights, atol=1e-4)

    def mean(params, compute):
        key = jax.random.key(7)
        example = show(model.config, tokens, key, training=True)
        return mean_loss(model.config, params, model.biases, example, compute=compute, key=key)[0]

    for compute in (Compute(), Compute(loss="plain")):
        value = jax.jit(mean, static_argnums=1)(model.params, compute)
        assert value == pytest.approx((losses * weights).sum() / weights.sum(), rel=1e-5)


@pytest.mark.parametrize("name", ["masked", "counted", "patches", "masked patches, counted"])
def test_gradients_are_finite_differences(tiny, name):
    architecture, objective, tied = OBJECTIVES[name]
    model = tiny(architecture, objective=objective, tied=tied)

    @jax.jit
    def loss(params):
        example = show(model.config, model.tokens, jax.random.key(3))
        return mean_loss(model.config, params, model.biases, example, compute=Compute())[0]

    slopes = jax.jit(jax.grad(loss))(model.params)
    rng = np.random.default_rng(0)

    def unit(leaf, slope):
        noise = rng.normal(size=leaf.shape)
        return jnp.asarray(noise / np.linalg.norm(noise) + slope / np.linalg.norm(slope), jnp.float32)

    direction = jax.tree.map(unit, model.params, slopes)
    exact = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(slopes), jax.tree.leaves(direction), strict=True))
    ends = [loss(jax.tree.map(lambda a, b, s=s: a + s * b, model.params, direction)) for s in (1e-3, -1e-3)]
    assert (ends[0] - ends[1]) / 2e-3 == pytest.approx(float(exact), rel=0.01)


def test_a_masked_token_sees_both_sides_and_never_itself(tiny):
    model = tiny("dense", objective=TrainingObjective("masked", 0.3))
    tokens = np.asarray(model.tokens)
    place = int(np.flatnonzero(counted(model.config, tokens)[0])[1])
    example = show(model.config, jnp.asarray(tokens))
    for other in range(20):
        inputs = np.array(example.inputs)
        inputs[0, other] = (inputs[0, other] + 1) % VOCAB if other != place else inputs[0, other]
        moved = model.evaluate(model.params, model.biases, np.pad(inputs, ((0, 0), (0, 1))))
        still = model.evaluate(model.params, model.biases, np.pad(np.array(example.inputs), ((0, 0), (0, 1))))
        change = np.abs(np.asarray(moved - still))[0, place].max()
        assert (change > 1e-4) == (other != place)


def test_one_token_a_patch_is_no_patch_and_the_default_is_none():
    assert TrainingObjective(patch=1) == TrainingObjective() == TrainingObjective(mask_share=0.5)
    assert (
        config_of(TrainingObjective(mask_share=0.5)) == config_of(None)
        and config_of(TrainingObjective()).objective is None
    )
    assert config_of(TrainingObjective("masked", 0.5)) != config_of(TrainingObjective("masked", 0.4))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"kind": "denoise"}, "objective 'denoise' is none of next, masked"),
        ({"kind": "masked", "mask_share": 1.0}, "mask_share must lie between"),
        ({"patch": 0}, "patch must be positive"),
        ({"counted": ()}, "ranges of ids in rising order"),
        ({"counted": ((3, 2),)}, "ranges of ids in rising order"),
        ({"counted": ((5, 6), (1, 2))}, "ranges of ids in rising order"),
        ({"counted": ((-1, 2),)}, "ranges of ids in rising order"),
        ({"patch": 3}, "context 20 must be a multiple of patch 3"),
        ({"counted": ((0, VOCAB),)}, "counted ends at 17, but the vocabulary has 17 ids"),
    ],
)
def test_an_objective_that_means_nothing_is_refused(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        config_of(TrainingObjective(**change))
