import json

import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit
from harness.fit.results.robustness import PREDICTION, Robustness
from harness.fit.results.shown import NOT_DETERMINED, factor, is_determined


@pytest.mark.slow
def test_an_exact_law_is_stable_and_a_mixture_of_two_is_fragile(losses):
    """Losses of the law itself do not move; where small runs obey other constants than large ones, they do."""
    exact = fit("chinchilla", losses(1, scatter=1e-3), bootstrap=0)
    assert exact.robustness is not None
    assert exact.robustness.verdict == "stable", exact.robustness.reasons
    table = losses(1, scatter=1e-3)
    bent = table.assign(L=np.where(table.N < 1e7, 1.2 + 40 * table.N**-0.2 + 900 * table.D**-0.3, table.L))
    found = fit("chinchilla", bent, bootstrap=0)
    assert found.robustness is not None and found.robustness.verdict == "fragile"
    assert "fragile" in {warning.code for warning in found.warnings}


def test_the_choices_tried_are_those_of_the_checklist(losses):
    table = losses(2).assign(N_total=lambda t: t.N + 1e6, flops=lambda t: 6 * t.N * t.D)
    cases = [case.case for case in fit("chinchilla", table, bootstrap=0).sensitivity]
    assert cases[0] == "as fitted"
    assert {"without the smallest N", "without the largest D", "Huber delta 0.0001", "Huber delta 0.01"} <= set(cases)
    assert {"least squares on logs", "N = N_total", "law tied", "law skaling", "law kaplan"} <= set(cases)


@pytest.mark.slow
def test_checkpoints_are_told_from_final_losses(losses):
    """Three checkpoints a run; the final ones alone are one of the choices, and their share is in the checklist."""
    final = losses(3, rows=60).assign(run=np.arange(60))
    rows = pd.concat([final.assign(D=final.D * share, cluster=final.run) for share in (0.25, 0.5, 1.0)])
    rows["L"] = 1.8172 + 482.01 * rows.N**-0.3478 + 2085.43 * rows.D**-0.3658
    result = fit("chinchilla", rows.reset_index(drop=True), bootstrap=0)
    cases = {case.case: case for case in result.sensitivity}
    assert cases["final losses only"].rows == 60
    assert result.checklist["collection"]["share of intermediate checkpoints"] == pytest.approx(2 / 3, abs=1e-3)


@pytest.mark.slow
def test_the_checklist_counts_what_a_referee_asks(losses):
    table = losses(4).assign(seed=1, domain="web")
    answers = fit("chinchilla", table, holdout="N > 5e8", bootstrap=0).checklist
    assert answers["runs"]["rows fitted"] + answers["collection"]["rows held out"] == len(table)
    assert answers["runs"]["decades of N"] == pytest.approx(np.log10(5e8 / 1e6), abs=0.1)
    assert answers["runs"]["domain"] == ["web"] and answers["runs"]["tokenizer"] == "not in the table"
    assert answers["fit"]["distance of the solution from its start"] > 1e-3


@pytest.mark.slow
def test_a_missing_term_shows_in_the_residuals(losses):
    """Losses with a U in log D/N, as from mis-sized models, which the law cannot follow."""
    table = losses(5)
    tpp = np.log(table.D / table.N)
    bent = table.assign(L=table.L * np.exp(0.01 * (tpp - tpp.mean()) ** 2))
    answers = fit("chinchilla", bent, bootstrap=0).checklist["residuals"]
    assert answers["trends that a plot would show"]
    assert not fit("chinchilla", table, bootstrap=0).checklist["residuals"]["trends that a plot would show"]


@pytest.mark.parametrize(("rows", "tried"), [(6, False), (7, True)])
@pytest.mark.slow
def test_an_alternative_law_with_too_few_rows_is_not_tried(losses, rows, tried):
    """Six rows fit the five constants of Chinchilla's law and not the six of `skaling`: the fit stands all the same."""
    result = fit("chinchilla", losses(6, rows=rows), bootstrap=0)
    assert ("law skaling" in [case.case for case in result.sensitivity]) == tried


def test_an_alternative_whose_columns_the_table_lacks_is_left_out(losses):
    """`average_parameter` reads N_bar; the alternatives that it takes over from Chinchilla's law read N."""
    result = fit("average_parameter", losses(7).rename(columns={"N": "N_bar"}), bootstrap=0)
    assert result.robustness is not None
    assert not [case.case for case in result.sensitivity if case.case.startswith("law ")]


@pytest.mark.slow
def test_a_law_with_constants_of_groups_has_choices_too():
    flops = np.geomspace(1e15, 1e19, 24)
    curves = {"a": 2.0 + 300 * flops**-0.15, "b": 1.8 + 900 * flops**-0.17}
    rng = np.random.default_rng(0)
    table = pd.concat(
        pd.DataFrame({"flops": flops, "L": loss * np.exp(0.003 * rng.standard_normal(24)), "group": name})
        for name, loss in curves.items()
    )
    result = fit("crossover", table.reset_index(drop=True), bootstrap=0)
    assert "without the largest flops" in [case.case for case in result.sensitivity]
    assert all(case.prediction is not None for case in result.sensitivity)


@pytest.mark.slow
def test_a_size_of_zero_has_no_decades_and_the_result_is_strict_json():
    size = np.concatenate([[0.0], 200.0 * 2.0 ** np.arange(14)])
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal(15))
    result = fit("rectified", pd.DataFrame({"D": size, "L": (0.8 + 200 / (60 + size**0.45)) * noise}), bootstrap=0)
    assert json.loads(result.to_json())["checklist"]["runs"]["decades of D"] is None


def test_a_prediction_that_spans_orders_of_magnitude_is_written_as_not_determined():
    known = Robustness("fragile", (), {"alpha": (0.3, "a", 0.5, "b"), PREDICTION: (2.0, "a", 3.0, "b")})
    unknown = Robustness("fragile", (), {"alpha": (0.3, "a", 0.5, "b"), PREDICTION: (8e-20, "a", 14.0, "b")})
    assert known.determines_prediction and known.lines()[1] == "prediction: 2 (a) to 3 (b)"
    assert not unknown.determines_prediction and NOT_DETERMINED in unknown.lines()[1]
    assert "e-20" not in unknown.lines()[1] and unknown.lines()[0] == known.lines()[0]
    assert Robustness("stable", (), {}).determines_prediction


def test_what_a_range_determines():
    assert is_determined(1.0, 99.0) and not is_determined(1.0, 101.0) and not is_determined(0.0, 1.0)
    assert is_determined(-5.0, 500.0) and is_determined(np.nan, np.nan) and is_determined(0.0, 0.0)


def test_logs_are_also_written_as_factors():
    assert factor("log of a over b", np.log(2.0), 0.0, np.log(8.0)) == ", a factor of 2 [1, 8]"
    assert factor("log of a over b", 0.0, None, None) == ", a factor of 1 unbounded"
    assert factor("log loss", 1.0, 0.0, 2.0) == "" == factor("log of a over b", 1.0, 0.0, 1e3)
