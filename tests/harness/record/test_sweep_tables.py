"""The tidy tables of a finished sweep, and its folder."""

import json

import numpy as np
import pandas as pd
import pytest

from harness.data.store import prepare
from harness.record.segments import read_segments
from harness.record.status import run_folder
from harness.record.sweep_folder import check_data, lay_out, read_configs, record_environment
from harness.record.table import runs_table, write_table
from models.count import count
from sweeps.errors import InputError

# As promised to those who read the table, in this order but for what is added between.
COLUMNS = """
run_id status architecture tokenizer domain seed optimizer width depth N_total N_nonembedding N_active N_trainable D U
epochs batch_tokens steps lr warmup schedule final_lr_ratio decay_fraction beta2 flops flops_6nd bytes_per_token
train_loss_final100 val_loss_final100 gap_online gap_online_se
gap_probe gap_probe_se gap_twin gap_twin_se minimum_detectable_gap converged wall_seconds tokens_per_second
""".split()
EXTRA = {
    "reason", "half", "split_seed", "draw", "weight_decay", "corpus_hash", "D_bytes", "U_bytes",
    "seen_loss", "heldout_loss", "heldout_bpb",
    "gap_control", "gap_control_se", "gap_probe_se_source", "online_lag", "online_lag_se", "gap_online_first",
    "gap_online_first_se", "placebo", "placebo_se", "gap_drift",
    "gap_drift_se", "noise_scale", "document_sd", "paired_sd", "contamination",
    *(f"gap_{name}_bpb{se}" for name in ("probe", "control", "twin") for se in ("", "_se")),
    *(f"placebo_{name}{se}" for name in ("online", "control", "twin") for se in ("", "_se")),
}  # fmt: skip


def test_the_runs_table_has_the_promised_columns(finished, finished_runs):
    table = runs_table(finished)
    assert [name for name in table if name not in EXTRA] == COLUMNS
    assert set(table) == set(COLUMNS) | EXTRA
    assert table["run_id"].tolist() == [run.run_id for run in finished_runs]
    assert table["status"].tolist() == ["done", "done", "diverged", "done", "done", "done"]


def test_a_run_has_the_hash_of_its_corpus(finished, finished_runs, lab, tmp_path):
    facts = prepare(finished_runs[0].data.domain, "bytes", lab.cache)
    assert set(runs_table(finished)["corpus_hash"]) == {facts.corpus_hash}
    out = tmp_path / "sweep"
    first = finished_runs[0]
    mixed = first.model_copy(update={"data": first.data.model_copy(update={"domain": "0.5 papers + 0.5 stdlib_code"})})
    lay_out(out, "name: a\n", [first, mixed])
    assert runs_table(out)["corpus_hash"].dropna().to_dict() == {}  # nothing has been prepared
    names = ("papers bytes", "stdlib_code bytes")
    record_environment(out, [], {name: {"corpus": name[0], "tokenizer": "t", "tokens": "x"} for name in names})
    assert runs_table(out)["corpus_hash"].dropna().to_dict() == {1: "p s"}


def test_the_runs_tables_quantities(finished, finished_runs):
    table = runs_table(finished).set_index("run_id")
    for run in finished_runs:
        row, counts = table.loc[run.run_id], count(run.model)
        assert row["D"] == run.steps * 2 * 16 and row["batch_tokens"] == 32
        assert row["epochs"] == pytest.approx(row["D"] / row["U"], rel=0.02)
        assert row["flops_6nd"] == 6 * counts.active * row["D"]
        assert row["N_total"] == counts.total and row["width"] == 16 and row["tokenizer"] == "bytes"
    done = table[table["status"] == "done"]
    for name in (
        "train_loss_final100",
        "val_loss_final100",
        "gap_online",
        "gap_probe",
        "wall_seconds",
        "bytes_per_token",
    ):
        assert np.isfinite(done[name].astype(float)).all(), name
        assert pd.isna(table.loc[table["status"] == "diverged", name]).all()
    for row in done.reset_index().to_dict("records"):
        series = read_segments(run_folder(finished, row["run_id"]), "series")
        assert row["train_loss_final100"] == pytest.approx(series["train_loss"].iloc[-100:].mean(), rel=1e-12)
        assert row["gap_online"] == pytest.approx(row["val_loss_final100"] - row["train_loss_final100"])
        assert row["gap_probe"] == pytest.approx(row["heldout_loss"] - row["seen_loss"])
        assert row["minimum_detectable_gap"] == pytest.approx(2.8 * row["gap_probe_se"])
        assert row["tokens_per_second"] == pytest.approx(row["D"] / row["wall_seconds"])
    # Nine epochs of 3,000 bytes are remembered. (Eight windows cannot tell it from three epochs of 10,000.)
    longest = max(done.reset_index().to_dict("records"), key=lambda row: row["epochs"])
    assert longest["gap_probe"] > 2 * longest["gap_probe_se"]


