"""Losses on the held-out text of other domains, which runs measure beside that of their own."""

import jax
import numpy as np
import pytest
import yaml

from harness.data.store import prepare
from harness.record.table import runs_table, segments_table
from harness.train.checkpoint import read_final
from models.compute import Compute
from models.transformer import init, token_losses
from sweeps.grid import load

SETTINGS = {
    "context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 2, "tokens": 3200, "probe_windows": 8, "lr": 0.01,
    "keep": "final",
}  # fmt: skip


@pytest.fixture(scope="module")
def domains(lab, text_corpus, tmp_path_factory):
    other = text_corpus(tmp_path_factory.mktemp("domains") / "other", 2)
    return f"text:{lab.text}", f"text:{other}"


@pytest.fixture(scope="module")
def measured(lab, domains, call_isogap, tmp_path_factory):
    """A sweep of a run on each of two domains, measured on both, and the same without that."""
    folders = []
    for given in ({"probe_domains": list(domains)}, {}):
        folder = tmp_path_factory.mktemp("sweep")
        spec = {"name": "x", "defaults": SETTINGS | given, "blocks": [{"grid": {"domain": list(domains)}}]}
        (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
        assert call_isogap("run", folder / "spec.yaml", "--out", folder / "out", "--cache", lab.cache) == 0
        folders.append(folder / "out")
    return folders


def test_on_its_own_domain_a_run_has_its_held_out_loss_and_nothing_else_changes(measured, domains):
    with_domains, without = map(runs_table, measured)
    for place, domain in enumerate(domains):
        columns = (f"loss_on_{domain}", "heldout_loss", f"bpb_on_{domain}", "heldout_bpb")
        on, held, on_bits, held_bits = (with_domains[name].to_numpy(float) for name in columns)
        # Two places of one program: a processor may round their sums differently (by 2e-9 where it was seen).
        assert on[place] == pytest.approx(held[place], rel=1e-6) and on_bits[place] == pytest.approx(held_bits[place])
        assert on[1 - place] != held[1 - place]
    alike = ["heldout_loss", "seen_loss", "gap_probe", "gap_probe_se", "train_loss_final100"]
    assert with_domains[alike].equals(without[alike])
    evals = segments_table(measured[0], "evals")
    assert set(evals["probe"]) >= {f"on_{domain}" for domain in domains}


def test_the_loss_on_another_domain_is_that_of_the_kept_model_on_its_held_out_windows(lab, measured, domains):
    runs = runs_table(measured[0])
    run = load(str(measured[0] / "sweep.yaml")).configs[0]
    held = np.asarray(prepare(domains[1], "bytes", lab.cache).heldout).astype(np.int32)
    windows = np.stack([held[start : start + 17] for start in range(0, len(held) - 16, 16)])
    leaves = [jax.numpy.asarray(leaf) for leaf in read_final(measured[0] / "runs" / run.run_id)]
    params, biases = jax.tree.unflatten(jax.tree.structure(init(run.model, jax.random.key(0))), leaves)
    losses, *_ = token_losses(run.model, params, biases, jax.numpy.asarray(windows), training=False, compute=Compute())
    means = np.sort(np.asarray(losses).mean(1))
    measured_loss = runs[f"loss_on_{domains[1]}"].to_numpy(float)[0]
    # Eight of these windows were measured: no eight of them have a mean outside of this range, and all windows do.
    assert means[:8].mean() <= measured_loss <= means[-8:].mean()
    documents = segments_table(measured[0], "documents")
    rows = documents[(documents["run_id"] == run.run_id) & (documents["probe"] == f"on_{domains[1]}")]
    rows = rows[rows["step"] == rows["step"].max()]
    windows_measured = np.unique(rows["window"])
    summed = np.bincount(rows["window"], rows["loss"])[windows_measured]
    np.testing.assert_allclose(summed, np.asarray(losses)[windows_measured].sum(1), rtol=1e-5)


def test_domains_that_mean_other_ids_or_share_text_are_refused(lab, domains, isogap, tmp_path):
    def refusal(**settings):
        spec = {"name": "x", "defaults": SETTINGS | settings, "blocks": [{}]}
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
        ended = isogap("plan", tmp_path / "spec.yaml", "--cache", lab.cache)
        run = isogap("run", tmp_path / "spec.yaml", "--out", tmp_path / "out", "--cache", lab.cache)
        return ended.status, run.status, run.out + run.err

    *_, told = refusal(domain=domains[0], probe_domains=[domains[1]], tokenizer="bpe:260")
    assert "one tokenizer for" in told
    *_, told = refusal(domain=f"0.5 {domains[0]} + 0.5 {domains[1]}", tokenizer="bpe:260")
    assert "one tokenizer for" in told
