"""The commands of `isogap simulate`: a table, the truth beside it, and what to do with them."""

import json
import shlex

import pandas as pd
import pytest
from typer.testing import CliRunner

from harness.cli.commands import app
from sweeps.errors import InputError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_simulate_fit_and_predict(tmp_path):
    """The command that is printed runs as it stands, and its JSON serves `predict`."""
    told = run("simulate", "gap", "classical", "--to", str(tmp_path / "gaps.csv"))
    command = next(line for line in told.splitlines() if line.startswith("isogap fit"))
    fitted = tmp_path / "fit.json"
    printed = run(*shlex.split(command)[1:], "--bootstrap", "30", "--no-sensitivity", "--json", str(fitted))
    assert "beside the truth of gap_classical" in printed
    rows = {row["name"]: row for row in json.loads(fitted.read_text())["truth"]}
    assert rows["z"]["truth"] == 1.0 and abs(rows["z"]["error"]) < 0.01 and rows["z"]["covered"] is not None
    predicted = json.loads(run("predict", str(fitted), "--at", "N=1e6,D=1e8", "--json"))
    assert predicted[0]["prediction"] == pytest.approx(2e-2, rel=0.1)  # 2 N/D


@pytest.mark.parametrize(
    ("arguments", "rows", "exponent"),
    [
        (("random_features", "--sizes", "100,1000,100000", "--modes", "1e9"), 9, 0.5),
        (("jeon_van_roy", "--budgets", "1e8,1e10"), 52, 1.0),
        (("plrf", "--seeds", "0", "--sizes", "32,64,128,256,512"), None, 0.4),
        (("gradient_flow", "--sizes", "8,16", "--samples", "60", "--modes", "100", "--draws", "2"), 28, 0.5),
    ],
)
def test_every_oracle_writes_a_table_of_runs_and_its_truth(tmp_path, arguments, rows, exponent):
    path = tmp_path / "table.parquet"
    told = run("simulate", *arguments, "--to", str(path))
    table, truth = pd.read_parquet(path), json.loads((tmp_path / "table.truth.json").read_text())
    assert rows is None or len(table) == rows
    assert {"run_id", "status", "N_nonembedding", "D", "U", "flops", "val_loss_final100"} <= set(table.columns)
    assert truth["parameters"]["alpha"] == pytest.approx(exponent)
    assert truth["regime"] in told and truth["cost"] in told and f"isogap report {path}" in told


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("gap", "nowhere", "--to", "x.csv"), "WORLD"),
        (("gap", "crossover", "--z", "0.5", "--to", "x.csv"), "--z"),
        (("gap", "source", "--to", "x.txt"), "ending"),
        (("random_features", "--sizes", "10,ten", "--to", "x.csv"), "--sizes"),
        (("random_features", "--sizes", "10.5", "--to", "x.csv"), "whole numbers"),
        (("plrf", "--alpha", "0.1", "--beta", "0.1", "--to", "x.csv"), "alpha"),
    ],
)
def test_unusable_input_is_one_line(tmp_path, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=word):
        run("simulate", *arguments)
    assert not list(tmp_path.iterdir())
