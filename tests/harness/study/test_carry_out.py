"""A small study through its sweeps: block by block, on from its table alone, and stopped by the clock."""

import json
import shutil

import pandas as pd
import pytest
import yaml

from harness.study.carry_out import carry_out, runs_left
from harness.study.cells import study_runs
from harness.study.studies import Study
from harness.train.session import Session
from sweeps.errors import InputError

# The shape of the sweep of twins, so that its programs are compiled once.
SHAPE = {"context": 16, "width": 16, "depth": 1, "heads": 2, "batch": 2, "probe_windows": 24, "epochs": 1}


def gaps(table: pd.DataFrame) -> dict[str, float]:
    return dict(zip(table["run_id"], table["gap_twin"], strict=True))


@pytest.fixture(scope="module")
def study(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    spec = {
        "name": "small",
        "defaults": SHAPE | {"domain": f"text:{lab.text}", "twins": True, "draws": 3},
        "blocks": [
            {"name": "once", "grid": {"tokens": [3200, 6400]}},
            {"name": "nuisances", "defaults": {"tokens": 1600}},
        ],
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(spec))
    return Study(name="small", question="?", sweeps=(str(folder / "small.yaml"),), judge="gap"), folder / "out"


@pytest.fixture(scope="module")
def finished(study, lab):
    declared, out = study
    assert carry_out(declared, out, Session(out, lab.cache)) == 0
    return declared, out


@pytest.mark.slow
def test_every_block_has_a_folder_and_the_table_all_runs(finished):
    _, out = finished
    table = pd.read_parquet(out / "runs.parquet")
    assert dict(table["block"].value_counts()) == {"once": 12, "nuisances": 6} and set(table["status"]) == {"done"}
    assert {folder.name for folder in (out / "small").iterdir() if folder.is_dir()} == {"once", "nuisances"}
    assert len(json.loads((out / "verdict.json").read_text())["claims"]) == 15


@pytest.mark.slow
def test_a_folder_stands_for_the_table_in_it_and_names_its_sweeps(finished, isogap, tmp_path):
    _, out = finished
    pages = [tmp_path / name / "page.html" for name in ("of_folder", "of_table")]
    for source, page in zip((out, out / "runs.parquet"), pages, strict=True):
        page.parent.mkdir()
        assert isogap("report", source, "--to", page).status == 0
    assert pages[0].with_name("verdict.json").read_bytes() == pages[1].with_name("verdict.json").read_bytes()


def test_the_folder_of_another_study_is_refused_before_anything_is_run(study, lab, tmp_path):
    declared, _ = study
    pd.DataFrame({"run_id": ["a", "b"], "block": ["once", "pruned"]}).to_parquet(tmp_path / "runs.parquet")
    before = (tmp_path / "runs.parquet").read_bytes()
    with pytest.raises(InputError, match="block: got 'pruned', expected blocks of the study small alone"):
        carry_out(declared, tmp_path, Session(tmp_path, lab.cache))
    assert [file.name for file in tmp_path.iterdir()] == ["runs.parquet"]
    assert (tmp_path / "runs.parquet").read_bytes() == before


@pytest.mark.slow
def test_runs_of_an_earlier_version_of_the_sweep_are_not_in_the_table(finished, tmp_path):
    _, out = finished
    folder = shutil.copytree(out / "small" / "once", tmp_path / "once")
    spec = yaml.safe_load((folder / "sweep.yaml").read_text())
    spec["blocks"][0]["grid"]["tokens"] = [3200]
    (folder / "sweep.yaml").write_text(yaml.safe_dump(spec))
    assert len(study_runs(out / "small" / "once")) == 12
    rows = study_runs(folder)
    assert rows["D"].tolist() == [3200] * 6 and sum(gap == gap for gap in gaps(rows).values()) > 0


@pytest.mark.slow
def test_on_another_machine_only_blocks_that_the_table_lacks_are_run(finished, lab, tmp_path):
    declared, out = finished
    table = pd.read_parquet(out / "runs.parquet")
    (tmp_path / "out").mkdir()
    table[table["block"] == "once"].to_parquet(tmp_path / "out" / "runs.parquet")
    assert carry_out(declared, tmp_path / "out", Session(tmp_path / "out", lab.cache)) == 0
    assert {folder.name for folder in (tmp_path / "out" / "small").iterdir() if folder.is_dir()} == {"nuisances"}
    again = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    assert sorted(again["run_id"]) == sorted(table["run_id"]) and again["run_id"].is_unique
    assert gaps(again) == gaps(table)
    assert json.loads((tmp_path / "out" / "verdict.json").read_text()) == json.loads((out / "verdict.json").read_text())


@pytest.mark.slow
def test_on_another_machine_only_runs_that_the_table_lacks_are_run(finished, lab, tmp_path):
    declared, out = finished
    table = pd.read_parquet(out / "runs.parquet")
    pair = table.loc[(table["draw"] == 2) & (table["D"] == 6400), "run_id"]
    # Of a pair of which one run is lost, both are run: the gap was measured on neither alone.
    half = table.loc[(table["draw"] == 1) & (table["D"] == 6400), "run_id"]
    known = table[~table["run_id"].isin([*pair, half.iloc[0]])].reset_index(drop=True)
    known.loc[known["run_id"] == half.iloc[1], "gap_twin"] = None
    (tmp_path / "out").mkdir()
    known.to_parquet(tmp_path / "out" / "runs.parquet")
    assert carry_out(declared, tmp_path / "out", Session(tmp_path / "out", lab.cache)) == 0
    trained = {folder.name for folder in (tmp_path / "out" / "small" / "once" / "runs").iterdir()}
    assert trained == {*pair, *half} and len(trained) == 4
    again = pd.read_parquet(tmp_path / "out" / "runs.parquet")
    assert sorted(again["run_id"]) == sorted(table["run_id"])
    assert gaps(again) == gaps(table)


def test_without_time_nothing_is_begun(study, lab, tmp_path, capsys):
    declared, _ = study
    assert carry_out(declared, tmp_path, Session(tmp_path, lab.cache, max_minutes=1e-9)) == 0
    assert not (tmp_path / "runs.parquet").exists()
    assert (
        f"stopped with {runs_left(declared, tmp_path)} runs to go; the same command goes on" in capsys.readouterr().out
    )


@pytest.mark.slow
def test_a_study_that_was_stopped_is_not_judged(finished, lab, tmp_path, capsys):
    declared, out = finished
    table = pd.read_parquet(out / "runs.parquet")
    table[table["block"] == "once"].to_parquet(tmp_path / "runs.parquet")
    left = len(table[table["block"] != "once"])
    assert left == runs_left(declared, tmp_path) > 0 == runs_left(declared, out)
    assert carry_out(declared, tmp_path, Session(tmp_path, lab.cache, max_minutes=1e-9)) == 0
    assert f"stopped with {left} runs to go" in capsys.readouterr().out
    assert not (tmp_path / "verdict.json").exists() and not (tmp_path / "runs.html").exists()
