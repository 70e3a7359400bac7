"""Approach 3: the optimum of fitted laws."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import fminbound

from harness.fit.allocation.allocation import allocate_fit, allocate_runs
from harness.fit.allocation.parametric import optimum_on_budgets
from harness.fit.fitting import fit
from harness.fit.laws.law import Law, Parameter
from harness.fit.laws.registry import get_law
from sweeps.errors import InputError

TRUTH = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}


@pytest.fixture(scope="module")
def fitted(losses):
    return fit("chinchilla", losses(3), bootstrap=60, sensitivity=False)


@pytest.mark.slow
def test_the_allocation_minimises_the_loss_on_the_budget(fitted):
    p = {name: value.estimate for name, value in fitted.parameters.items()}
    budget = 1e21
    found = allocate_fit(fitted, budget).budgets.iloc[0]

    def loss(log_n):
        n = np.exp(log_n)
        return p["E"] + p["A"] / n ** p["alpha"] + p["B"] / (budget / (6 * n)) ** p["beta"]

    log_n = fminbound(loss, np.log(1e6), np.log(1e13), xtol=1e-10)
    assert found.N == pytest.approx(np.exp(log_n), rel=1e-4)
    assert found.loss == pytest.approx(loss(log_n), rel=1e-10)
    assert found.N * found.D * 6 == pytest.approx(budget)
    assert found.N_low < found.N < found.N_high
    assert found.tokens_per_parameter == pytest.approx(found.D / found.N)


def test_limits_hold_the_truth_and_the_exponent_is_beta_over_the_sum(fitted):
    found = allocate_fit(fitted, [1e20, 1e24]).budgets
    a = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    g = (TRUTH["alpha"] * TRUTH["A"] / (TRUTH["beta"] * TRUTH["B"])) ** (1 / (TRUTH["alpha"] + TRUTH["beta"]))
    truth = {"N": g * (found.flops / 6) ** a, "N_exponent": a}
    truth |= {"D": found.flops / 6 / truth["N"]}
    truth |= {
        "loss": TRUTH["E"] + TRUTH["A"] * truth["N"] ** -TRUTH["alpha"] + TRUTH["B"] * truth["D"] ** -TRUTH["beta"]
    }
    for name, value in truth.items():
        assert np.all((found[f"{name}_low"] < value) & (value < found[f"{name}_high"])), name


@pytest.mark.slow
def test_intervals_hold_the_true_exponent(profiles):
    held = 0
    for seed in range(8):
        found = allocate_fit(fit("chinchilla", profiles(seed), bootstrap=60, sensitivity=False), 1e20).budgets.iloc[0]
        held += found.N_exponent_low < TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"]) < found.N_exponent_high
    assert held >= 6  # of 8 at 95 %: fewer has a probability of .6 %


def test_numbers_alone_find_what_the_closed_form_finds():
    """Draws of different constants at once, to the precision of a flat minimum."""
    values = {name: np.array([value, value * 1.1, value * 0.8]) for name, value in TRUTH.items()}
    budgets = np.array([1e17, 6e21, 3e25])
    closed = optimum_on_budgets(get_law("chinchilla"), values, budgets)
    numeric = optimum_on_budgets(replace(get_law("chinchilla"), optimum=None), values, budgets)
    for name in ("N", "D", "loss", "tokens_per_parameter"):
        np.testing.assert_allclose(numeric[name], closed[name], rtol=1e-5)
    np.testing.assert_allclose(numeric["N_exponent"], closed["N_exponent"], atol=1e-5)


KAPLAN = Law(
    id="kaplan_for_test",
    formula="",
    response="L",
    parameters=tuple(Parameter(name, "log", 1e-9, 1e99, (1.0,)) for name in ("N_c", "D_c", "alpha_N", "alpha_D")),
    columns=("N", "D"),
    predict=lambda p, c: (
        (p["N_c"] / c["N"]) ** (p["alpha_N"] / p["alpha_D"]) + c["tokens_ratio"] * p["D_c"]
    ) ** p["alpha_D"],
    source="",
    objective="log_huber",
    derive=lambda columns: {"tokens_ratio": 1.0 / columns["D"]},
)  # fmt: skip


def test_kaplans_loss_has_its_optimum_where_its_terms_balance():
    """(x + y)^alpha_D falls with x + y, x = (N_c/N)^r, y = D_c/D: at the minimum r x = y, and N ~ C^(1/(1 + r))."""
    values = {
        "N_c": np.array([6.4e13]),
        "D_c": np.array([1.8e13]),
        "alpha_N": np.array([0.076]),
        "alpha_D": np.array([0.103]),
    }
    r = 0.076 / 0.103
    found = {name: value[0] for name, value in optimum_on_budgets(KAPLAN, values, np.array([1e19, 1e23])).items()}
    np.testing.assert_allclose(r * (6.4e13 / found["N"]) ** r, 1.8e13 / found["D"], rtol=1e-4)
    np.testing.assert_allclose(found["N_exponent"], 1 / (1 + r), atol=1e-4)


def test_a_loss_that_falls_to_an_end_has_no_optimum():
    law = replace(get_law("chinchilla"), optimum=None)
    values = {name: np.array([value]) for name, value in TRUTH.items()} | {"B": np.array([0.0])}
    for one in (law, get_law("chinchilla")):
        assert np.isnan(optimum_on_budgets(one, values, np.array([1e20]))["N"]).all()
    assert jnp.asarray(0.0).dtype == jnp.float32  # nothing global was changed


def test_what_cannot_be_allocated_is_the_users_error(fitted):
    with pytest.raises(InputError, match="positive"):
        allocate_fit(fitted, -1.0)
    with pytest.raises(InputError, match="chinchilla"):
        allocate_fit(replace(fitted, law="gap_n_free"), 1e20)


@pytest.mark.public_data
def test_chinchillas_own_runs(public):
    """Besiroglu et al.: a = .5126, and about 18 to 20 tokens per parameter at Chinchilla's 5.76e23 FLOPs."""
    table = public("chinchilla_epoch.csv").query("used_in_published_fit == 1")
    frame = table.rename(columns={"params_N": "N", "tokens_D": "D", "loss": "L"})
    found = allocate_fit(fit("chinchilla", frame, bootstrap=0, sensitivity=False), 5.76e23).budgets.iloc[0]
    assert found.N_exponent == pytest.approx(0.5126, abs=0.01)
    assert 17.5 < found.tokens_per_parameter < 20.5


@pytest.mark.slow
def test_an_allocation_is_shown_drawn_and_written(profiles):
    rows = profiles(0)
    found = allocate_runs(rows, [1e20, 1e22], 2, bootstrap=50)
    assert f"{found.budgets['N'][0]:.4g}" in found._repr_html_() and found.method in found._repr_html_()
    measured, budgets = (found.figure().data[i] for i in (0, 1))
    assert list(measured.x) == list(found.optima["flops"]) and list(budgets.y) == list(found.budgets["N"])
    assert [row["flops"] for row in found.to_dict()["budgets"]] == [1e20, 1e22]
    assert allocate_fit(fit("chinchilla", rows, bootstrap=0, sensitivity=False), 1e20).exponents["N"].low is not None
    factor = found.shifted(1.2, 1e20).budgets["z_factor"]
    assert factor.tolist() == pytest.approx([1.0, 100 ** (1 / 2.2 - 0.5)])
