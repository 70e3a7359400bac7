"""Twins and mixtures through `isogap run`: what is recorded of a pair, however it was interrupted."""

import json

import numpy as np
import pytest
import yaml

from harness.data.store import prepare
from harness.gaps.cells import details, gap_rows
from harness.gaps.document_losses import read_documents
from harness.record.status import run_folder
from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table
from harness.source import read_runs

SHAPE = {"context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 2, "probe_windows": 24}


@pytest.fixture(scope="module")
def spec(lab, tmp_path_factory):
    """Two pairs of twins, one of them of two seeds' cells, and a run on a mixture of two texts."""
    root = tmp_path_factory.mktemp("twins")
    halves = [root / name for name in ("one", "other")]
    for number, folder in enumerate(halves):
        folder.mkdir()
        for file in sorted(lab.text.glob("*.txt"))[number::2]:
            (folder / file.name).write_text(file.read_text())
    text, mixed = f"text:{lab.text}", {f"text:{folder}": share for folder, share in zip(halves, (1, 3), strict=True)}
    blocks = [
        {"defaults": {"domain": text, "twins": True, "tokens": 9600, "epochs": 4}, "seeds": 2},
        {"defaults": {"domain": mixed, "tokens": 3200, "epochs": 1}},
    ]
    path = root / "twins.yaml"
    path.write_text(yaml.safe_dump({"name": "twins", "defaults": SHAPE, "blocks": blocks}))
    return path


@pytest.fixture(scope="module")
def out(lab, spec, call_isogap, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "sweep"
    assert call_isogap("run", spec, "--out", folder, "--cache", lab.cache) == 0
    return folder


def test_both_of_a_pair_have_its_gap(out):
    table = runs_table(out)
    twins = table[table["half"].notna()]
    assert len(twins) == 4 and sorted(twins["half"]) == ["a", "a", "b", "b"]
    for _, pair in twins.groupby("seed"):
        assert len(set(pair["gap_twin"])) == 1 and np.isfinite(pair["gap_twin"].astype(float)).all()
        assert np.isfinite(pair["gap_control"].astype(float)).all() and len(set(pair["gap_control"])) == 2
    lone = table[table["half"].isna()].iloc[0]
    assert np.isnan(float(lone["gap_twin"])) and np.isfinite(float(lone["gap_probe"]))


def test_what_runs_share_is_part_of_their_error(out):
    rows = read_runs(out, "gap_n_free")
    vectors, errors = np.stack(rows["G_shared"].to_list()), rows["G_se"].to_numpy(float)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), errors, rtol=1e-9)
    seeds, (other,) = np.flatnonzero(rows["estimator"] == "twin"), np.flatnonzero(rows["estimator"] == "probe")
    alike = vectors @ vectors.T / np.outer(errors, errors)
    assert len(seeds) == 2 and abs(alike[seeds[0], seeds[1]]) > 0.01  # they read the same documents
    np.testing.assert_allclose(alike[seeds, other], 0.0, atol=1e-12)  # of another corpus
    in_bytes = read_runs(out, "gap_n_free", units="bytes")
    np.testing.assert_allclose(np.linalg.norm(np.stack(in_bytes["G_shared"].to_list()), axis=1), in_bytes["G_se"])


def test_the_twin_gap_is_that_of_the_recorded_losses(out):
    one = next(config for config in read_configs(out) if config.data.half == "a")
    mine, its = (read_documents(run_folder(out, config.run_id)) for config in (one, one.twin()))
    step = one.steps
    seen = mine.at(step, "seen").loss.sum() - its.at(step, "other").loss.sum()
    other = mine.at(step, "other").loss.sum() - its.at(step, "seen").loss.sum()
    counts = [mine.at(step, name).tokens.sum() for name in ("seen", "other")]
    recorded = json.loads((run_folder(out, one.run_id) / "pair.json").read_text())
    assert recorded["gap_twin"] == pytest.approx((other / counts[1] - seen / counts[0]) / 2)
    # No group of documents is in two of the three sets.
    groups = [set(mine.at(step, name).group.tolist()) for name in ("seen", "other", "heldout")]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert set(its.at(step, "seen").group.tolist()) == groups[1]


