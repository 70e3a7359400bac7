"""Interventions one by one against closed forms, published numbers and plain numpy."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import fminbound
from scipy.stats import norm

from models.compute import Compute
from models.config import ARCHITECTURES, ModelConfig, make_config
from models.count import count, parts
from models.intervention import (
    Moment,
    Tap,
    defaults_of,
    float_fields,
    get_intervention,
    intervention_names,
    is_on,
    no_tap,
    with_floats,
    without_floats,
)
from models.interventions.activations import Activations
from models.interventions.average import Average
from models.interventions.dropout import Dropout
from models.interventions.feedback import Feedback, send_back
from models.interventions.freeze import Freeze
from models.interventions.masking import Masking
from models.interventions.prune import Prune, density, is_prunable, threshold
from models.interventions.quantize import ERRORS, STEPS, Quantize, represent
from models.objective import show
from models.transformer import init, mean_loss
from models.weights import model_part

ROOT = Path(__file__).parents[2]


def moment(step: int, steps: int) -> Moment:
    return Moment(jnp.int32(step), jnp.int32(steps), jnp.int32(0))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_parts_are_the_leaves_of_the_tree(architecture, tied):
    model = make_config(architecture, vocab=40, context=8, width=16, depth=2, heads=2, tied=tied)
    sizes = parts(model)
    counted = dict.fromkeys(sizes, 0)
    shapes = jax.eval_shape(lambda: init(model, jax.random.key(0)))[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        counted["norms" if leaf.ndim == 1 else model_part(path)] += leaf.size
    assert counted == sizes and sum(sizes.values()) == count(model).trainable


@pytest.mark.parametrize("name", intervention_names())
def test_an_intervention_is_off_by_default_and_its_numbers_can_be_exchanged(name):
    off = defaults_of(name)
    assert not is_on(off)
    numbers = tuple(range(1, 1 + len(float_fields(off))))
    assert float_fields(with_floats(off, numbers)) == numbers
    assert without_floats(with_floats(off, numbers)) == without_floats(off)
    assert get_intervention(name).fields is type(off)


def test_sweeps_read_the_fields_without_jax():
    code = "import sys, sweeps.grid; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@given(st.lists(st.floats(0, 2.0**60, width=32, allow_subnormal=False), min_size=1, max_size=50), st.integers(0, 50))
def test_the_threshold_is_that_of_a_sorted_list(sizes, zeros):
    zeros = min(zeros, len(sizes))
    got = float(threshold(jnp.float32(np.array(sizes)), jnp.int32(zeros), jnp.bool_(True)))
    assert got == (np.sort(np.float32(sizes))[zeros - 1] if zeros else -1)


@pytest.mark.parametrize(("ramp", "share"), [("linear", 0.5), ("cubic", 0.625)])
def test_the_mean_number_of_parameters_is_that_of_the_ramp(ramp, share):
    """A ramp from a quarter to three quarters of the run; the means are the integrals."""
    model = make_config("top2", vocab=40, context=8, width=16, depth=2, heads=2)
    fields = Prune(sparsity=0.8, ramp=ramp, every=1)
    counts = get_intervention("prune").counts
    assert counts is not None
    prunable = sum(
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.eval_shape(lambda: init(model, jax.random.key(0)))[0])
        if is_prunable(path, leaf)
    )
    expected = count(model).nonembedding - prunable * 0.8 * share
    assert counts(fields, model, 20_000, 1)["N_average"] == pytest.approx(expected, rel=1e-4)


def test_pruning_keeps_the_largest_weights_and_zeros_stay_zeros():
    hooks, fields = get_intervention("prune"), Prune(sparsity=0.6, start=0.0, end=1.0, ramp="linear", every=2)
    rng = np.random.default_rng(0)
    draw = {"out": rng.normal(size=(8, 25)), "embedding": rng.normal(size=(9, 4)), "scale": rng.normal(size=7)}
    params = jax.tree.map(jnp.float32, draw)
    assert hooks.begin and hooks.after and hooks.gradient
    own = hooks.begin(fields, SimpleNamespace(params=params), jax.random.key(0))
    zeros = np.zeros((8, 25), bool)
    for step in range(21):
        moved = jax.tree.map(lambda leaf: leaf + jnp.float32(0.1 * rng.normal(size=leaf.shape)), params)
        expected = np.where(zeros, 0, np.asarray(moved["out"]))
        params, own = hooks.after(fields, own, params, moved, moment(step, 21))
        if (step + 1) % 2 == 0 or step + 1 == 21:  # the last step, at which zeros may still grow
            number = 200 - round(float(density(fields, np.float32((step + 1) / 21))) * 200)
            zeros = zeros | (np.abs(expected) <= np.sort(np.abs(expected).ravel())[number - 1])
        np.testing.assert_array_equal(params["out"], np.where(zeros, 0, expected))
        np.testing.assert_array_equal(params["embedding"], moved["embedding"])
        gradient = hooks.gradient(fields, own, jax.tree.map(jnp.ones_like, params), moment(step, 21))
        np.testing.assert_array_equal(gradient["out"], ~zeros)
    assert zeros.mean() == pytest.approx(0.6)


# As published: optimal uniform quantisers (Max 1960, table II); integrals for sparse formats (Panferov et al. 2025).
PUBLISHED = {
    "int2": 0.1188, "int3": 0.03744, "int4": 0.01154, "int6": 0.00104, "2of4": 0.132, "sparse50": 0.0713,
    "sparse75": 0.276, "sparse90": 0.561,
}  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if kind != "none"])
def test_a_format_represents_normal_numbers_as_counted_and_as_published(kind):
    assert ERRORS[kind] == pytest.approx(PUBLISHED.get(kind, ERRORS[kind]), rel=0.01)
    numbers = np.random.default_rng(1).normal(size=(2**14, 64)).astype(np.float32)
    error = float(np.square(np.asarray(represent(jnp.asarray(numbers), kind)) - numbers).mean())
    assert error == pytest.approx(ERRORS[kind], rel=0.02)


@pytest.mark.parametrize("bits", STEPS)
def test_the_steps_of_a_format_have_the_least_error(bits):
    """By the integral of the square error over the cells of a quantiser with equal steps."""

    def error(step: float) -> float:
        low = step * np.arange(2 ** (bits - 1))
        high, level = np.append(low[1:], 40.0), low + step / 2
        moments = (
            norm.cdf(high) - norm.cdf(low),
            norm.pdf(low) - norm.pdf(high),
            norm.cdf(high) - norm.cdf(low) + low * norm.pdf(low) - high * norm.pdf(high),
        )
        return 2 * float(np.sum(moments[2] - 2 * level * moments[1] + level**2 * moments[0]))

    best = float(np.asarray(fminbound(error, 0.5 * STEPS[bits], 2 * STEPS[bits], xtol=1e-7)))
    assert STEPS[bits] == pytest.approx(best, rel=2e-3)


def test_two_of_every_four_inputs_are_kept():
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(3, 10, 5)).astype(np.float32)
    weights[0, :4, 0] = 1.0  # equal ones: the first two stay
    got = np.asarray(represent(jnp.asarray(weights), "2of4"))
    for expert in range(3):
        for column in range(5):
            for block in (0, 4):
                values = weights[expert, block : block + 4, column]
                kept = np.argsort(-np.abs(values), kind="stable")[:2]
                expected = np.where(np.isin(np.arange(4), kept), values, 0)
                np.testing.assert_array_equal(got[expert, block : block + 4, column], expected)
    np.testing.assert_array_equal(got[:, 8:], weights[:, 8:])


def test_only_matrices_of_the_blocks_are_compressed():
    model = make_config("top2", vocab=40, context=8, width=16, depth=1, heads=2)
    params, _ = init(model, jax.random.key(0))
    seen = get_intervention("quantize").seen
    assert seen
    compressed = seen(Quantize(weights="ternary"), (), params)
    for (path, leaf), other in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(compressed), strict=True
    ):
        levels = len(np.unique(np.asarray(other)[..., 0]))
        if is_prunable(path, leaf):
            assert levels <= 3 * (leaf.shape[0] if leaf.ndim == 3 else 1)
        else:
            np.testing.assert_array_equal(leaf, other)


@pytest.mark.parametrize(("share", "tensors"), [(0.3, "all"), (1.0, "ffn"), (1.0, "attention"), (0.5, "embedding")])
def test_as_many_parameters_are_held_as_are_counted(share, tensors):
    model = make_config("fine_grained_shared", vocab=300, context=8, width=32, depth=2, heads=2)
    hooks, fields = get_intervention("freeze"), Freeze(share=share, tensors=tensors)
    params, _ = init(model, jax.random.key(0))
    assert hooks.begin and hooks.counts
    held = hooks.begin(fields, SimpleNamespace(params=params), jax.random.key(1))
    trained = sum(int((~mask).sum()) for mask in jax.tree.leaves(held))
    size = count(model).trainable
    assert trained == pytest.approx(hooks.counts(fields, model, 1, 1)["N_trainable"], abs=4 * (size * share) ** 0.5)
    if share == 1.0:
        assert trained == hooks.counts(fields, model, 1, 1)["N_trainable"]


def test_the_average_is_a_geometric_series():
    hooks, fields = get_intervention("average"), Average(decay=0.8)
    assert hooks.begin and hooks.after and hooks.view
    values = np.random.default_rng(4).normal(size=6).astype(np.float32)
    params = {"x": jnp.asarray(values[:1])}
    own = hooks.begin(fields, SimpleNamespace(params=params), jax.random.key(0))
    for step, value in enumerate(values[1:]):
        new = {"x": jnp.asarray([value])}
        params, own = hooks.after(fields, own, params, new, moment(step, 5))
        assert params is new
    weights = [0.8**5, *(0.2 * 0.8 ** np.arange(4, -1, -1))]
    np.testing.assert_allclose(hooks.view(fields, own)["x"], np.dot(weights, values), rtol=1e-5)


MODEL = make_config("dense", vocab=40, context=8, width=16, depth=3, heads=2)
TOKENS = jnp.asarray(np.random.default_rng(5).integers(0, 40, (4, 9)), jnp.int32)


def gradient_with(tap: Tap, model: ModelConfig = MODEL):
    params, biases = init(model, jax.random.key(0))

    def loss(params):
        return mean_loss(model, params, biases, show(model, TOKENS), compute=Compute(), tap=tap)[0]

    return jax.jit(jax.value_and_grad(loss))(params)


def by_layer(gradient) -> dict[str, np.ndarray]:
    """The gradients of each block, of the tables and of the last norm, as one vector each."""
    found: dict[str, list[np.ndarray]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        names = [str(getattr(part, "key", "")) for part in path]
        found.setdefault(names[1] if names[0] == "blocks" else names[0], []).append(np.asarray(leaf).ravel())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def test_direct_feedback_is_exact_in_the_last_block_and_elsewhere_another_gradient():
    tap = get_intervention("feedback").tap
    assert tap
    loss, exact = gradient_with(no_tap)
    same, direct = gradient_with(tap(Feedback(kind="direct"), jax.random.key(1)))
    assert loss == same
    exact, direct = by_layer(exact), by_layer(direct)
    for name in ("2", "norm"):
        np.testing.assert_allclose(direct[name], exact[name], rtol=1e-5, atol=1e-7)
    for name in ("0", "1"):
        cosine = direct[name] @ exact[name] / np.linalg.norm(direct[name]) / np.linalg.norm(exact[name])
        assert abs(cosine) < 0.5 and np.linalg.norm(direct[name]) > 0


def test_with_one_block_direct_feedback_is_backpropagation_of_the_block():
    model = make_config("dense", vocab=40, context=8, width=16, depth=1, heads=2)
    tap = get_intervention("feedback").tap
    assert tap
    exact, direct = (
        by_layer(gradient_with(each, model)[1]) for each in (no_tap, tap(Feedback(kind="direct"), jax.random.key(1)))
    )
    np.testing.assert_allclose(direct["0"], exact["0"], rtol=1e-5, atol=1e-7)


def test_the_error_is_sent_by_a_fixed_matrix():
    rng = np.random.default_rng(6)
    last, first, error = (jnp.asarray(rng.normal(size=(5, 8)), jnp.float32) for _ in range(3))
    _, back = jax.vjp(send_back, last, (first, first))
    to_last, (one, other) = back(error)
    np.testing.assert_array_equal(to_last, error)
    matrix = np.linalg.lstsq(np.asarray(error), np.asarray(one), rcond=None)[0]
    np.testing.assert_allclose(error @ matrix, one, atol=1e-4)
    _, again = jax.vjp(send_back, first, (last, last))
    np.testing.assert_array_equal(again(error)[1][0], one)
    assert not np.allclose(one, other)


def test_dropout_keeps_the_mean_and_masking_hides_whole_tokens():
    ones = jnp.ones((400, 50))
    drop, mask = get_intervention("dropout").tap, get_intervention("masking").tap
    assert drop and mask
    rate = jnp.float32(0.25)
    tap = drop(Dropout(rate=rate), jax.random.key(0))
    first, second = (np.asarray(tap("branch_out", ones)) for _ in range(2))
    assert set(np.unique(first)) == {0.0, np.float32(1 / 0.75)}
    assert (first == 0).mean() == pytest.approx(0.25, abs=0.02) and (first != second).any()
    np.testing.assert_array_equal(tap("branch_in", ones), ones)
    hidden = np.asarray(mask(Masking(rate=rate), jax.random.key(0))("embedded", ones))
    assert set(hidden.mean(1)) == {0.0, 1.0} and hidden.mean() == pytest.approx(0.75, abs=0.07)


def test_rounded_activations_pass_gradients_and_are_those_of_evaluation():
    hooks, fields = get_intervention("activations"), Activations(format="int4")
    assert hooks.tap and hooks.evaluation_tap
    x = jnp.asarray(np.random.default_rng(7).normal(size=(6, 64)), jnp.float32)
    tap = hooks.tap(fields, jax.random.key(0))
    seen, back = jax.vjp(lambda x: tap("branch_in", x), x)
    np.testing.assert_allclose(seen, hooks.evaluation_tap(fields)("branch_in", x), atol=1e-6)
    np.testing.assert_array_equal(back(x)[0], x)
    assert all(len(np.unique(np.round(row, 5))) <= 16 for row in np.asarray(seen))
    assert float(jnp.square(seen - x).mean()) == pytest.approx(ERRORS["int4"], rel=0.4)
