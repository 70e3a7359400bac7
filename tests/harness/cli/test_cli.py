"""The command line: one line for unusable input, JSON that parses, and no heavy imports for help."""

import inspect
import json
import math
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness import predict_gap
from harness.cli.commands import app
from harness.cli.table import WORK, function_named

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """40 runs whose gaps obey the gap law, and whose losses Chinchilla's, at published constants."""
    rng = np.random.default_rng(7)
    n, ratio = 10 ** rng.uniform(5, 9, 40), 10 ** rng.uniform(-2, 3, 40)
    d = ratio * n**0.74
    gap = predict_gap(n, d) * (1 + 0.05 * rng.standard_normal(40))
    loss = (1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658) * np.exp(0.003 * rng.standard_normal(40))
    path = tmp_path_factory.mktemp("tables") / "runs.csv"
    pd.DataFrame({"params": n, "D": d, "U": d, "G": gap, "L": loss}).to_csv(path, index=False)
    return path


@pytest.fixture
def files(tmp_path, table, lab) -> dict[str, Path]:
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    (tmp_path / "torn.yaml").write_text("name: [\n")
    (tmp_path / "value.yaml").write_text(lab.spec.read_text().replace("batch: 2", "batch: -2"))
    (tmp_path / "other.json").write_text("{}")
    for name, change in FITS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(FIT | change))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    return {"tmp": tmp_path, "table": table, "spec": lab.spec, "cache": lab.cache}


# A fit without a confidence set, and what makes it none.
FIT = {
    "law": "chinchilla", "formula": "", "source": "runs.csv", "rows": 9, "status": "converged",
    "parameters": {name: dict.fromkeys(("estimate", "se", "ci_low", "ci_high", "published"), 1.0) | {"identified": True}
                   for name in ("E", "A", "B", "alpha", "beta")},
    "objective": {"name": "sum_huber_log", "value": 1.0, "starts": 1,
                  "starts_within_1_percent": 1.0, "distance_from_start": 1.0},
    "identifiability": {"rank": 5, "parameters": 5, "condition": 1.0, "identified_combinations": [], "regime_rows": {},
                        "unbounded_profiles": []},
    "scatter": dict.fromkeys(("tau", "tau_unbiased", "log_residual_sd", "log_residual_sd_without_noise", "residual_sd",
                              "median_abs_relative", "median_noise_relative", "rows_not_positive"), 0.0),
    "holdout": {"rows": 0, "mean_abs_relative_error": None, "rmse": None, "r2": None},
    "sensitivity": [], "warnings": [], "log_likelihood": 0.0,
    "degrees": 6, "draws": {}, "confidence_set": {}, "profiles": {},
}  # fmt: skip
FITS = {
    "listed": {"parameters": []},
    "none": {"parameters": {}},
    "stranger": {"law": "nonesuch"},
    "partly": {"confidence_set": {"E": [1.0]}},
    "worded": {"parameters": FIT["parameters"] | {"E": FIT["parameters"]["E"] | {"estimate": "two"}}},
}
# The arguments, and a word that the line must hold. {tmp}, {table}, {spec} and {sweep} are paths.
REFUSED = [
    ("plan {tmp}/missing.yaml", "missing.yaml"),
    ("plan {tmp}/list.yaml", "list.yaml"),
    ("plan {tmp}/torn.yaml", "line 2"),
    ("run {tmp}/missing.yaml --out {tmp}/out", "missing.yaml"),
    ("run {tmp}/value.yaml --out {tmp}/out", "batch"),
    ("run {spec} --out {tmp}/out --executor slurm", "--executor"),
    ("run {spec} --out {tmp}/out --hosts localhost", "--hosts"),
    ("run {spec} --out {tmp}/out --hosts localhost:1234,2,2", "--hosts"),
    ("run {spec} --out {tmp}/out --hosts localhost:1234,2,0 --workers 2", "--hosts"),
    ("run {spec} --out {tmp}/file/out --cache {cache}", "/file: path: got 'a file', expected a folder"),
    ("study ema --out {tmp}/file --cache {cache}", "/file: path: got 'a file', expected a folder"),
    ("status {tmp}/file", "/file: path: got 'a file', expected a folder"),
    ("status {tmp}/empty", "manifest.json: missing"),
    ("study ema", "--out: missing, expected a folder for its sweeps and results, as in --out runs/ema"),
    ("status {tmp}/nowhere", "nowhere"),
    ("export {sweep} --what losses --to {tmp}/a.csv", "--what"),
    ("export {sweep} --what runs --to {tmp}/a.xlsx", ".xlsx"),
    ("export {sweep} --what runs --to {tmp}/file/a.csv", "file"),
    ("export {tmp}/empty --what runs --to {tmp}/a.csv", "manifest.json"),
    ("fit {table}", "--law: missing"),
    ("fit {table} --law nonesuch", "nonesuch"),
    ("fit {table} --law aspect_ratio", "w"),
    ("fit {table} --law gap --set params", "--set"),
    ("fit {table} --law gap --set N=size", "size"),
    ("fit {table} --law gap --set N=params --where N>>", "--where"),
    ("fit {tmp}/missing.csv --law gap", "missing.csv"),
    ("fit {tmp}/empty --law gap", "manifest.json"),
    ("fit {sweep} --law gap --estimator guess", "guess"),
    ("compare {table} --laws gap,nonesuch --set N=params", "nonesuch"),
    ("compare {table} --laws gap,chinchilla --set N=params", "--laws"),
    ("universality {table} --by tokenizer --set N=params", "--by"),
    ("universality {table} --by params --law nonesuch --set N=params", "nonesuch"),
    ("universality {table} --by params --set N=params", "at least two values of params"),
    ("collapse {table} --set N=size", "size"),
    ("predict {tmp}/other.json --at N=1,D=1", "other.json"),
    ("predict {tmp}/missing.json --at N=1,D=1", "missing.json"),
    ("predict {tmp}/listed.json --at N=1,D=1", "listed.json"),
    ("predict {tmp}/none.json --at N=1,D=1", "none.json: parameters"),
    ("predict {tmp}/stranger.json --at N=1,D=1", "stranger.json: law"),
    ("predict {tmp}/partly.json --at N=1,D=1", "partly.json: confidence_set"),
    ("predict {tmp}/worded.json --at N=1,D=1", "worded.json: parameters.E.estimate"),
    ("allocate {tmp}/none.json --flops 1e20", "none.json: parameters"),
    ("allocate {tmp}/other.json --flops 1e20", "other.json"),
    ("report {tmp}/empty", "manifest.json"),
    ("report {table}", "--law"),
    ("report {tmp}/missing.csv", "missing.csv"),
    ("report {table} --where D>1", "--law"),
    ("report {table} --law nonesuch", "nonesuch"),
    ("report {table} --law chinchilla --set N=size", "size"),
    ("report {table} --law chinchilla --set N=params --to {tmp}/a.csv", "--to"),
    ("fit {tmp}/missing.csv --law gap --figure {tmp}/a.pdf", "--figure"),
    ("laws nonesuch", "nonesuch"),
    ("frontier {table} --to {tmp}/a.csv --set flops=D --method best", "--method"),
    ("frontier {table} --to {tmp}/a.xlsx --set flops=D", ".xlsx"),
]


