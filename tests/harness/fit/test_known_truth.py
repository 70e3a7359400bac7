"""Truths beside fits: what is covered, what is not identified, and files that are none."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from harness.cli.render import render
from harness.fit.fitting import fit
from harness.fit.known_truth import (
    Truth,
    check_law,
    compare_with_truth,
    fit_command,
    path_of,
    read_truth,
    truth_table,
    write_truth,
)
from harness.fit.laws.registry import get_law
from harness.fit.results.result import FitResult, TruthCheck
from sweeps.errors import InputError


def truth_of(**parameters: float) -> Truth:
    return Truth("nowhere", "exact", "chinchilla", parameters, {"seed": 1}, "1 s", "N > 1e6", {"D": "tokens"})


@pytest.fixture(scope="module")
def fitted(losses) -> FitResult:
    return fit("chinchilla", losses(3), bootstrap=50, sensitivity=False)


def test_constants_are_covered_or_missed(fitted):
    rows = {each.name: each for each in compare_with_truth(fitted, truth_of(alpha=0.3478, beta=0.9, kappa=1.0))}
    assert set(rows) == {"alpha", "beta"}  # the law has no kappa
    assert rows["alpha"].covered is True and rows["beta"].covered is False
    estimate = fitted.parameters["beta"].estimate
    assert estimate is not None and rows["beta"].error == pytest.approx(estimate - 0.9)
    text = render([truth_table(list(rows.values()), truth_of())], 110)
    assert "nowhere" in text and "yes" in text and "no" in text


@pytest.mark.slow
def test_what_a_fit_does_not_identify_is_neither(ordinary):
    rows = {
        each.name: each
        for each in compare_with_truth(fit("gap", ordinary(4), bootstrap=30), truth_of(z=0.74, beta=0.42))
    }
    assert rows["z"].estimate is None and rows["z"].covered is None and rows["z"].error is None
    assert rows["beta"].covered is not None


def test_laws_that_cannot_be_compared_are_refused():
    check_law(truth_of(alpha=0.3), get_law("skaling"))
    with pytest.raises(InputError, match="--truth: parameters: got 'kappa'.*chinchilla"):
        check_law(truth_of(kappa=1.0), get_law("chinchilla"))
    # An exponent of compute is not one of N, whatever its name.
    with pytest.raises(InputError, match="--truth: law: got 'chinchilla .L of N, D.'.*flops"):
        check_law(truth_of(alpha=0.3), get_law("compute_power"))


def test_a_truth_stands_beside_its_table(tmp_path):
    table = tmp_path / "runs.csv"
    truth = truth_of(alpha=0.5)
    write_truth(truth, table)
    assert path_of(table).name == "runs.truth.json" and read_truth(path_of(table)) == truth
    assert fit_command(table, truth) == (
        f'isogap fit {table} --law chinchilla --set D=tokens --where "N > 1e6" --truth {tmp_path / "runs.truth.json"}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        json.dumps({"oracle": "x"}),
        json.dumps(truth_of(alpha=0.5).__dict__ | {"parameters": {"alpha": "half"}}),
        json.dumps(truth_of(alpha=float("nan")).__dict__),
        json.dumps(truth_of(alpha=0.5).__dict__ | {"parameters": [["alpha", 0.5]]}),
        json.dumps(truth_of(alpha=0.5).__dict__ | {"roles": ["D"]}),
        json.dumps(truth_of(alpha=0.5).__dict__ | {"regime": ""}),
        json.dumps(truth_of(alpha=0.5).__dict__ | {"law": "nonesuch"}),
    ],
)
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match="x.json"):
        read_truth(tmp_path / "x.json")
    with pytest.raises(InputError, match="none.json"):
        read_truth(tmp_path / "none.json")


def test_a_result_keeps_its_truth_through_json(fitted):
    check = TruthCheck("alpha", 0.35, 0.36, 0.01, 0.34, None, True, 0.01)
    told = replace(fitted, truth=(check,))
    data = told.to_dict()
    assert FitResult.from_dict(data) == told
    assert FitResult.from_dict({k: v for k, v in data.items() if k != "truth"}).truth == ()
    assert pd.DataFrame(data["truth"])["name"].tolist() == ["alpha"]
