"""Laws of the loss in N and D: Kaplan's, tied exponents, Skaling, Farseer, compute only."""

import jax
import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import centre
from harness.fit.problem.objective import HuberOptions
from harness.fit.problem.raw_units import predictions, raw_values
from harness.fit.referee.scores import holdout_scores
from harness.fit.search.solver import minimise
from harness.fit.search.starts import grid_of_starts

pytestmark = pytest.mark.slow

BESIROGLU = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}


def searched(law_id, table, **settings):
    """The problem, the best point of some 32 starts, and the share of them within 1 % of its objective."""
    problem = centre(get_law(law_id), table, **settings)
    starts = grid_of_starts(problem)
    found = minimise(problem, starts[:: -(-len(starts) // 32)])
    return problem, found.theta[np.argmin(found.loss)], np.mean(found.loss <= found.loss.min() * 1.01)


def constants(problem, theta):
    return {name: float(value[0]) for name, value in raw_values(problem, theta[None]).items()}


def predicted(law_id, values, **columns):
    columns = {name: np.asarray(column, float) for name, column in columns.items()}
    with jax.enable_x64(True):
        return np.asarray(get_law(law_id).predict(values, columns))


def grid(rows=150, seed=0):
    rng = np.random.default_rng(seed)
    n = 10 ** rng.uniform(6, 9, rows)
    return pd.DataFrame({"N": n, "D": n * np.exp(rng.uniform(np.log(2), np.log(600), rows))})


def noisy(law_id, values, table, scatter, seed=0):
    loss = predicted(law_id, values, **{name: table[name] for name in table})
    return table.assign(L=loss * np.exp(scatter * np.random.default_rng(seed).standard_normal(len(table))))


@pytest.mark.parametrize(
    ("n", "d", "overfitting"),
    [(1e6, 27.5e3, 4.17), (1e6, 2e7, 0.40), (1e7, 2e8, 0.22), (1e8, 2e9, 0.11), (1e8, 8.3e5, 2.9)],
)
def test_kaplans_loss_less_that_of_endless_data(n, d, overfitting):
    published = {p.name: p.published for p in get_law("kaplan").parameters}
    here, endless = predicted("kaplan", published, N=[n, n], D=[d, 1e40])
    assert here - endless == pytest.approx(overfitting, rel=0.02, abs=0.005)


def test_kaplans_constants_are_recovered():
    published = {p.name: p.published for p in get_law("kaplan").parameters}
    problem, theta, share = searched("kaplan", noisy("kaplan", published, grid(), 0.005))
    found = constants(problem, theta)
    assert share > 0.5
    assert found["alpha_N"] == pytest.approx(0.076, abs=0.003)
    assert found["alpha_D"] == pytest.approx(0.103, abs=0.01)


@pytest.mark.public_data
def test_gadres_five_runs_foretell_the_published_loss_of_the_largest(public):
    """h and E as published; the held-out errors .71 % and .73 % are of rows that the table need not have."""
    table = public("gadre_overtraining.csv").query("train_dataset == 'rpj' and role_in_published_fit == 'fit'")
    table = table.assign(N=table.params_N, D=table.tokens_D, L=table.val_loss_c4_val)
    problem, theta, share = searched("tied", table)
    found = constants(problem, theta)
    assert share > 0.9
    assert found["E"] == pytest.approx(1.83665, abs=2e-4) and found["alpha"] == pytest.approx(0.27285, abs=5e-5)
    assert found["A"] == pytest.approx(166.21, rel=1e-3)
    assert found["B"] * 6 ** (found["alpha"] / 2) == pytest.approx(366.69, rel=1e-3)


def test_skaling_finds_its_power():
    truth = {"E": 1.7, "A": 3e3, "B": 8e4, "alpha": 0.6, "beta": 0.7, "k": 0.45}
    problem, theta, share = searched("skaling", noisy("skaling", truth, grid(), 0.001))
    found = constants(problem, theta)
    assert share > 0.5
    assert found["k"] == pytest.approx(0.45, abs=0.05)
    assert found["alpha"] * found["k"] == pytest.approx(0.27, abs=0.02)
    assert found["E"] == pytest.approx(1.7, abs=0.05)


def test_farseer_is_the_form_of_the_paper():
    """Its nine constants from ours: exp(a3 N^g3 + b3) + exp(a2 N^g2 + b2) D^-exp(a1 N^g1 + b1)."""
    law, columns = get_law("farseer"), {"N": np.array([1e7, 3e8, 2e10]), "D": np.array([1e9, 5e10, 3e11])}
    values = {"U": 0.45, "U_slope": -0.12, "U_bend": 0.1, "B": 104.0, "B_slope": -1.1, "B_bend": 0.04,
              "A": 0.3, "A_slope": -0.2, "A_bend": 0.2}  # fmt: skip
    with jax.enable_x64(True):
        c = {combination.label: float(combination.value(values)) for combination in law.combinations}
    n, d = columns["N"], columns["D"]
    exponent = np.exp(c["a1"] * n ** values["A_bend"] + c["b1"])
    coefficient = np.exp(c["a2"] * n ** values["B_bend"] + c["b2"])
    paper = np.exp(c["a3"] * n ** values["U_bend"] + c["b3"]) + coefficient * d**-exponent
    np.testing.assert_allclose(predicted("farseer", values, **columns), paper, rtol=1e-9)
    flat = predicted("farseer", values | {"B_bend": 1e-9}, **columns)
    np.testing.assert_allclose(flat, predicted("farseer", values | {"B_bend": 0.0}, **columns), rtol=1e-6)


def test_farseer_foretells_larger_models_of_its_kind_and_is_no_worse_on_chinchillas():
    """Up to four times the largest fitted N, with .1 % noise: 1 in 1000, and Chinchilla's law is ten times off."""
    truth = {"U": 1.9, "U_slope": -0.1, "U_bend": -0.2, "B": 150.0, "B_slope": -0.5, "B_bend": 0.05,
             "A": 0.25, "A_slope": -0.1, "A_bend": 0.1}  # fmt: skip
    n, d = np.meshgrid(np.geomspace(1e8, 1.6e10, 22), np.geomspace(2e9, 2.56e11, 15))
    table = pd.DataFrame({"N": n.ravel(), "D": d.ravel()})
    table["holdout"] = table.N > 4.1e9
    bent = noisy("farseer", truth, table, 0.001)
    own, theta, share = searched("farseer", bent)
    other, at, _ = searched("chinchilla", bent)
    held = bent.holdout.to_numpy()
    exact = predicted("farseer", truth, N=n.ravel(), D=d.ravel())[held]
    error = np.mean(np.abs(predictions(own, theta)[held] / exact - 1))
    rival = np.mean(np.abs(predictions(other, at)[held] / exact - 1))
    assert share > 0.3 and error < 0.0015 and rival > 5 * error
    plain = noisy("chinchilla", BESIROGLU, table, 0.001)
    own, theta, _ = searched("farseer", plain)
    assert holdout_scores(own, theta).mean_abs_relative_error == pytest.approx(0.0, abs=0.0015)


@pytest.mark.public_data
def test_farseers_largest_visible_models(public):
    """The two largest sizes from the others: R^2 above .99, and an error under a third of Chinchilla's."""
    table = public("farseer_subset.csv").rename(columns={"params_N": "N", "tokens_D": "D", "loss_bpc": "L"})
    table = table.assign(holdout=table.N >= np.sort(table.N.unique())[-2])
    scores = {}
    for law_id in ("farseer", "chinchilla"):
        problem, theta, _ = searched(law_id, table)
        scores[law_id] = holdout_scores(problem, theta)
    assert scores["farseer"].r2 > 0.99
    assert 3 * scores["farseer"].rmse < scores["chinchilla"].rmse


def test_the_curvature_at_a_given_compute_refutes_compute_only():
    """Besiroglu's loss at 1e18 and 1e19 FLOPs, sizes up to 4 times off: q is .034/(log 2)^2 at 1e19, and not zero."""
    rng = np.random.default_rng(0)
    flops, off = np.meshgrid([3e18, 1e19, 3e19], np.exp(np.linspace(-np.log(4), np.log(4), 7)))
    n = (off * 0.1 * (flops / 6) ** 0.5126).ravel()
    n = n * (3.1e8 / np.exp(np.mean(np.log(n))))  # the best size of 1e19 FLOPs by these constants
    d = flops.ravel() / (6 * n)
    table = pd.DataFrame({"N": n, "D": d})
    table = table.assign(L=predicted("chinchilla", BESIROGLU, N=n, D=d) + 0.002 * rng.standard_normal(len(n)))
    curved = fit("compute_only_curved", table, bootstrap=0, sensitivity=False)
    q = curved.parameters["q"]
    assert q.identified and q.ci_low is not None and q.ci_low > 0.04
    assert q.estimate == pytest.approx(0.034 / np.log(2) ** 2, rel=0.15)


def test_where_only_compute_matters_the_best_size_means_nothing():
    table = grid(60)
    table = table.assign(L=9.0 - 0.15 * np.log(6 * table.N * table.D))
    table = table.assign(L=table.L + 0.01 * np.random.default_rng(1).standard_normal(60))
    curved = fit("compute_only_curved", table, bootstrap=0, sensitivity=False)
    assert not curved.parameters["k"].identified and not curved.parameters["g"].identified
    assert curved.parameters["q"].estimate == pytest.approx(0.0, abs=0.002)
    straight = fit("compute_only", table, bootstrap=0, sensitivity=False)
    assert straight.status == "converged"
    assert straight.parameters["a"].estimate == pytest.approx(9.0, abs=0.1)
    assert straight.parameters["b"].estimate == pytest.approx(0.15, abs=0.003)


@pytest.mark.public_data
@pytest.mark.parametrize(("delta", "published"), [(1e-3, 0.0019816129), (1e-4, 0.0002076018)])
def test_gemstones_published_objectives_are_reached(public, delta, published):
    """As good as the published optimum or better; at delta 1e-3 the published constants, too."""
    table = public("gemstones_fit_points.csv").query("subset == 'hot'")
    table = table.rename(columns={"params_N": "N", "tokens_D": "D", "train_loss": "L"})
    problem, theta, _ = searched("chinchilla", table, options=HuberOptions(delta=delta))
    reached = minimise(problem, theta[None]).loss[0] * problem.unit
    assert reached <= published * (1 + 1e-7)
    if delta == 1e-3:
        values = constants(problem, theta)
        assert reached == pytest.approx(published, rel=1e-7)
        assert values["alpha"] == pytest.approx(0.29287, abs=1e-4)
        assert values["beta"] == pytest.approx(0.71287, abs=2e-4)