@pytest.mark.slow
def test_an_interrupted_pair_has_the_same_gap(lab, spec, out, tmp_path):
    again = tmp_path / "again"
    child = lab.spawn("run", spec, "--out", again, "--cache", lab.cache, "--max-minutes", "0.0001")
    child.communicate(timeout=120)
    child = lab.spawn("run", spec, "--out", again, "--cache", lab.cache)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    for config in read_configs(out):
        for name in ("gap.json", "pair.json"):
            path = run_folder(out, config.run_id) / name
            if path.is_file():
                assert (run_folder(again, config.run_id) / name).read_bytes() == path.read_bytes()


def test_a_mixture_reads_each_part_in_its_share(lab, out):
    (config,) = [config for config in read_configs(out) if " + " in config.data.domain]
    (share, name), _ = config.data.parts
    groups = len(prepare(name, "bytes", lab.cache).group_names)
    for probe in ("seen", "heldout"):
        rows = read_documents(run_folder(out, config.run_id)).at(config.steps, probe)
        windows = [len(set(rows.window[part])) for part in (rows.group < groups, rows.group >= groups)]
        assert windows == [24 * share, 24 * (1 - share)] and share in (0.25, 0.75)


def test_the_report_of_gaps_averages_over_seeds(out, isogap):
    table = runs_table(out)
    (pair, cell), (lone, _) = gap_rows(out, table)
    gaps = table.loc[table["half"] == "a", "gap_twin"].astype(float)
    assert pair["seeds"] == 2 and pair["gap_twin"] == pytest.approx(gaps.mean())
    # The error holds the spread between the seeds.
    # As many tokens as it takes for 2.8 standard errors to shrink to what the law predicts.
    best = min(pair[f"gap_{name}_se"] for name in ("probe", "control", "twin"))
    rows = read_documents(run_folder(out, pair["run_id"])).at(9600 // 32, "seen")
    needed = rows.tokens.sum() * (2.8 * best / pair["predicted_gap"]) ** 2
    assert pair["eval_tokens_needed"] == pytest.approx(needed, rel=0.05)
    assert pair["gap_twin_se"] > gaps.std(ddof=1) / np.sqrt(2) and lone["gap_twin"] is None
    found = details(cell)
    assert found["trajectory"][-1]["gap_twin"] == pytest.approx(gaps.iloc[0]) and set(found["placebos"]) == {
        "probe", "control", "twin",
    }  # fmt: skip
    shown = isogap("gaps", out)
    assert shown.status == 0 and len(shown.out.splitlines()) == 5 and pair["run_id"] in shown.out
    told = isogap("gaps", out, "--run", pair["run_id"], "--json")
    assert json.loads(told.out) == json.loads(json.dumps(found))
    refused = isogap("gaps", out, "--run", "nothing")
    assert refused.status == 2 and "a finished run of" in refused.err


def test_what_a_plan_expects_of_twins(lab, spec, isogap):
    planned = json.loads(isogap("plan", spec, "--json", "--no-calibrate", "--cache", lab.cache).out)
    rows = planned["cells"]
    assert [row["half"] for row in rows] == ["a", "b", "a", "b", None]
    for row in rows:
        predicted = 0.86 * row["N_nonembedding"] ** -0.31 * max(1.0, row["u"]) ** -0.42
        assert row["predicted_gap"] == pytest.approx(predicted)
        assert row["detectable"] == (row["predicted_gap"] >= row["detectable_gap"])
        assert row["eval_tokens_needed"] > 0
    # Twins see smaller gaps than a probe of as many windows.
    assert rows[0]["detectable_gap"] < rows[-1]["detectable_gap"]
