from dataclasses import replace

import numpy as np
import pytest

from harness.fit.fitting import solve
from harness.fit.laws.law import by_group
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import centre
from harness.fit.problem.raw_units import predictions
from harness.fit.shared.nested import (
    ALL_SHARED,
    NestedModel,
    kinds_of_constants,
    recentred,
    simulate_responses,
    widened,
)


@pytest.mark.parametrize(
    ("law", "level", "prefactors", "exponents", "shapes"),
    [
        ("gap", {"A"}, {"A", "u_star"}, {"alpha", "z", "beta"}, set()),
        ("gap_smooth", {"A"}, {"A", "u_star"}, {"alpha", "z", "beta"}, {"s"}),
        ("gap_n_free", {"a"}, {"a"}, {"b"}, set()),
        ("gap_kaplan", {"N_c", "D_c"}, {"N_c", "D_c"}, {"alpha_N", "alpha_D"}, set()),
        ("chinchilla", {"E", "A", "B"}, {"E", "A", "B"}, {"alpha", "beta"}, set()),
    ],
)
def test_a_constants_unit_says_what_it_is(law, level, prefactors, exponents, shapes):
    found = kinds_of_constants(get_law(law))
    assert (set(found.level), set(found.prefactors)) == (level, prefactors)
    assert (set(found.exponents), set(found.shapes)) == (exponents, shapes)


@pytest.fixture(scope="module")
def table(crossing):
    return crossing(5, 240).assign(group=np.tile(["a", "b"], 120), G_se=0.01)


@pytest.fixture(scope="module")
def fitted(table):
    return solve("gap", table)


@pytest.fixture(scope="module")
def shared(fitted):
    return NestedModel(ALL_SHARED, (), fitted.problem, fitted.solutions, 6)


def test_a_shared_point_is_the_same_prediction_in_a_wider_model(table, fitted):
    wider = centre(by_group(fitted.problem.law, ("A", "u_star")), table)
    theta = fitted.solutions.theta[int(np.argmin(fitted.solutions.loss))]
    moved = widened(fitted.problem, theta, wider)
    assert [p.name for p in wider.model.parameters if p.of == "A"] == ["A[a]", "A[b]"]
    np.testing.assert_allclose(predictions(wider, moved), predictions(fitted.problem, theta), rtol=1e-9)


def test_a_groups_point_is_the_same_prediction_in_other_units(table, fitted):
    """Fitted to one group, whose columns have other geometric means."""
    own = solve("gap", table.assign(holdout=(table.group == "b") | (table.N > 1e7)))
    theta = own.solutions.theta[int(np.argmin(own.solutions.loss))]
    moved = recentred(own, theta, fitted.problem.scales)
    again = np.append([moved[p.name] for p in own.problem.law.parameters], theta[-1])
    assert abs(np.log(own.problem.scales["N"] / fitted.problem.scales["N"])) > 1
    np.testing.assert_allclose(predictions(fitted.problem, again), predictions(own.problem, theta), rtol=1e-9)


def test_simulated_tables_have_the_scatter_and_the_rows_own_errors(shared):
    mean = predictions(shared.problem, shared.theta)
    simulated = simulate_responses(shared, 4000, 0) * shared.problem.scales["G"]
    expected = np.sqrt(0.01**2 + (np.exp(shared.theta[-1]) * mean) ** 2)
    np.testing.assert_allclose(simulated.std(axis=0), expected, rtol=0.06)
    np.testing.assert_allclose(simulated.mean(axis=0), mean, atol=float(5 * expected.max() / np.sqrt(4000)))
    assert abs(np.corrcoef(simulated[:, 0], simulated[:, 1])[0, 1]) < 0.06


def test_rows_of_a_cluster_stay_as_correlated_as_they_are(shared):
    """Pairs of rows that share their deviation, with the share 0.6 of its variance."""
    problem, rng = shared.problem, np.random.default_rng(0)
    mean = predictions(problem, shared.theta) / problem.scales["G"]
    spread = np.sqrt(problem.noise**2 + (np.exp(shared.theta[-1]) * mean) ** 2)
    common, own = rng.standard_normal(120).repeat(2), rng.standard_normal(240)
    response = mean + spread * (np.sqrt(0.6) * common + np.sqrt(0.4) * own)
    paired = replace(problem, cluster=np.arange(240) // 2, response=response)
    simulated = (simulate_responses(replace(shared, problem=paired), 4000, 1) - mean) / spread
    assert np.mean(simulated[:, ::2] * simulated[:, 1::2]) == pytest.approx(0.6, abs=0.12)


def test_without_declared_errors_residuals_change_signs_cluster_by_cluster(losses):
    table = losses(1, 60).assign(cluster=np.arange(60) // 2)
    fitted = solve("chinchilla", table)
    model = NestedModel(ALL_SHARED, (), fitted.problem, fitted.solutions, 6)
    mean = predictions(fitted.problem, model.theta) / fitted.problem.scales["L"]
    signs = np.log(simulate_responses(model, 50, 0) / mean) / np.log(fitted.problem.response / mean)
    np.testing.assert_allclose(np.abs(signs), 1.0, rtol=1e-6)
    np.testing.assert_allclose(signs[:, ::2], signs[:, 1::2], rtol=1e-6)
    assert 0.4 < np.mean(signs > 0) < 0.6
