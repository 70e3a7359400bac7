import dataclasses

import numpy as np
import pandas as pd
import pytest

from harness.cli.render import render
from harness.fit.fitting import fit
from harness.fit.results.result import FitResult
from sweeps.errors import InputError


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_the_law_is_recovered_where_the_design_crosses_u_star(crossing, seed):
    """174 runs with 8 % scatter: alpha within .02, z within .05, beta within .015 of the truth."""
    result = fit("gap", crossing(seed), bootstrap=0, sensitivity=False)
    found = result.parameters
    assert result.status == "converged"
    for name, truth, within in (("alpha", 0.31, 0.02), ("z", 0.74, 0.05), ("beta", 0.42, 0.015)):
        assert found[name].identified and found[name].estimate == pytest.approx(truth, abs=within)
    assert found["tau"].estimate == pytest.approx(0.08, abs=0.015)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12])
def test_ordinary_runs_give_beta_and_say_what_they_do_not_give(ordinary, seed):
    result = fit("gap", ordinary(seed), bootstrap=50)
    text = render(result.shown(), 110)
    assert [name for name, value in result.parameters.items() if not value.identified] == ["A", "alpha", "z", "u_star"]
    assert text.count("not identified") >= 4
    assert result.parameters["beta"].estimate == pytest.approx(0.42, abs=0.01)
    named = result.combinations
    balance = named["alpha - z*beta"]
    assert balance.ci_low < -0.0008 < balance.ci_high
    assert balance.se < 0.02
    assert named["log A + beta*log u_star"].estimate == pytest.approx(np.log(0.86), abs=0.3)
    assert "z - beta - alpha" not in named
    assert "law gap_smooth" in {case.case for case in result.sensitivity}


def test_rows_without_scatter_beyond_their_errors_have_none(crossing):
    """tau at the low end of its search is an answer, not a fit stopped by a bound; brackets survive the terminal."""
    table = crossing(3, scatter=0.0)
    noise = 0.05 * table["G"]
    table = table.assign(G=table["G"] + noise * np.random.default_rng(3).standard_normal(len(table)), G_se=noise)
    result = fit("gap", table, bootstrap=50, sensitivity=False)
    tau = result.parameters["tau"]
    assert result.status == "converged" and tau.ci_low == 0.0 and tau.ci_high is not None and tau.ci_high < 0.04
    open_below = dataclasses.replace(result.parameters["z"], ci_low=None)
    shown = render(dataclasses.replace(result, parameters={"z": open_below}).shown(), 110)
    assert "[unbounded, 0." in shown


def test_without_a_gap_nothing_is_identified(ordinary):
    table = ordinary(5)
    noise = 1e-3 * np.random.default_rng(5).standard_normal(len(table))
    result = fit("gap", table.assign(G=noise, G_se=1e-3), bootstrap=0, sensitivity=False)
    assert not any(value.identified for value in result.parameters.values())
    assert all(value.ci_low is None and value.ci_high is None for value in result.parameters.values())
    assert "no_detectable_gap" in {warning.code for warning in result.warnings}


def test_a_result_survives_json_and_repeats_with_its_seed(losses):
    table = losses(1)
    result = fit("chinchilla", table, holdout="N > 5e8", bootstrap=20, seed=7, sensitivity=False)
    assert FitResult.from_dict(result.to_dict()) == result
    assert fit("chinchilla", table, holdout="N > 5e8", bootstrap=20, seed=7, sensitivity=False) == result
    keys = {"law", "source", "rows", "objective", "status", "parameters", "identifiability", "scatter", "holdout"}
    assert keys | {"sensitivity", "warnings"} <= set(result.to_dict())
    assert result.rows + result.holdout.rows == len(table)


def test_chinchillas_constants_are_recovered_and_extrapolate(losses):
    """0.3 % noise: alpha within .01, beta within .01, E within 2 %, and held-out losses within 1 %."""
    result = fit("chinchilla", losses(2), holdout="N > 5e8", bootstrap=0)
    found = {name: value.estimate for name, value in result.parameters.items()}
    assert found["alpha"] == pytest.approx(0.3478, abs=0.01)
    assert found["beta"] == pytest.approx(0.3658, abs=0.01)
    assert found["E"] == pytest.approx(1.8172, rel=0.02)
    assert result.holdout.mean_abs_relative_error < 0.01
    assert {"Huber delta 0.0001", "Huber delta 0.01"} <= {case.case for case in result.sensitivity}


