"""`isogap fit`, `compare` and `predict` on strangers' tables: groups, points with the table's own names, refusals."""

import json

import numpy as np
import pandas as pd
import pytest

QUICK = ("--bootstrap", "0", "--no-sensitivity")


def loss(n, d):
    return 1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Runs of two corpora in the units and with the names of a stranger; the losses of `code` are lower by 0.5."""
    rng = np.random.default_rng(3)
    n, d = 10 ** rng.uniform(7, 9, 60), 10 ** rng.uniform(9, 11, 60)
    corpus = np.resize(["web", "code"], 60)
    measured = (loss(n, d) - 0.5 * (corpus == "code")) * np.exp(1e-3 * rng.standard_normal(60))
    path = tmp_path_factory.mktemp("strangers") / "runs.csv"
    columns = {"Params (M)": n / 1e6, "Tokens (B)": d / 1e9, "Val Loss": measured, "corpus": corpus}
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def groups(table, tmp_path_factory, call_isogap):
    path = tmp_path_factory.mktemp("fits") / "groups.json"
    assert call_isogap("fit", table, "--law", "chinchilla", "--by", "corpus", *QUICK, "--json", path) == 0
    return path


@pytest.mark.slow
def test_predictions_of_a_fit_by_groups(groups, isogap):
    rows = json.loads(isogap("predict", groups, "--at", "N=100M,D=10B", "--json").out)
    at = {row["corpus"]: row["prediction"] for row in rows}
    assert at["web"] == pytest.approx(loss(1e8, 1e10), abs=0.02)
    assert at["code"] == pytest.approx(loss(1e8, 1e10) - 0.5, abs=0.02)
    (one,) = json.loads(isogap("predict", groups, "--at", "N=100M,D=10B", "--group", "code", "--json").out)
    assert one == rows[0]
    refused = isogap("predict", groups, "--at", "N=1e8,D=1e10", "--group", "books")
    assert refused.status == 2 and "--group: got 'books', expected one of the groups code, web" in refused.err


def test_a_point_names_its_group_and_a_warning_does(groups, isogap):
    (one,) = json.loads(isogap("predict", groups, "--at", "N=100M,D=10B,corpus=web", "--json").out)
    assert one["corpus"] == "web" and one["prediction"] == pytest.approx(loss(1e8, 1e10), abs=0.02)
    refused = isogap("predict", groups, "--at", "N=1e8,D=1e10,corpus=books")
    assert refused.status == 2 and "corpus: got 'books', expected one of the groups code, web" in refused.err
    refused = isogap("predict", groups, "--at", "N=1e8,D=1e10,domain=web")
    assert refused.status == 2 and "a group of this fit is corpus=NAME or --group NAME" in refused.err
    refused = isogap("predict", groups, "--at", "N=1e8,D=1e10,corpus=web", "--at", "N=1e8,D=1e10")
    assert refused.status == 2 and "corpus=NAME in every point, or in none" in refused.err
    far = isogap("predict", groups, "--at", "N=1e13,D=1e15").out
    for group in ("code", "web"):
        assert f"warning (far_beyond): corpus {group}: N goes to 1e+13" in far


def test_a_fit_by_groups_is_allocated_for_each(groups, isogap):
    """Along a budget the loss of both corpora is least where that of the law is; that of `code` is lower by 0.5."""
    ended = isogap("allocate", groups, "--flops", "1e20", "--json")
    found = json.loads(ended.out)
    assert ended.status == 0 and found["by"] == "corpus", ended.err
    n = np.geomspace(1e8, 1e10, 20001)
    along = loss(n, 1e20 / (6 * n))
    for group, shift in (("code", 0.5), ("web", 0.0)):
        (budget,) = found["groups"][group]
        assert budget["N"] == pytest.approx(n[np.argmin(along)], rel=0.15)
        assert budget["loss"] == pytest.approx(along.min() - shift, abs=0.02)
    shown = isogap("allocate", groups, "--flops", "1e20").out
    assert "corpus code\n" in shown and "corpus web\n" in shown


def test_points_of_a_group_are_predicted_by_its_fit(table, groups, isogap):
    ended = isogap("predict", groups, "--points", table, "--json")
    rows, runs = pd.DataFrame(json.loads(ended.out)), pd.read_csv(table)
    assert len(rows) == len(runs) and ended.status == 0
    for row in (0, 17, 42):
        (found,) = rows.loc[rows["Params (M)"] == runs["Params (M)"][row]].to_dict("records")
        assert found["corpus"] == runs["corpus"][row] and found["N"] == pytest.approx(1e6 * found["Params (M)"])
        assert found["prediction"] == pytest.approx(runs["Val Loss"][row], rel=0.01)
    assert "N = Params (M) x 1e+06" in ended.err


def test_points_take_roles_by_hand(groups, isogap, tmp_path):
    (tmp_path / "points.csv").write_text("width;data\n1000;2,5\n2000;5,0\n")
    roles = ("--set", "N=12*width**2", "--set", "D=1e9*data")
    ended = isogap("predict", groups, "--points", tmp_path / "points.csv", *roles, "--group", "web", "--json")
    rows = json.loads(ended.out)
    assert [(row["N"], row["D"]) for row in rows] == [(1.2e7, 2.5e9), (4.8e7, 5e9)]
    missing = isogap("predict", groups, "--points", tmp_path / "points.csv", "--set", "N=width", "--json")
    assert missing.status == 2 and "expected a column for the role D (--set D=...)" in missing.err


@pytest.mark.slow
def test_rankings_by_group(table, isogap, tmp_path):
    path = tmp_path / "ranks.json"
    ended = isogap("compare", table, "--laws", "chinchilla,kaplan", "--by", "corpus", "--json", path)
    assert ended.status == 0, ended.err
    told = json.loads(path.read_text())
    assert told["by"] == "corpus" and list(told["groups"]) == ["code", "web"]
    assert all({row["law"] for row in rows} == {"chinchilla", "kaplan"} for rows in told["groups"].values())
    assert all(rows[0]["heldout_score"] >= rows[1]["heldout_score"] for rows in told["groups"].values())
    assert "corpus code" in ended.out and "corpus web" in ended.out


def test_held_out_rows_in_the_terminal_and_in_the_json(table, isogap, tmp_path):
    path = tmp_path / "fit.json"
    options = ("--law", "chinchilla", "--where", "corpus == 'web'", "--holdout", "`Params (M)` > 500")
    ended = isogap("fit", table, *options, "--bootstrap", "20", "--no-sensitivity", "--holdout-rows", "--json", path)
    held = json.loads(path.read_text())["holdout"]
    runs = pd.read_csv(table)
    chosen = (runs["corpus"] == "web").to_numpy() & (runs["Params (M)"] > 500).to_numpy()
    out = 1 + np.flatnonzero(chosen)
    assert [row["row"] for row in held["by_row"]] == list(out) and held["rows"] == len(out)
    assert "held-out rows" in ended.out and f"│  {out[0]} │" in ended.out and 0 <= held["coverage"] <= 1
    assert "held-out rows" not in isogap("fit", table, *options, *QUICK).out


@pytest.mark.parametrize("command", ["fit --law chinchilla", "compare --laws chinchilla", "allocate --flops 1e20"])
def test_no_folder_for_the_json_is_refused_before_the_work(command, table, isogap, tmp_path):
    name, *options = command.split()
    ended = isogap(name, table, *options, "--json", tmp_path / "nowhere" / "out.json")
    assert ended.status == 2 and "--json: got 'no such folder'" in ended.err and ended.out == ""


@pytest.mark.slow
def test_a_role_that_the_law_does_not_read_is_said(table, isogap):
    ended = isogap("fit", table, "--law", "chinchilla", "--set", "lr=corpus", *QUICK)
    assert ended.status == 2 and "column corpus: got 'web', expected numbers" in ended.err
    ended = isogap("fit", table, "--law", "chinchilla", "--set", "U=Tokens (B)", *QUICK)
    assert ended.status == 0 and "--set U=Tokens (B): nothing here reads this role" in ended.out


def test_too_few_rows_name_the_roles(table, isogap):
    ended = isogap("fit", table, "--law", "chinchilla", "--where", "`Params (M)` < 15")
    assert ended.status == 2 and "rows with usable N, D, L" in ended.err


def test_the_bounds_of_a_law_say_their_unit(isogap):
    told = isogap("laws", "chinchilla").out
    assert "searched from" in told and "divided by its median" in told
    assert "divided by" not in isogap("laws", "multi_power").out
