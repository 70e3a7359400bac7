"""Approach 2: isoFLOP profiles, simulated with Chinchilla's constants and as Porian et al. measured them."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.allocation.isoflop import isoflop_optima
from harness.fit.allocation.isoflop import profiles as profiles_of
from harness.fit.allocation.lines import limits, power_law_in_compute, runs_to_allocate
from sweeps.errors import InputError

EXPONENT = 0.3658 / (0.3478 + 0.3658)
# dataset, hparams, warmup, decay, parameters counted; published exponent and interval; in the order of the steps.
STEPS = [
    ("rw", "base", "long", "kaplan", "kaplan", 0.835, (0.824, 0.846)),
    ("rw", "base", "long", "kaplan", "standard", 0.706, (0.691, 0.717)),
    ("rw", "base", "short", "kaplan", "standard", 0.602, (0.591, 0.617)),
    ("rw", "base", "short", "chinchilla", "standard", 0.571, (0.560, 0.589)),
    ("rw", "tuned", "short", "const", "standard", 0.497, (0.491, 0.505)),
    ("owt2", "base", "long", "kaplan", "kaplan", 0.864, (0.819, 0.897)),
    ("owt2", "base", "long", "kaplan", "standard", 0.699, (0.664, 0.724)),
    ("owt2", "base", "short", "kaplan", "standard", 0.603, (0.570, 0.629)),
    ("owt2", "base", "short", "chinchilla", "standard", 0.574, (0.542, 0.606)),
    ("owt2", "tuned", "short", "const", "standard", 0.518, (0.493, 0.541)),
]
# Seeds' sd of a loss: what their code comes to.
NOISE = {"rw": 0.002, "owt2": 0.01}


@pytest.mark.parametrize("method", ["akima", "quadratic"])
def test_intervals_hold_the_true_exponent(method, profiles):
    held, estimates = 0, []
    for seed in range(20):
        runs = runs_to_allocate(profiles(seed))
        line = isoflop_optima(runs, 0.002 * runs.loss, method, draws=200).n
        (low,), (high,) = limits(line.draws[:, 1:])
        held += low < EXPONENT < high
        estimates.append(line.exponent)
    assert held >= 17  # of 20 at 95 %: fewer has a probability of 1.6 %
    assert np.mean(estimates) == pytest.approx(EXPONENT, abs=0.01)


def test_without_noise_optima_and_ratio_are_the_closed_forms(profiles, optimal_size):
    runs = runs_to_allocate(profiles(0, scatter=0.0))
    edge = isoflop_optima(runs, np.zeros(len(runs.loss)), draws=10)
    np.testing.assert_allclose(np.exp(edge.log_n), optimal_size(edge.flops), rtol=0.06)  # a twentieth of a size's step
    np.testing.assert_allclose(6 * np.exp(edge.log_n + edge.log_d), edge.flops, rtol=1e-9)
    quadratic = isoflop_optima(runs, np.zeros(len(runs.loss)), "quadratic", draws=10)
    assert quadratic.n.exponent == pytest.approx(EXPONENT, abs=0.003)
    assert edge.n.exponent + edge.d.exponent == pytest.approx(1.0)


def test_noise_is_found_from_the_scatter(profiles):
    told = [isoflop_optima(runs_to_allocate(profiles(seed, 0.004)), draws=10).warnings[0].message for seed in range(5)]
    found = [float(message.split()[-1].rstrip("%")) for message in told]
    assert np.mean(found) == pytest.approx(0.4, abs=0.06)


def test_a_minimum_at_an_end_is_left_out_and_said(profiles, optimal_size):
    table = profiles(1, scatter=0.0)
    flops = 6 * table.N * table.D
    cut = runs_to_allocate(table.loc[(flops > 2e18) | (table.N > 1.2 * optimal_size(flops))])
    edge = isoflop_optima(cut, np.full(len(cut.n), 1e-4), draws=20)
    assert len(profiles_of(cut)) == 10 and len(edge.flops) == 9 and edge.flops.min() > 2e18
    assert any(warning.code == "minimum_at_edge" and "1e+18" in warning.message for warning in edge.warnings)


def test_runs_on_budgets_of_their_own_are_left_out_and_said(profiles):
    table, flops = profiles(3), np.geomspace(3e21, 3e26, 200)
    n = 10 ** np.random.default_rng(3).uniform(9, 11, len(flops))
    more = pd.concat([table, pd.DataFrame({"N": n, "D": flops / 6 / n, "L": 1.9})])
    alone, among = (
        isoflop_optima(runs_to_allocate(rows), np.full(len(rows), 0.004), draws=50) for rows in (table, more)
    )
    assert not alone.warnings and [warning.code for warning in among.warnings] == ["few_on_budgets"]
    np.testing.assert_allclose(alone.flops, among.flops)


def test_of_runs_of_one_size_and_budget_the_best_counts():
    frame = pd.DataFrame({"N": [1e6, 1e6, 2e6, 4e6], "D": [4e8, 4e8, 2e8, 1e8], "L": [3.2, 3.0, 2.9, 3.1]})
    (rows,) = profiles_of(runs_to_allocate(frame))
    assert list(rows) == [1, 2, 3]


def test_designs_without_profiles_are_refused():
    rng, n = np.random.default_rng(0), np.geomspace(1e7, 1e9, 30)
    for ratio, word in ((20.0, "D varies"), (20 * np.exp(rng.normal(0, 0.02, 30)), "D varies"),
                        (np.exp(rng.uniform(0, 6, 30)), "--approach 3")):  # fmt: skip
        frame = pd.DataFrame({"N": n, "D": ratio * n, "L": 2 + n**-0.3})
        with pytest.raises(InputError, match=word):
            isoflop_optima(runs_to_allocate(frame))


def test_an_own_count_of_flops_is_used(profiles):
    runs = runs_to_allocate(profiles(2))
    frame = pd.DataFrame({"N": runs.n, "D": runs.d, "L": runs.loss, "flops": 2 * runs.flops})
    doubled = isoflop_optima(runs_to_allocate(frame), np.full(len(frame), 0.005), draws=50)
    plain = isoflop_optima(runs, np.full(len(frame), 0.005), draws=50)
    np.testing.assert_allclose(doubled.flops, 2 * plain.flops)
    np.testing.assert_allclose(doubled.log_n, plain.log_n)


@pytest.mark.public_data
@pytest.mark.parametrize("step", STEPS, ids=["-".join(step[:5]) for step in STEPS])
def test_porians_exponents(step, public):
    """From the points within .005 of the published exponents, and intervals that share most of the published ones."""
    table = public("porian_isoflop_points.csv")
    *_, exponent, (published_low, published_high) = step
    rows = table.loc[table.file.isin(["summary_df", "summary_df_owt2"])]
    for column, value in zip(("dataset", "hparams", "warmup", "decay", "param_count"), step[:5], strict=True):
        rows = rows.loc[rows[column] == value]
    frame = rows.rename(columns={"params_N": "N", "tokens_D": "D", "loss": "L", "flops_C": "flops"})
    line = isoflop_optima(runs_to_allocate(frame), np.full(len(frame), NOISE[step[0]])).n
    assert line.exponent == pytest.approx(exponent, abs=0.005)
    (low,), (high,) = limits(line.draws[:, 1:])
    shared = min(high, published_high) - max(low, published_low)
    assert shared > 0.8 * max(high - low, published_high - published_low)


@pytest.mark.public_data
@pytest.mark.parametrize("step", STEPS, ids=["-".join(step[:5]) for step in STEPS])
def test_their_optima_give_their_regression(step, public):
    columns = ["dataset", "hparams", "warmup", "decay", "param_count"]
    optima, fits = (
        table.loc[table.file.isin(["summary_df", "summary_df_owt2"])]
        for table in (
            public("porian_isoflop_optima.csv"),
            public("porian_reference_fits.csv").query("fit == 'weighted'"),
        )
    )
    for column, value in zip(columns, step[:5], strict=True):
        optima, fits = (table.loc[table[column] == value] for table in (optima, fits))
    optima = optima.dropna(subset=["N_opt"])
    line = power_law_in_compute(
        optima.flops_C.to_numpy(), np.log(optima.N_opt.to_numpy()), optima.n_star_std.to_numpy() ** -2.0
    )
    (reference,) = fits.n_exponent
    assert line.exponent == pytest.approx(reference, abs=1e-5)
    (coefficient,) = fits.n_coef
    assert np.exp(line.log_at(0.0)) == pytest.approx(coefficient, rel=1e-3)