@pytest.mark.parametrize("what", ["runs", "series", "evals", "documents"])
def test_exports_give_back_the_table(finished, isogap, tmp_path, what):
    paths = [tmp_path / "new" / f"{what}{ending}" for ending in (".csv", ".parquet")]
    for path in paths:
        ended = isogap("export", finished, "--what", what, "--to", path)
        assert ended.status == 0 and str(path) in ended.out
    csv, parquet = pd.read_csv(paths[0]), pd.read_parquet(paths[1])
    assert list(csv) == list(parquet) and len(csv) == len(parquet) > 0
    for name in csv.select_dtypes("float"):
        np.testing.assert_array_equal(csv[name].to_numpy(), parquet[name].astype(float).to_numpy())
    if what != "runs":
        assert list(csv)[:3] == ["run_id", "step", "probe" if what == "documents" else "tokens"]
        steps = csv.groupby("run_id", sort=False)["step"]
        assert all(values.is_monotonic_increasing for _, values in steps) and len(steps) == 6


def test_an_unknown_ending_writes_nothing(tmp_path):
    with pytest.raises(InputError, match="ending"):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "new" / "table.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_keeps_its_runs_and_takes_new_ones(tmp_path, finished_runs):
    assert lay_out(tmp_path, "one", finished_runs[:2]) == finished_runs[:2]
    assert lay_out(tmp_path, "two", finished_runs[1:4]) == finished_runs[:4] == read_configs(tmp_path)
    assert (tmp_path / "sweep.yaml").read_text() == "two"
    # A crash before the manifest leaves a folder that the next attempt finds and fills.
    (tmp_path / "manifest.json").write_text(json.dumps({"runs": [finished_runs[1].run_id]}))
    assert lay_out(tmp_path, "three", finished_runs[:2]) == [finished_runs[1], finished_runs[0]]


def test_a_folder_keeps_the_specs_it_was_run_with(tmp_path, finished_runs):
    for text in ("one", "two", "two", "three"):
        lay_out(tmp_path, text, finished_runs[:1])
    kept = {path.name: path.read_text() for path in tmp_path.glob("sweep*")}
    assert kept == {"sweep-1.yaml": "one", "sweep-2.yaml": "two", "sweep.yaml": "three"}


def test_a_folder_keeps_the_hashes_of_its_texts(tmp_path):
    (tmp_path / "sweep.yaml").write_text("one")
    facts = {name: {"corpus": "c", "tokenizer": "t", "tokens": name} for name in "abc"}
    check_data(tmp_path, {"first": facts["a"]})  # nothing is recorded yet
    record_environment(tmp_path, [], {"first": facts["a"], "second": facts["b"]})
    check_data(tmp_path, {"second": facts["b"], "third": facts["c"]})
    record_environment(tmp_path, [], {"third": facts["c"]})
    recorded = json.loads((tmp_path / "environment.json").read_text())["data"]
    assert recorded == {"first": facts["a"], "second": facts["b"], "third": facts["c"]}
    with pytest.raises(InputError, match=r"environment.json: data.first: got 'a', expected 'b'.*a new --out folder"):
        check_data(tmp_path, {"third": facts["c"], "first": facts["b"]})


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"data": []}', '{"data": {"first": 1}}'])
def test_a_damaged_record_of_texts_is_named(tmp_path, text):
    (tmp_path / "environment.json").write_text(text)
    with pytest.raises(InputError, match=r"environment.json: data"):
        check_data(tmp_path, {})


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_list_of_runs_is_named(tmp_path, finished_runs, text):
    lay_out(tmp_path, "", finished_runs[:1])
    (tmp_path / "manifest.json").write_text(text)
    for read in (read_configs, lambda out: lay_out(out, "", finished_runs[:1])):
        with pytest.raises(InputError, match="manifest.json"):
            read(tmp_path)
