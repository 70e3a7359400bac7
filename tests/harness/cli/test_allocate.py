"""`isogap allocate` from tables of runs and from stored fits."""

import json

import numpy as np
import pandas as pd
import pytest

E, A, B, ALPHA, BETA = 1.8172, 482.01, 2085.43, 0.3478, 0.3658
EXPONENT = BETA / (ALPHA + BETA)
ROLES = "--set N=size --set D=tokens --set L=val_loss".split()


def optimal_size(flops):
    return (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * (flops / 6) ** EXPONENT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """isoFLOP profiles, a fixed ratio of tokens, tables of noise."""
    out, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(5)
    grid = np.geomspace(3e7, 3e10, 25)
    flops, n = np.repeat(np.geomspace(1e18, 1e21, 8), len(grid)), np.tile(grid, 8)
    near = np.abs(np.log(n / optimal_size(flops))) < np.log(10)
    n, d = n[near], flops[near] / 6 / n[near]
    loss = (E + A * n**-ALPHA + B * d**-BETA) * np.exp(0.002 * rng.standard_normal(len(n)))
    table = pd.DataFrame({"size": n, "tokens": d, "val_loss": loss, "spent": 2 * flops[near], "kind": "a"})
    spoiled = table.assign(kind="b", val_loss=9.0)
    pd.concat([table, spoiled]).to_csv(out / "runs.csv", index=False)
    table.assign(tokens=20 * n).to_csv(out / "fixed.csv", index=False)
    pd.DataFrame({"loss": [4.0, 2.0], "sd": [0.02, 0.005]}).to_csv(out / "noise.csv", index=False)
    pd.DataFrame({"loss": [4.0], "noise": [0.02]}).to_csv(out / "other.csv", index=False)
    return out


def answer(isogap, folder, *arguments) -> dict:
    ended = isogap("allocate", folder / "runs.csv", *ROLES, "--where", "kind == 'a'", *arguments, "--json")
    assert ended.status == 0, ended.err
    return json.loads(ended.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize(
    "arguments", ["1", "1 --method hull", "2", "2 --method quadratic --noise .006", "3 --bootstrap 50"]
)
def test_every_approach_finds_the_optimum(arguments, folder, isogap):
    found = answer(isogap, folder, "--approach", *arguments.split(), "--flops", "1e20", "--flops", "4e21")
    for name, truth in (("N", EXPONENT), ("D", 1 - EXPONENT)):
        exponent = found["exponents"][name]
        assert exponent["low"] < truth < exponent["high"] and exponent["low"] < exponent["estimate"] < exponent["high"]
    assert found["counted"] == "6 N D" and [row["flops"] for row in found["budgets"]] == [1e20, 4e21]
    for row in found["budgets"]:
        n = optimal_size(row["flops"])
        d = row["flops"] / 6 / n
        for name, truth in (("N", n), ("D", d), ("tokens_per_parameter", d / n)):
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"], name
            assert row[name] == pytest.approx(truth, rel=0.5 if name == "tokens_per_parameter" else 0.25), name
        assert row["loss"] == pytest.approx(E + A * n**-ALPHA + B * d**-BETA, rel=0.01)
        assert row["loss_low"] < row["loss"] < row["loss_high"]


def test_the_given_flops_and_noise_are_used(folder, isogap):
    plain = answer(isogap, folder, "--approach", 2, "--flops", "2e20", "--noise", 0.01)
    counted = answer(isogap, folder, "--approach", 2, "--flops", "4e20", "--noise", 0.01, "--set", "flops=spent")
    assert counted["counted"] == "the column flops"
    assert counted["budgets"][0]["N"] == pytest.approx(plain["budgets"][0]["N"])
    noisier = answer(isogap, folder, "--approach", 2, "--flops", "2e20", "--noise", folder / "noise.csv")
    width = [found["exponents"]["N"]["high"] - found["exponents"]["N"]["low"] for found in (plain, noisier)]
    assert width[0] != width[1] and not {w["code"] for w in noisier["warnings"]} & {"noise_unknown"}


@pytest.mark.slow
def test_a_table_of_tokens_and_flops_has_its_sizes_computed(isogap, tmp_path):
    """A loss whose best D is 2.8e9 (C/1e18)^.54, so that N* ~ C^.46; C = 6 N D, and no column of N."""
    flops, x = (grid.ravel() for grid in np.meshgrid([1e18, 3e18, 1e19, 3e19], np.linspace(-1.2, 1.2, 5)))
    tokens = 2.8e9 * (flops / 1e18) ** 0.54 * np.exp(x)
    table = pd.DataFrame({"budget": flops, "tokens": tokens, "loss": 3 * (flops / 1e18) ** -0.05 + 0.03 * x**2})
    table.to_csv(tmp_path / "tokens.csv", index=False)
    for approach in (1, 2, 3):
        ended = isogap(
            "allocate", tmp_path / "tokens.csv", "--approach", approach, "--flops", "1e20", "--bootstrap", 20,
            "--json", tmp_path / "found.json",
        )  # fmt: skip
        assert ended.status == 0, ended.err
        found = json.loads((tmp_path / "found.json").read_text())
        codes = {warning["code"]: warning["message"] for warning in found["warnings"]}
        assert "no column for N: N = flops/(6 D), " in ended.out
        assert approach == 3 or found["counted"] == "the column flops, of which N = flops/(6 D)"
        assert "3.33 times the largest budget seen" in codes["extrapolated"]
        if approach < 3:  # the loss is no sum of powers of N and D
            assert found["exponents"]["N"]["low"] < 0.46 < found["exponents"]["N"]["high"]
            assert found["exponents"]["N"]["estimate"] == pytest.approx(0.46, abs=0.005)


def test_a_json_table_is_no_stored_fit(isogap, folder, tmp_path):
    """The same runs as CSV, a list of rows, a dictionary of columns and JSON lines: one answer."""
    runs = pd.read_csv(folder / "runs.csv").query("kind == 'a'")
    runs.to_csv(tmp_path / "runs.csv", index=False)
    runs.to_json(tmp_path / "rows.json", orient="records")
    runs.to_json(tmp_path / "lines.json", orient="records", lines=True)
    (tmp_path / "columns.json").write_text(json.dumps(runs.to_dict(orient="list")))
    answers = []
    for name in ("runs.csv", "rows.json", "lines.json", "columns.json"):
        ended = isogap("allocate", tmp_path / name, *ROLES, "--approach", 2, "--flops", "1e20", "--json")
        assert ended.status == 0, ended.err
        answers.append(json.loads(ended.out)["exponents"]["N"]["estimate"])
    assert answers == pytest.approx([answers[0]] * 4, rel=1e-9)


def test_a_table_without_sizes_and_flops_is_refused(isogap, tmp_path):
    pd.DataFrame({"tokens": [1e9, 2e9], "loss": [3.0, 2.9]}).to_csv(tmp_path / "tokens.csv", index=False)
    ended = isogap("allocate", tmp_path / "tokens.csv", "--approach", 2, "--flops", "1e20")
    assert ended.status == 2 and "N = flops/(6 D)" in ended.err and ended.err.count("\n") == 1


def test_groups_are_allocated_on_their_own(folder, isogap, tmp_path):
    """Group b has no optimum; of two halves of group a, each is allocated as it is alone."""
    table = pd.read_csv(folder / "runs.csv")
    half = np.where(np.arange(len(table)) % 2, "odd", "even")
    table.assign(half=np.where(table.kind == "b", "none", half)).to_csv(tmp_path / "halves.csv", index=False)
    command = ("allocate", tmp_path / "halves.csv", *ROLES, "--approach", 2, "--flops", "1e20", "--json")
    ended = isogap(*command, tmp_path / "found.json", "--by", "half")
    assert ended.status == 0 and "half odd" in ended.out, ended.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["by"] == "half" and set(found["groups"]) == {"odd", "even"}
    assert "group_left_out" in ended.out and "half none" in ended.out
    alone = json.loads(isogap(*command, "--where", "half == 'odd'").out)
    assert found["groups"]["odd"]["exponents"] == alone["exponents"]


def test_the_shift_for_z_is_added_and_explained(folder, isogap, tmp_path):
    ended = isogap(
        "allocate", folder / "runs.csv", *ROLES, "--where", "kind == 'a'", "--approach", 1, "--flops", "1e20",
        "--z", 0.74, "--anchor", "1e18", "--json", tmp_path / "found.json",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    (row,) = json.loads((tmp_path / "found.json").read_text())["budgets"]
    assert row["z_factor"] == pytest.approx(100**0.0747, abs=1e-3)
    for word in ("C^0.5747", "C^0.4253", "1e+18", "x1.053", "x1.188", "no one percentage", "no optimum", "6 N D"):
        assert word in ended.out, word


@pytest.mark.slow
def test_a_stored_fit_is_written_or_printed(folder, isogap, tmp_path):
    fitted = tmp_path / "fit.json"
    table = (folder / "runs.csv", *ROLES, "--where", "kind == 'a'")
    assert isogap("fit", *table, "--law", "chinchilla", "--bootstrap", 0, "--json", fitted).status == 0
    printed = isogap("allocate", fitted, "--json", "--flops", "1e20")
    written = isogap("allocate", fitted, "--flops", "1e20", "--json", tmp_path / "rows.json")
    assert printed.status == written.status == 0
    rows = json.loads(printed.out)
    assert rows == json.loads((tmp_path / "rows.json").read_text())
    assert rows[0]["N_exponent"] == pytest.approx(EXPONENT, abs=0.02)
    assert rows[0]["N_low"] < rows[0]["N"] < rows[0]["N_high"]
    assert "tokens_per_parameter" in written.out


REFUSED = [
    ("fixed.csv --approach 1", "D varies"),
    ("fixed.csv --approach 2", "D varies"),
    ("fixed.csv --approach 3", "D varies"),
    ("runs.csv", "--approach"),
    ("runs.csv --approach 4", "--approach"),
    ("runs.csv --approach 1 --method akima", "--method"),
    ("runs.csv --approach 3 --method hull", "--method"),
    ("runs.csv --approach 1 --noise .01", "--noise"),
    ("runs.csv --approach 2 --noise -1", "--noise"),
    ("runs.csv --approach 2 --noise missing.csv", "missing.csv"),
    ("runs.csv --approach 2 --noise {folder}/other.csv", "role sd"),
    ("runs.csv --approach 2 --where size>>", "--where"),
    ("runs.csv --approach 3 --law gap", "chinchilla"),
    ("runs.csv --approach 2 --by size_class", "--by"),
    ("runs.csv --approach 2 --by kind --where kind=='b'", "usable rows"),
    ("missing.json --by kind", "SOURCE"),
    ("runs.csv --approach 1 --z .74", "--anchor"),
    ("runs.csv --approach 1 --z -2 --anchor 1e18", "--z"),
    ("missing.csv --approach 1", "missing.csv"),
    ("missing.json --approach 1", "SOURCE"),
    ("missing.json", "missing.json"),
]


@pytest.mark.parametrize(("arguments", "word"), REFUSED, ids=[arguments for arguments, _ in REFUSED])
def test_unusable_input_is_one_line_and_status_2(arguments, word, folder, isogap):
    name, *options = arguments.format(folder=folder).split()
    roles = [] if name.endswith("json") else ROLES
    ended = isogap("allocate", folder / name, *roles, *options, "--flops", "1e20")
    assert ended.status == 2, ended
    assert ended.err.startswith("isogap: ") and ended.err.count("\n") == 1, ended.err
    assert word in ended.err and "expected" in ended.err


def test_budgets_are_positive(folder, isogap):
    ended = isogap("allocate", folder / "runs.csv", *ROLES, "--approach", 1, "--flops", -1, "--where", "kind == 'a'")
    assert ended.status == 2 and "flops" in ended.err
