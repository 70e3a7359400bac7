"""Objectives in which only some tokens count: what is added up by document, recorded, and compared."""

import numpy as np
import pandas as pd
import pytest
import yaml

from harness.data.mixture import mixture_of
from harness.data.store import TokenStore, prepare
from harness.gaps.ensembles import ensembles_table
from harness.gaps.probes import probe_sets
from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table
from harness.train.run_batches import opener
from models.config import TrainingObjective, make_config
from sweeps.config import DataConfig, OptimizerConfig, ProbeConfig, RunConfig
from sweeps.errors import InputError

CONTEXT = 64
DIGITS = ((ord("0"), ord("9")),)


def run(objective: TrainingObjective | None) -> RunConfig:
    model = make_config("dense", vocab=257, context=CONTEXT, width=16, depth=1, heads=2, objective=objective)
    return RunConfig(
        model=model, data=DataConfig(domain="one", tokenizer="bytes", unique_tokens=60_000),
        optimizer=OptimizerConfig(lr=0.1), probe=ProbeConfig(windows=100), steps=10_000, batch=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(text_folder, cache) -> TokenStore:
    return prepare(f"text:{text_folder}", "bytes", cache, 0.2)


def test_rows_are_the_documents_digits(store):
    """Against the rows of the objective in which all tokens count."""
    whole, digits = (
        probe_sets(run(objective), mixture_of(run(objective), (store,)))["heldout"]
        for objective in (None, TrainingObjective(counted=DIGITS))
    )
    np.testing.assert_array_equal(whole.tokens, digits.tokens)
    targets = whole.tokens[:, 1:]
    is_digit = (targets >= ord("0")) & (targets <= ord("9"))
    np.testing.assert_array_equal(digits.counted, is_digit)
    losses = np.random.default_rng(0).random(targets.shape).astype(np.float32)
    expected: dict[tuple[int, int], list[float]] = {}
    for row, loss in zip(whole.target_row[is_digit], losses[is_digit], strict=True):
        expected.setdefault((int(whole.window[row]), int(whole.document[row])), []).append(float(loss))
    assert 0 < len(expected) < len(whole.window)
    sums, keys = digits.sums(losses), list(zip(digits.window.tolist(), digits.document.tolist(), strict=True))
    assert sorted(keys) == sorted(expected) and len(set(keys)) == len(keys)
    for key, total, count, size in zip(keys, sums, digits.token_counts, digits.byte_counts, strict=True):
        assert total == pytest.approx(sum(expected[key]), rel=1e-6) and count == size == len(expected[key])


def test_masked_probes_count_their_share(store):
    probe = probe_sets(run(TrainingObjective("masked", 0.25)), mixture_of(run(None), (store,)))["seen"]
    assert (probe.counted.sum(1) == CONTEXT // 4).all() and probe.token_counts.sum() == probe.counted.sum()
    assert probe.byte_counts.sum() == (probe.tokens[:, 1:] < 256)[probe.counted].sum()


def test_a_text_without_any_token_that_counts_is_refused(store):
    config = run(TrainingObjective(counted=((1, 2),)))
    with pytest.raises(InputError, match="counted: got '1-2', expected ids that occur among the predicted tokens"):
        probe_sets(config, mixture_of(config, (store,)))


def test_a_small_probe_may_hold_no_token_that_counts(store):
    """It has no rows then; only the probes of the last step must have some."""
    whole = probe_sets(run(None), mixture_of(run(None), (store,)))["heldout"].tokens[:, 1:]
    small = probe_sets(run(None), mixture_of(run(None), (store,)), size=2)["heldout"].tokens[:, 1:]
    rare = next(token for token in np.unique(whole) if token not in small)
    config = run(TrainingObjective(counted=((int(rare), int(rare)),)))
    sets = [probe_sets(config, mixture_of(config, (store,)), size=size)["heldout"] for size in (2, None)]
    assert [len(probe.window) > 0 for probe in sets] == [False, True]
    assert sets[0].sums(np.ones(small.shape, np.float32)).shape == (0,)


@pytest.mark.slow
def test_a_sweep_of_objectives_records_what_counts(lab, tmp_path, isogap):
    settings = {
        "domain": f"text:{lab.text}", "context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 4, "tokens": 12800,
        "probe_windows": 64, "lr": 0.01, "keep_losses": True,
    }  # fmt: skip
    vowels = [[ord(letter), ord(letter)] for letter in "aeiou"]
    blocks = [
        {"name": "vowels", "defaults": {"counted": vowels, "twins": True}, "seeds": 2},
        {"name": "masked", "defaults": {"objective": "masked", "mask_share": 0.25, "patch": 2}},
    ]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"name": "x", "defaults": settings, "blocks": blocks}))
    out = tmp_path / "out"
    assert isogap("run", tmp_path / "sweep.yaml", "--out", out, "--cache", lab.cache).status == 0
    assert isogap("export", out, "--what", "evals", "--to", tmp_path / "evals.csv").status == 0
    table, evals = runs_table(out).set_index("run_id"), pd.read_csv(tmp_path / "evals.csv")
    assert set(table["counted"]) == {"97-97 101-101 105-105 111-111 117-117", "all"}
    assert set(zip(table["objective"], table["mask_share"], table["patch"], strict=True)) == {
        ("next", 0.0, 1),
        ("masked", 0.25, 2),
    }
    open_text = opener(lab.cache)
    for config in read_configs(out):
        probe = open_text(config).last_probes["heldout"]
        of_run = evals[(evals["run_id"] == config.run_id) & (evals["step"] == config.steps)].set_index("probe")
        assert of_run.loc["heldout", "probe_tokens"] == probe.counted.sum()
        kept = np.load(out / "runs" / config.run_id / "heldout_losses.npy")
        assert kept.shape == (probe.counted.sum(),)
        row = table.loc[config.run_id]
        assert row["heldout_loss"] == pytest.approx(float(kept.mean()), rel=1e-6) and row["gap_probe_se"] > 0
        assert 0 < row["train_loss_final100"] < np.log(257) and (row["gap_twin_se"] > 0) == (row["objective"] == "next")
    ensembles = ensembles_table(out)
    assert sorted(ensembles["members"]) == [1, 2]
