"""`isogap import`: what it writes, what it says, and what it refuses before it writes."""

import builtins
import sys

import pandas as pd
import pytest

LINES = [
    {
        "name": f"r{i}",
        "state": "finished",
        "config": {"n_params": 1e7 * 2**i, "tokens": 1e9 / 2**i, "n": "all"},
        "val_loss": 3.0 + i,
    }
    for i in range(6)
]


@pytest.fixture
def export(tmp_path):
    path = tmp_path / "export.json"
    pd.DataFrame(LINES).to_json(path, orient="records")
    return path


def test_the_table_is_read_by_the_other_commands(export, tmp_path, isogap):
    done = isogap("import", "wandb", export, "--to", tmp_path / "runs.csv")
    assert (done.status, done.err) == (0, "")
    assert f"{export}: isogap fit takes N = n_params, D = tokens, L = val_loss" in done.out
    assert done.out.endswith(f"6 runs in {tmp_path / 'runs.csv'}\n")
    done = isogap("frontier", tmp_path / "runs.csv", "--set", "flops=6*n_params*tokens", "--to", tmp_path / "best.csv")
    assert done.status == 0 and "of 6 runs" in done.out


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_both_tables_are_written(ending, tmp_path, isogap):
    chart = pd.DataFrame({"Step": [1, 2], "a - loss": [3.0, 2.0], "a - loss__MIN": [3.0, 2.0]})
    chart.to_csv(tmp_path / "chart.csv", index=False)
    runs, curves = tmp_path / f"runs.{ending}", tmp_path / f"curves.{ending}"
    assert isogap("import", "wandb", tmp_path / "chart.csv", "--to", runs, "--curves", curves).status == 0
    read = {"csv": pd.read_csv, "parquet": pd.read_parquet}[ending]
    assert read(runs).to_dict("list") == {"run_id": ["a"], "loss": [2.0]}
    assert read(curves).to_dict("list") == {"run_id": ["a", "a"], "step": [1, 2], "loss": [3.0, 2.0]}


def test_what_cannot_be_done_is_one_line_and_nothing_is_written(export, tmp_path, isogap):
    before = export.read_bytes()
    files = set(tmp_path.iterdir())
    for arguments in (
        ("tensorboard", tmp_path, "--to", tmp_path / "runs.csv"),
        ("wandb", tmp_path / "none", "--to", tmp_path / "runs.csv"),
        ("wandb", export, "--to", tmp_path / "runs.xlsx"),
        ("wandb", export, "--to", tmp_path / "runs.csv", "--curves", tmp_path / "curves.txt"),
        ("wandb", export, "--to", tmp_path / "runs.csv", "--curves", tmp_path / "runs.csv"),
        ("wandb", export, "--to", tmp_path / "runs.csv", "--curves", tmp_path / "curves.csv"),  # it has none
        ("wandb", export.rename(tmp_path / "e.csv"), "--to", tmp_path / "e.csv"),
    ):
        done = isogap("import", *arguments)
        assert (done.status, done.out) == (2, "") and done.err.count("\n") == 1, arguments
    assert (tmp_path / "e.csv").read_bytes() == before and len(set(tmp_path.iterdir())) == len(files)


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb", "trackio"])
def test_a_package_that_is_missing_is_named_with_what_installs_it(tracker, tmp_path, isogap, monkeypatch):
    (tmp_path / "run.wandb").write_bytes(b"")
    for name in [name for name in sys.modules if name.partition(".")[0] == tracker or "tables.trackers" in name]:
        monkeypatch.delitem(sys.modules, name)
    load = builtins.__import__

    def refuse(name, *more):
        if name.partition(".")[0] == tracker:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, *more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setitem(sys.modules, tracker, None)
    done = isogap("import", tracker, tmp_path, "--to", tmp_path / "runs.csv")
    assert (done.status, done.err) == (2, f"isogap: {tracker} is not installed: pip install 'isogap[{tracker}]'\n")