@pytest.mark.parametrize(("arguments", "word"), REFUSED, ids=[arguments for arguments, _ in REFUSED])
def test_unusable_input_is_one_line_and_status_2(arguments, word, files, finished, isogap):
    named = arguments.format(**files, sweep=finished).split()
    ended = isogap(*named)
    assert ended.status == 2, ended
    assert ended.err.startswith("isogap: ") and ended.err.count("\n") == 1 and ended.err.endswith("\n"), ended.err
    assert word in ended.err and "expected" in ended.err
    assert not (files["tmp"] / "out").exists()


def test_every_command_has_work_that_takes_its_options():
    declared = [*app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        declared += group.typer_instance.registered_commands
    assert {command.name for command in declared} == WORK.keys()
    for command in declared:
        assert command.name is not None and command.callback is not None
        options = inspect.signature(command.callback).parameters
        work, fixed = WORK[command.name]
        inspect.signature(function_named(work)).bind(**dict.fromkeys(options), **fixed)
        if "simulator" in fixed:
            inspect.signature(function_named(fixed["simulator"])).bind(**dict.fromkeys(options.keys() - {"to"}))


def test_a_missing_extra_is_one_line(monkeypatch, isogap, tmp_path):
    monkeypatch.setitem(sys.modules, "mwparserfromhell", None)
    for name in [name for name in sys.modules if name.startswith("harness.fetch")]:
        monkeypatch.delitem(sys.modules, name)
    ended = isogap("fetch", "corpus", "web", "--cache", tmp_path)
    assert ended.status == 2 and "pip install 'isogap[text]'" in ended.err and ended.err.count("\n") == 1


@pytest.mark.parametrize("command", ["", "run", "fit", "simulate gap", "fetch corpus", "time", "sample"])
def test_help_imports_nothing_heavy(command):
    code = f"""
import sys
sys.argv = ["isogap", *{command.split()!r}, "--help"]
from harness.cli.main import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
# Typer itself imports pydantic to read a command's options, so that alone is not ours to leave out.
heavy = {{"jax", "numpy", "pandas", "scipy", "pyarrow", "orbax", "flax", "plotly", "datasets", "sweeps.config"}}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Usage" in done.stdout, done.stderr


def test_the_first_help_says_what_isogap_does_and_where_to_begin(isogap):
    told = isogap("--help").out.partition("Options:")[0]
    assert "fits scaling laws" in " ".join(told.split()) and "import" not in told
    assert {"fit", "plan", "run", "study"} <= set(re.findall(r"`isogap (\w+)", " ".join(told.split())))


def test_the_version_is_that_of_the_package(isogap):
    ended = isogap("--version")
    assert ended.status == 0 and ended.out.startswith(f"isogap {version('isogap')}, jax {version('jax')}, ")


@pytest.fixture(scope="module")
def fits(table, tmp_path_factory, call_isogap) -> dict[str, Path]:
    """What `isogap fit --json` wrote of both laws."""
    folder = tmp_path_factory.mktemp("fits")
    for law in ("gap", "chinchilla"):
        roles = ("--set", "N=params", "--holdout", "params > 3e8", "--bootstrap", 20)
        assert call_isogap("fit", table, "--law", law, *roles, "--json", folder / f"{law}.json") == 0
    return {law: folder / f"{law}.json" for law in ("gap", "chinchilla")}


def test_a_fit_is_json_with_the_promised_keys(fits):
    promised = {
        "law", "source", "rows", "objective", "status", "parameters", "identifiability", "scatter", "holdout",
        "sensitivity", "warnings",
    }  # fmt: skip
    for law, path in fits.items():
        fitted = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert promised <= fitted.keys() and fitted["law"] == law and fitted["rows"] < 40
        assert {"name", "value"} <= fitted["objective"].keys()
        for parameter in fitted["parameters"].values():
            assert {"estimate", "se", "ci_low", "ci_high", "identified", "published"} <= parameter.keys()
        assert {"rank", "parameters", "condition", "identified_combinations"} <= fitted["identifiability"].keys()
        assert {"tau", "log_residual_sd", "median_abs_relative"} <= fitted["scatter"].keys()
        assert {"rows", "mean_abs_relative_error", "rmse", "r2"} <= fitted["holdout"].keys()
        assert fitted["rows"] + fitted["holdout"]["rows"] == 40
        assert all({"code", "message"} <= warning.keys() for warning in fitted["warnings"])


def test_a_fit_finds_the_law_its_rows_were_made_from(fits):
    loss = json.loads(fits["chinchilla"].read_text())["parameters"]
    assert loss["alpha"]["estimate"] == pytest.approx(0.3478, abs=0.05)
    assert loss["E"]["estimate"] == pytest.approx(1.8172, abs=0.15)
    assert json.loads(fits["gap"].read_text())["holdout"]["mean_abs_relative_error"] < 0.2


@pytest.mark.slow
def test_compare_ranks_the_laws(table, isogap, tmp_path):
    path = tmp_path / "ranks.json"
    ended = isogap("compare", table, "--laws", "chinchilla, saturating", "--set", "N=params", "--json", path)
    assert ended.status == 0, ended.err
    rows = json.loads(path.read_text())
    assert [row["law"] for row in rows][0] == "chinchilla" and len(rows) == 2


def test_a_frontier_is_written_as_a_table(table, isogap, tmp_path):
    ended = isogap("frontier", table, "--to", tmp_path / "front.csv", "--set", "flops=D")
    assert ended.status == 0, ended.err
    runs, front = pd.read_csv(table), pd.read_csv(tmp_path / "front.csv")
    assert 1 < len(front) < 40 and front["D"].is_monotonic_increasing
    assert front["L"].is_monotonic_decreasing
    assert min(front["L"].tolist()) == min(runs["L"].tolist()) and list(front) == list(runs)
    ended = isogap("frontier", table, "--to", tmp_path / "front.csv", "--set", "flops=6*params*D", "--set", "B=D/2")
    assert ended.status == 0 and ended.out.count("\n") == 1, ended.out  # no role is said to be in vain
    front = pd.read_csv(tmp_path / "front.csv")
    assert list(front) == [*runs, "flops", "B"] and front["B"].tolist() == (front["D"] / 2).tolist()
    assert front["flops"].tolist() == pytest.approx((6 * front["params"] * front["D"]).tolist())


def test_predict_and_allocate(fits, isogap, tmp_path):
    pd.DataFrame({"N": [1e7, 1e8], "D": [1e9, 1e10]}).to_csv(tmp_path / "points.csv", index=False)
    at = isogap("predict", fits["chinchilla"], "--at", "N=1e7,D=1e9", "--at", "N=1e8,D=1e10", "--json")
    file = isogap("predict", fits["chinchilla"], "--points", tmp_path / "points.csv", "--json")
    rows = json.loads(at.out)
    assert at.status == file.status == 0 and rows == json.loads(file.out)
    for row, n, d in zip(rows, (1e7, 1e8), (1e9, 1e10), strict=True):
        truth = 1.8172 + 482.01 * n**-0.3478 + 2085.43 * d**-0.3658
        assert any(isinstance(v, float) and math.isclose(v, truth, rel_tol=0.02) for v in row.values())
    (one,) = json.loads(isogap("allocate", fits["chinchilla"], "--flops", "1e19", "--json").out)
    assert 6 * one["N"] * one["D"] == pytest.approx(1e19, rel=1e-6)
    for arguments, word in (
        (("predict", fits["gap"]), "--at"),
        (("predict", fits["gap"], "--at", "N=many"), "N=many"),
        (("allocate", fits["gap"], "--flops", 1e19), "chinchilla"),
        (("allocate", fits["chinchilla"], "--flops", -1), "flops"),
    ):
        ended = isogap(*arguments)
        assert ended.status == 2 and word in ended.err and ended.err.count("\n") == 1


def strict(text: str) -> list[dict]:
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_what_does_not_exist_is_null_in_json(table, isogap, tmp_path):
    fitted, ranks = tmp_path / "fit.json", tmp_path / "ranks.json"
    roles = (table, "--set", "N=params")
    assert isogap("fit", *roles, "--law", "chinchilla", "--bootstrap", 0, "--json", fitted).status == 0
    (point,) = strict(isogap("predict", fitted, "--at", "N=1e7,D=1e9", "--json").out)
    assert point["low"] < point["prediction"] < point["high"] and point["beyond"] is not None
    (budget,) = strict(isogap("allocate", fitted, "--flops", "1e19", "--json").out)
    assert budget["N_low"] < budget["N"] < budget["N_high"]
    blank = json.loads(fitted.read_text()) | {"confidence_set": {}, "extrapolation": {}}
    fitted.write_text(json.dumps(blank))
    (point,) = strict(isogap("predict", fitted, "--at", "N=1e7,D=1e9", "--json").out)
    assert point["low"] is point["high"] is point["beyond"] is None and point["prediction"] > 1.8
    few = ("--where", "index < 7", "--laws", "chinchilla", "--json", ranks)
    ended = isogap("compare", *roles, *few)
    assert ended.status == 0, ended.err
    assert None in {row["aicc"] for row in strict(ranks.read_text())}


def test_status_of_a_finished_sweep(finished, isogap):
    told = json.loads(isogap("status", finished, "--json").out)
    assert {row["state"] for row in told["runs"]} == {"done", "diverged"} and len(told["runs"]) == 6
    assert set(told["runs"][0]) == {
        "run_id", "architecture", "domain", "tokenizer", "state", "step", "steps", "tokens", "train_loss", "reason",
    }  # fmt: skip
    assert told["progress"]["eta_seconds"] == 0 and told["progress"]["tokens"] == told["progress"]["tokens_total"]
    text = isogap("status", finished).out
    assert "1 diverged, 5 done" in text and "100% of the FLOPs; ETA: 0:00:00" in text
    assert all(row["run_id"] in text for row in told["runs"])


def test_plan_of_a_sweep(lab, isogap):
    told = isogap("plan", lab.spec, "--json", "--no-calibrate", "--cache", lab.cache)
    plan = json.loads(told.out)
    assert plan["runs"] == 6 and plan["infeasible"] == 0 and plan["compiles"] == 2 and len(plan["cells"]) == 6
    assert plan["seconds"]["total"] > 0 and plan["flops"] > 0 and len(plan["packs"]) == 2
    assert "6 runs in 2 packs" in isogap("plan", lab.spec, "--no-calibrate", "--cache", lab.cache).out


def test_laws_are_listed(isogap):
    assert "chinchilla" in isogap("laws").out and "u_star" in isogap("laws", "gap").out


def test_a_tokenizer_that_no_package_has_is_refused(call_isogap, capfd, tmp_path):
    assert call_isogap("fetch", "tokenizer", "gpt2", "--cache", tmp_path) == 2
    told = capfd.readouterr().err
    assert told.startswith("isogap: fetch tokenizer: NAME: got 'gpt2'") and told.count("\n") == 1


def test_tokenizers_and_corpora_are_listed(isogap, lab):
    assert "bytes" in isogap("tokenizers").out and "stdlib_code" in isogap("corpora", "--cache", lab.cache).out