def test_noise_that_is_measured_is_not_counted_as_scatter(crossing):
    table = crossing(6, scatter=0.05)
    noise = 0.2 * table.G.abs()
    noisy = table.assign(G=table.G + noise * np.random.default_rng(6).standard_normal(len(table)), G_se=noise)
    scatter = fit("gap_n_free", noisy.assign(D=1 / table.G), bootstrap=0, sensitivity=False).scatter
    assert scatter.log_residual_sd > 0.15
    assert scatter.tau < 0.09
    assert scatter.log_residual_sd_without_noise < 0.12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="N"), "role N"),
        (lambda t: t.assign(D=0.0), "above zero"),
        (lambda t: t.assign(G="much"), "numbers"),
        (lambda t: t.assign(G=np.nan), "finite"),
        (lambda t: t.head(4), "at least 7 rows"),
    ],
)
def test_unusable_tables_are_the_users_error(crossing, change, words):
    with pytest.raises(InputError, match=words):
        fit("gap", change(crossing(0)))


@pytest.mark.parametrize("condition", ["N >", "missing > 3", "N + 1", "'a' + 1"])
def test_unusable_conditions_are_the_users_error(crossing, condition):
    with pytest.raises(InputError, match="--holdout"):
        fit("gap", crossing(0), holdout=condition)


@pytest.mark.public_data
def test_the_extracted_points_of_chinchilla_reach_the_known_optimum(public):
    """240 points of Besiroglu et al. 2024: the global optimum of their objective is 1.018274e-3."""
    table = public("chinchilla_epoch.csv").query("used_in_published_fit == 1")
    table = table.rename(columns={"params_N": "N", "tokens_D": "D", "loss": "L"})
    result = fit("chinchilla", table, bootstrap=0, sensitivity=False)
    assert result.objective.value <= 1.01828e-3
    assert result.parameters["alpha"].estimate == pytest.approx(0.3473, abs=0.003)
    assert result.parameters["beta"].estimate == pytest.approx(0.3671, abs=0.003)
    assert result.parameters["E"].estimate == pytest.approx(1.8172, abs=0.002)


@pytest.mark.slow
def test_a_saturating_loss_is_told_from_one_that_ignores_repetition():
    """Losses of the saturating law itself, 0.3 % noise, repeated data: prediction within 1 % out of sample."""
    rng = np.random.default_rng(9)
    n, u, epochs = 10 ** rng.uniform(6, 9, 120), 10 ** rng.uniform(7, 10, 120), 2 ** rng.uniform(0, 5, 120)
    h = 40 * n**-0.35 + 300 * (u * epochs) ** -0.37 + 1e-4 * n**0.5 / u**0.3
    table = pd.DataFrame({"N": n, "D": u * epochs, "U": u})
    table["L"] = (1.8 + 9.0 * h / (1 + h)) * np.exp(0.003 * rng.standard_normal(120))
    scores = {}
    for law in ("saturating", "chinchilla"):
        result = fit(law, table, holdout="N > 4e8", bootstrap=0, sensitivity=False)
        scores[law] = result.holdout.mean_abs_relative_error
    assert scores["saturating"] < 0.01 < scores["chinchilla"]


@pytest.mark.slow
def test_few_clusters_are_doubted_where_a_bootstrap_is_shown():
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 1e9, 4), np.geomspace(1e9, 1e11, 5)))
    loss = (1.8 + 480 * n**-0.35 + 2085 * d**-0.37) * np.exp(0.003 * np.random.default_rng(1).standard_normal(20))
    table = pd.DataFrame({"N": n, "D": d, "L": loss, "cluster": np.arange(20) // 4})
    for draws in (0, 20):
        result = fit("chinchilla", table, bootstrap=draws, sensitivity=False)
        assert ("few_clusters" in {warning.code for warning in result.warnings}) == (draws > 0)
        assert result.checklist["fit"]["bootstrap"] == ("20 refits to resampled clusters" if draws else "none")
