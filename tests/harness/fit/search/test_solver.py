from dataclasses import replace

import jax
import numpy as np
import pytest

from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import centre
from harness.fit.problem.model import bounds_of, features_of
from harness.fit.problem.objective import HuberOptions
from harness.fit.search.solver import FitStatus, minimise, status_of
from harness.fit.search.starts import grid_of_starts


@pytest.mark.parametrize("law_id", ["gap", "gap_smooth", "gap_kaplan", "chinchilla"])
def test_gradients_agree_with_finite_differences(law_id, crossing, losses):
    law = get_law(law_id)
    problem = centre(law, losses(0) if law.response == "L" else crossing(0))
    theta = grid_of_starts(problem)[3] + 0.013

    def loss(t):
        features = features_of(problem.model, t, problem.columns, problem.noise)
        return problem.model.objective.rows(features, problem.target, problem.noise, HuberOptions(1e-2)).sum()

    with jax.enable_x64(True):
        gradient = np.asarray(jax.jit(jax.grad(loss))(theta))
        step = 1e-6 * np.eye(len(theta))
        values = np.asarray(jax.jit(jax.vmap(loss))(np.concatenate([theta + step, theta - step])))
        differences = (values[: len(theta)] - values[len(theta) :]) / 2e-6
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-4 * np.abs(gradient).max())


def test_exact_data_are_recovered_to_many_digits_from_every_start(losses):
    problem = centre(get_law("chinchilla"), losses(1, scatter=0.0))
    found = minimise(problem, grid_of_starts(problem))
    assert status_of(problem, found) is FitStatus.CONVERGED
    assert np.mean(found.loss * 1e-6 < 1e-9) > 0.9
    alpha, beta = found.theta[np.argmin(found.loss)][3:]
    assert (alpha, beta) == pytest.approx((0.3478, 0.3658), abs=1e-5)


def test_most_starts_end_at_the_best_point_of_the_kinked_law(crossing):
    problem = centre(get_law("gap"), crossing(2))
    found = minimise(problem, grid_of_starts(problem))
    assert np.mean(found.loss < found.loss.min() + 0.01) > 0.5


def test_held_parameters_stay_and_weights_leave_rows_out(crossing):
    problem = centre(get_law("gap_n_free"), crossing(3))
    starts = grid_of_starts(problem)[:1]
    held = minimise(problem, starts, free=np.array([[True, False, True]]))
    assert held.theta[0, 1] == starts[0, 1]
    weights = np.ones((1, len(problem.response)))
    weights[0, :50] = 0.0
    spoiled = replace(problem, response=np.where(weights[0] > 0, problem.response, 1e3))
    expected = minimise(problem, starts, lambda run: weights[run]).theta
    np.testing.assert_allclose(minimise(spoiled, starts, lambda run: weights[run]).theta, expected, atol=1e-7)


def test_a_range_that_cuts_the_optimum_off_is_said(crossing):
    """Gaps that grow steeply with N want c beyond its upper end of 5."""
    table = crossing(4)
    problem = centre(get_law("gap_free_n"), table.assign(G=1e-40 * table.N**5.6 * np.exp(0.05 * np.sin(table.index))))
    found = minimise(problem, grid_of_starts(problem))
    assert status_of(problem, found) is FitStatus.AT_BOUND
    assert found.theta[np.argmin(found.loss), 1] == pytest.approx(bounds_of(problem.model)[1][1])


def test_a_start_at_the_optimum_has_not_moved(crossing):
    problem = centre(get_law("gap_n_free"), crossing(5))
    found = minimise(problem, grid_of_starts(problem))
    again = minimise(problem, found.theta[[np.argmin(found.loss)]])
    assert status_of(problem, again) is FitStatus.DID_NOT_MOVE


def test_no_finite_start_is_a_failure(crossing):
    problem = centre(get_law("gap_n_free"), crossing(6))
    problem.target[0] = np.nan
    assert status_of(problem, minimise(problem, grid_of_starts(problem))) is FitStatus.FAILED
