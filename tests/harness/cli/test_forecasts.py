"""`isogap predict --register` and `--score`: forecasts from a stranger's table, and their scores on later runs."""

import json

import numpy as np
import pandas as pd
import pytest

from harness import score_forecasts

ROLES = ("--set", "N=params", "--set", "D=tokens", "--set", "L=loss")
POINTS = ("--at", "N=2B,D=100B", "--at", "N=4B,D=100B", "--at", "N=1e12,D=1e13")


def loss(n, d):
    return 1.8 + 480 * n**-0.35 + 2000 * d**-0.37


def runs_at(n, d, seed=0):
    """Runs of Chinchilla's law in the columns of a stranger."""
    noise = np.exp(0.003 * np.random.default_rng(seed).standard_normal(len(n)))
    return pd.DataFrame({"params": n, "tokens": d, "loss": loss(n, d) * noise})


@pytest.fixture(scope="module")
def fits(tmp_path_factory, call_isogap):
    """The fit of one table; and a file of the fits of two corpora, which are that fit twice."""
    folder = tmp_path_factory.mktemp("fits")
    rng = np.random.default_rng(3)
    runs_at(10 ** rng.uniform(6, 9, 40), 10 ** rng.uniform(8, 11, 40)).to_csv(folder / "runs.csv", index=False)
    fit = ("fit", folder / "runs.csv", "--law", "chinchilla", *ROLES, "--bootstrap", "0", "--no-sensitivity")
    assert call_isogap(*fit, "--json", folder / "fit.json") == 0
    result = json.loads((folder / "fit.json").read_text())
    groups = {"by": "corpus", "groups": {"code": result, "web": result}}
    (folder / "groups.json").write_text(json.dumps(groups))
    return folder


@pytest.fixture
def later(tmp_path):
    """The runs of two of the three points, the second of them by two seeds, and a run elsewhere."""
    n, d = np.array([2e9, 4e9 * 1.01, 4e9, 1e9]), np.array([1e11, 1e11, 1e11, 1e9])
    runs_at(n, d, seed=5).to_csv(tmp_path / "later.csv", index=False)
    return tmp_path / "later.csv"


def test_forecasts_are_registered_once_and_scored(fits, later, tmp_path, isogap):
    file = tmp_path / "forecasts.jsonl"
    told = isogap("predict", fits / "fit.json", *POINTS, "--register", file)
    assert told.status == 0 and f"3 registered in {file}, which has 3 lines now; SHA-256 of the last" in told.out
    again = isogap("predict", fits / "fit.json", *POINTS, "--register", file)
    assert again.status == 0 and f"3 of 3 forecasts are in {file} already" in again.out
    predicted = json.loads(isogap("predict", fits / "fit.json", *POINTS, "--json").out)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["prediction"] for line in lines] == [row["prediction"] for row in predicted]
    assert [line["run_high"] for line in lines] == [row["run_high"] for row in predicted]
    assert lines[0]["point"] == {"N": 2e9, "D": 1e11} and lines[0]["rows"] == 40 and lines[0]["law"] == "chinchilla"
    ended = isogap("predict", "--score", file, later, *ROLES, "--json")
    found = json.loads(ended.out)
    assert ended.status == 0, ended.err
    runs = pd.read_csv(later)
    first, second = found["forecasts"]
    assert (first["rows"], second["rows"]) == ([1], [2, 3])
    assert first["measured"] == runs.loss[0] and second["measured"] == pytest.approx(runs.loss[1:3].mean())
    assert second["measured_se"] == pytest.approx(abs(runs.loss[1] - runs.loss[2]) / 2)
    assert first["error"] == pytest.approx(lines[0]["prediction"] / runs.loss[0] - 1)
    assert first["covered"] and second["covered"] and [each["line"] for each in found["missing"]] == [3]
    assert score_forecasts(file, later, set={"N": "params", "D": "tokens", "L": "loss"}).to_dict() == found
    shown = isogap("predict", later, "--score", file, *ROLES).out
    assert "1 of 3 forecasts not measured yet:\n  line 3: chinchilla, L at N=1e+12,D=1e+13" in shown


def test_a_change_of_the_file_is_refused(fits, later, tmp_path, isogap):
    file = tmp_path / "forecasts.jsonl"
    added = json.loads(isogap("predict", fits / "fit.json", *POINTS, "--register", file, "--json").out)["added"]
    value = str(added[1]["prediction"])
    file.write_text(file.read_text().replace(value, "2.0"))
    for command in (("predict", later, "--score", file, *ROLES),
                    ("predict", fits / "fit.json", "--at", "N=1e9,D=1e10", "--register", file)):  # fmt: skip
        refused = isogap(*command)
        assert refused.status == 2 and refused.out == "" and "line 2: got 'a line that does not fit" in refused.err


def test_forecasts_of_groups_are_scored_on_the_runs_of_each(fits, later, tmp_path, isogap):
    file = tmp_path / "forecasts.jsonl"
    assert isogap("predict", fits / "groups.json", "--at", "N=2B,D=100B", "--register", file).status == 0
    only = ("--at", "N=4B,D=100B", "--group", "web", "--register", file)
    assert isogap("predict", fits / "groups.json", *only).status == 0
    groups = [json.loads(line)["group"] for line in file.read_text().splitlines()]
    assert groups == ["code", "web", "web"]
    table = pd.read_csv(later).assign(corpus=["web", "web", "code", "web"])
    table.to_csv(later, index=False)
    found = json.loads(isogap("predict", later, "--score", file, *ROLES, "--json").out)
    assert [(each["line"], each["rows"]) for each in found["forecasts"]] == [(2, [1]), (3, [2])]
    where = ("--where", "corpus == 'code'")
    refused = isogap("predict", later, "--score", file, *ROLES, *where, "--json")
    assert json.loads(refused.out)["forecasts"] == []


def test_the_fit_of_an_older_version_predicts_but_registers_nothing(fits, tmp_path, isogap):
    content = json.loads((fits / "fit.json").read_text())
    del content["rows_sha256"]
    old = tmp_path / "old.json"
    old.write_text(json.dumps(content))
    assert isogap("predict", old, "--at", "N=1e9,D=1e10").status == 0
    refused = isogap("predict", old, "--at", "N=1e9,D=1e10", "--register", tmp_path / "f.jsonl")
    assert refused.status == 2 and "rows_sha256: missing, expected the hash of the fitted rows" in refused.err
    assert not (tmp_path / "f.jsonl").exists()


def test_options_that_do_not_go_together(fits, later, tmp_path, isogap):
    file = tmp_path / "f.jsonl"
    for command, reason in (
        (("predict", later, "--score", file, "--at", "N=1,D=1"), "options: got '--at', expected no such option with"),
        (("predict", fits / "fit.json", *POINTS, "--where", "N > 1"), "got '--where', expected no such option without"),
        (
            ("predict", fits / "fit.json", *POINTS, "--register", tmp_path / "no" / "f.jsonl"),
            "--register: got 'no such",
        ),
        (("predict", fits / "fit.json", *POINTS, "--register", file, "--through", fits / "fit.json"), "no --through"),
        (("predict", later, "--score", file), "no such file"),
    ):
        refused = isogap(*command)
        assert refused.status == 2 and reason in refused.err, refused.err
