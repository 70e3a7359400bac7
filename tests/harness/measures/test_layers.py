"""The diversity of features against closed forms, and what a run records of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

from harness.data.mixture import Mixture
from harness.measures.layers import effective_rank, measure_layers, sphere_energy
from harness.record.status import run_folder
from harness.record.table import runs_table
from harness.train.final_model import load_model
from harness.train.run_batches import opener
from models.compute import Compute
from models.decode import TrainedModel
from models.transformer import build_model, init
from sweeps.grid import load

SETTINGS = {
    "context": 16, "width": 16, "depth": 2, "heads": 2, "batch": 2, "tokens": 1600, "probe_windows": 8, "lr": 0.01,
    "measures": ["layers"],
}  # fmt: skip


def test_the_energy_is_that_of_points_on_a_sphere():
    opposite = jnp.asarray([[3.0, 0.0], [-0.1, 0.0]])
    assert float(sphere_energy(opposite)) == pytest.approx(0.5)
    # All pairs of orthogonal directions are the square root of 2 apart, whatever their lengths.
    assert float(sphere_energy(jnp.diag(jnp.arange(1.0, 6.0)))) == pytest.approx(2**-0.5, rel=1e-6)
    # The distance d of uniform points on the sphere in three dimensions has the density d/2 up to 2: 1/d has mean 1.
    points = jax.random.normal(jax.random.key(0), (4000, 3))
    assert float(sphere_energy(points)) == pytest.approx(1.0, abs=0.01)


def test_the_effective_rank_counts_directions_by_their_variance():
    one = jnp.linspace(-1.0, 1.0, 9)[:, None] * jnp.asarray([[1.0, 2.0, 3.0]])
    assert float(effective_rank(one)) == pytest.approx(1.0, abs=1e-3)
    cube = jnp.asarray([[a, b, c] for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)])
    assert float(effective_rank(cube)) == pytest.approx(3.0, rel=1e-5)
    # Shares of 1/5 and 4/5 of the variance.
    entropy = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))
    assert float(effective_rank(cube[:, :2] * jnp.asarray([1.0, 2.0]))) == pytest.approx(np.exp(entropy), rel=1e-5)


@pytest.fixture
def run(lab, tmp_path):
    spec = {"name": "x", "defaults": SETTINGS | {"domain": f"text:{lab.text}"}, "blocks": [{}]}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    (config,) = load(str(tmp_path / "spec.yaml")).configs
    return config


def test_blocks_that_add_nothing_have_the_features_of_the_embedding(run):
    params, biases = init(run.model, jax.random.key(1))
    for block in params["blocks"].values():
        for part in (block["attention"]["out"], block["ffn"]["down"]):
            part[...] = jnp.zeros_like(part[...])
    windows = np.random.default_rng(0).integers(0, 257, (8, 17)).astype(np.int32)
    nothing = Mixture((), (), run.model.context)
    found = measure_layers(run, nothing, windows, TrainedModel(run.model, params, biases))
    embedding = np.asarray(params["embedding"][...])
    features = embedding[windows[:, [8, 15]].ravel()]
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    distance = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    pairs = ~np.eye(16, dtype=bool)
    energy = (1 / np.maximum(distance[pairs], 1e-3)).mean()
    spectrum = np.linalg.eigvalsh(np.cov(features.T))
    share = spectrum[spectrum > 1e-12] / spectrum.sum()
    for layer in (1, 2):
        assert found[f"feature_energy_{layer}"] == pytest.approx(energy, rel=1e-3)
        assert found[f"feature_rank_{layer}"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-3)


def test_without_queries_attention_is_even_over_all_earlier_positions(run):
    params, biases = init(run.model, jax.random.key(1))
    for block in params["blocks"].values():
        block["attention"]["query"][...] = jnp.zeros_like(block["attention"]["query"][...])
    windows = np.random.default_rng(0).integers(0, 257, (8, 17)).astype(np.int32)
    found = measure_layers(run, Mixture((), (), 16), windows, TrainedModel(run.model, params, biases))
    # Position t looks at t + 1 positions alike: log(t + 1) nats, and t / 2 positions back in the mean.
    for layer in (1, 2):
        assert found[f"attention_entropy_{layer}"] == pytest.approx(np.log(np.arange(1, 17)).mean(), rel=1e-5)
        assert found[f"attention_distance_{layer}"] == pytest.approx(np.arange(16).mean() / 2, rel=1e-5)


def test_layers_are_measured_as_the_model_is_evaluated(run):
    """Through the taps of its activations: without an input attention is even, and a layer adds nothing."""

    def nothing(place, activations):
        return jnp.zeros_like(activations) if place == "branch_in" else activations

    model = TrainedModel(run.model, *init(run.model, jax.random.key(1)), nothing)
    windows = np.random.default_rng(0).integers(0, 257, (8, 17)).astype(np.int32)
    found = measure_layers(run, Mixture((), (), 16), windows, model)
    assert found["attention_entropy_2"] == pytest.approx(np.log(np.arange(1, 17)).mean(), rel=1e-5)
    assert found["feature_rank_1"] == found["feature_rank_2"]


@pytest.mark.slow
def test_runs_of_few_bits_record_the_layers_of_the_model_that_they_keep(lab, isogap, tmp_path):
    own = {"domain": f"text:{lab.text}", "keep": "final", "quantize_weights": "int3", "activations_format": "int4"}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump({"name": "x", "defaults": SETTINGS | own, "blocks": [{}]}))
    ended = isogap("run", tmp_path / "spec.yaml", "--out", tmp_path / "out", "--cache", lab.cache)
    assert ended.status == 0, ended.out
    (run,) = load(str(tmp_path / "spec.yaml")).configs
    batches, row = opener(lab.cache)(run), runs_table(tmp_path / "out").iloc[0]
    model = load_model(run_folder(tmp_path / "out", run.run_id))
    for name, value in measure_layers(run, batches.mixture, batches.last_probes["heldout"].tokens, model).items():
        assert row[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("options", [{}, {"qk_norm": True}, {"block": "parallel"}])
def test_the_weights_are_those_by_which_attention_mixes_values(run, options):
    config = dataclasses.replace(run.model, depth=1, **options)
    params, biases = init(config, jax.random.key(2))
    attention = build_model(config, params, biases, Compute()).blocks[0].attention
    x = jax.random.normal(jax.random.key(3), (32, 16))
    weights = attention.weights(x, 2).reshape(2, 2, 16, 16)
    values = (x @ attention.value[...]).reshape(2, 16, 2, 8)
    mixed = jnp.einsum("bhts,bshe->bthe", weights, values).reshape(32, 16) @ attention.out[...]
    np.testing.assert_allclose(mixed, attention(x, 2, "chunked"), atol=2e-6)


@pytest.mark.slow
def test_runs_record_their_layers_and_others_do_not_change(run, lab, isogap, tmp_path):
    spec = yaml.safe_load((tmp_path / "spec.yaml").read_text())
    spec["blocks"] = [{"grid": {"measures": [["layers"], []], "architecture": ["dense", "top2"]}}]
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(spec))
    ended = isogap("run", tmp_path / "both.yaml", "--out", tmp_path / "out", "--cache", lab.cache)
    assert ended.status == 0, ended.out
    runs = runs_table(tmp_path / "out")
    known = runs["feature_rank_1"].notna()
    measured, plain = (runs.loc[chosen].set_index("architecture") for chosen in (known, ~known))
    measured, plain = measured.loc[["dense", "top2"]], plain.loc[["dense", "top2"]]
    np.testing.assert_array_equal(measured["heldout_loss"], plain["heldout_loss"])
    assert plain.filter(like="feature_").isna().to_numpy().all()
    assert (measured[["feature_rank_1", "feature_rank_2"]].to_numpy() > 1).all()
    assert measured["router_load_cv_2"].isna().tolist() == [True, False]


def test_an_unknown_measure_is_refused(isogap, lab, tmp_path):
    spec = {"name": "x", "defaults": SETTINGS | {"domain": f"text:{lab.text}", "measures": ["depth"]}, "blocks": [{}]}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    ended = isogap("plan", tmp_path / "spec.yaml")
    assert ended.status == 2 and "measures" in ended.err and "one of layers" in ended.err
