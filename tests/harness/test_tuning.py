"""`isogap tune` from a sweep to its rule, on the shapes that other tests compile."""

import json

import numpy as np
import pytest
import yaml

from harness.record.sweep_folder import read_configs
from harness.record.table import runs_table
from harness.tuning import read_rates
from sweeps.errors import InputError
from sweeps.grid import load

SPEC = """
name: short
defaults: {{domain: "text:{text}", context: 16, width: 16, depth: 1, heads: 2, batch: 2, probe_windows: 8, lr: 0.02}}
blocks:
  - {{name: sizes, grid: {{tokens: [3200, 28800]}}, defaults: {{draws: 2}}}}
"""


@pytest.fixture(scope="module")
def spec(lab, tmp_path_factory):
    file = tmp_path_factory.mktemp("tuning") / "short.yaml"
    file.write_text(SPEC.format(text=lab.text))
    return file


@pytest.mark.slow
def test_a_tuned_sweep(spec, lab, isogap, tmp_path, monkeypatch):
    out, answer = tmp_path / "tuned", tmp_path / "rates.json"
    # Rates far too low: the best is the last that was tried, and no number is claimed.
    tune = ("tune", spec, "--out", out, "--cache", lab.cache, "--json", answer, "--factors")
    ended = isogap(*tune, "0.01,0.02,0.04,0.08")
    assert ended.status == 0 and "add higher rates" in ended.out
    found = json.loads(answer.read_text())
    assert [size["status"] for size in found["sizes"]] == ["highest", "highest"] and found["rules"] == []
    assert [size["lr"] for size in found["sizes"]] == [None, None]
    assert {warning["code"] for warning in found["warnings"]} == {"optimum_highest"}
    # Further rates are added to these.
    ended = isogap(*tune, "0.16,0.32,0.64,1.28")
    assert ended.status == 0
    found = json.loads(answer.read_text())
    table = runs_table(out)
    assert len(table) == 2 * 2 * 8
    for size in found["sizes"]:
        rows = table[table["D"] == size["D"]]
        assert size["rates"] == sorted(set(rows["lr"])) and size["replicates"] == 2
        means = [rows["heldout_loss"][rows["lr"] == lr].mean() for lr in size["rates"]]
        assert size["losses"] == pytest.approx(means)
        assert size["status"] in ("ok", "flat")  # at one size the losses may be too noisy to tell
        if size["lr"] is not None:
            assert abs(np.log(size["lr"] / size["rates"][int(np.argmin(means))])) < np.log(2)
            assert (size["ci_low"] or 0) < size["lr"] < (size["ci_high"] or np.inf)
    (rule,) = found["rules"]
    known = [size for size in found["sizes"] if size["lr"] is not None]
    assert rule["setting"] in ended.out and list(rule["powers"]) == ["tokens"] * (len(known) > 1)
    # The printed line is a setting of a sweep, whose rates are those of the rule.
    pasted = yaml.safe_load(spec.read_text())
    pasted["defaults"] |= yaml.safe_load(rule["setting"])
    (tmp_path / "pasted.yaml").write_text(yaml.safe_dump(pasted))
    for run in load(tmp_path / "pasted.yaml").configs:
        powers = [(run.tokens / rule["at"][name]) ** power["estimate"] for name, power in rule["powers"].items()]
        assert run.optimizer.lr == pytest.approx(rule["c"]["estimate"] * np.prod(powers), rel=0.01)
    # A third call trains nothing.
    monkeypatch.setattr("harness.launch.sweep.run_packs", lambda *_: pytest.fail("it was about to train"))
    assert isogap(*tune, "0.16,0.32").status == 0
    assert read_rates(out, ["batch_tokens"]).rules.keys() == {rule["recipe"]}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--factors", "1,x"), "--factors: value: got '1,x', expected numbers with commas"),
        (("--factors", "0,1"), "--factors: value: got [0.0, 1.0], expected numbers above 0"),
        (("--between", "0.1,0.01"), "--between: value: got [0.1, 0.01], expected the lowest and the highest rate"),
        (("--between", "0.01,0.1", "--factors", "1"), "--factors: value: got [1.0], expected no --between"),
        (("--over", "width,depth"), "--over: value: got 'depth', expected some of params, width"),
    ],
)
def test_bad_options_are_refused_before_anything_is_trained(options, complaint, spec, lab, isogap, tmp_path):
    ended = isogap("tune", spec, "--out", tmp_path / "new", "--cache", lab.cache, *options)
    assert ended.status == 2 and complaint in ended.err and not (tmp_path / "new").exists()


def test_a_folder_that_was_not_tuned_is_refused(finished):
    assert len(read_configs(finished)) == 6
    with pytest.raises(InputError, match="expected a folder that `isogap tune` has filled"):
        read_rates(finished.parent / "sweep")


@pytest.mark.slow
def test_the_best_rate_moves_with_the_width_in_the_standard_parametrisation_only(lab, text_folder, isogap, tmp_path):
    powers = {}
    rates = {"standard": {"rule": "power", "c": 0.012, "width": {"at": 16, "p": -1}}, "complete_p": 0.012}
    for name, lr in rates.items():
        defaults = {"domain": f"text:{text_folder}", "context": 32, "depth": 1, "tokens": 150_000, "schedule": "cosine"}
        sizes = {"parametrization": name, "base_width": 16, "base_depth": 1, "lr": lr}
        spec = {"name": name, "defaults": defaults | sizes, "blocks": [{"grid": {"width": [16, 64]}, "seeds": 2}]}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(spec))
        out, answer = tmp_path / name, tmp_path / f"{name}.json"
        ended = isogap("tune", tmp_path / f"{name}.yaml", "--out", out, "--cache", lab.cache, "--json", answer)
        assert ended.status in (0, 3), ended.err
        (rule,) = json.loads(answer.read_text())["rules"]
        powers[name] = rule["powers"]["width"]
        print(name, powers[name], ended.out)
    # muP: AdamW's best rate falls as 1/width, and in CompleteP it stays.
    assert powers["standard"]["ci_high"] < -0.4 and abs(powers["standard"]["estimate"] + 1) < 0.4
    assert abs(powers["complete_p"]["estimate"]) < 0.35
