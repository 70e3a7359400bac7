"""Sizes in other units than single counts are seen in their ratios; sound tables raise no doubt."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.allocation.allocation import allocate_fit, allocate_runs
from harness.fit.fitting import fit, solve
from harness.fit.forecast import doubts
from harness.fit.problem.sizes import doubtful_points, doubtful_table


def codes(warnings):
    return {warning.code for warning in warnings}


def sizes(n_unit: float = 1.0, d_unit: float = 1.0, flops_unit: float = 1.0) -> dict[str, np.ndarray]:
    n, d = np.geomspace(2e7, 2e9, 9), 20 * np.geomspace(2e7, 2e9, 9)
    return {"N": n / n_unit, "D": d / d_unit, "flops": 6 * n * d / flops_unit}


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ({}, set()),
        ({"n_unit": 1e6}, {"tokens_per_parameter", "flops_not_6nd"}),
        ({"d_unit": 1e6}, {"tokens_per_parameter", "flops_not_6nd"}),
        ({"d_unit": 1e9}, {"count_below_one", "tokens_per_parameter", "flops_not_6nd"}),
        ({"n_unit": 1e6, "d_unit": 1e9}, {"count_below_one", "tokens_per_parameter", "flops_not_6nd"}),
        ({"n_unit": 1e6, "d_unit": 1e6}, {"flops_not_6nd"}),
        ({"flops_unit": 1e9}, {"flops_not_6nd"}),
        ({"flops_unit": 8.64e19}, {"count_below_one", "flops_not_6nd"}),
        # Conventions that differ are no doubt: 2 N D of inference, 8 N D with recomputation, 32 experts.
        ({"flops_unit": 3.0}, set()),
        ({"flops_unit": 0.75}, set()),
        ({"flops_unit": 32.0}, set()),
    ],
)
def test_a_wrong_unit_is_seen(units, expected):
    assert codes(doubtful_table(sizes(**units))) == expected


@pytest.mark.slow
def test_few_tokens_are_no_doubt_for_a_gap(crossing):
    table = crossing(0)
    few = table.loc[table.D < 0.1 * table.N].reset_index(drop=True)
    assert "tokens_per_parameter" not in codes(solve("gap", few).problem.warnings)
    assert codes(solve("chinchilla", few.assign(L=few.G)).problem.warnings) >= {"tokens_per_parameter"}


def test_points_and_optima_are_held_against_the_fitted_sizes():
    largest = {"N": 1e9, "D": 2e10}
    inside = {"N": np.array([1e9, 5e10]), "D": np.array([2e10, 1e12])}
    assert codes(doubtful_points(inside, largest)) == set()
    beyond = {"N": np.array([2e11]), "D": np.array([4e11])}
    assert codes(doubtful_points(beyond, largest, optimal=True)) == {"far_beyond"}
    starved = {"N": np.array([1e9]), "D": np.array([5e8])}
    assert codes(doubtful_points(starved, largest)) == set()
    assert codes(doubtful_points(starved, largest, optimal=True)) == {"tokens_per_parameter"}


def test_fit_predict_and_allocate_say_it(losses):
    """Losses of runs whose sizes are given in millions of parameters and billions of tokens."""
    table = losses(0)
    wrong = fit("chinchilla", table.assign(N=table.N / 1e6, D=table.D / 1e9), bootstrap=0, sensitivity=False)
    assert "tokens_per_parameter" in codes(wrong.warnings)
    assert {"tokens_per_parameter", "far_beyond"} <= codes(allocate_fit(wrong, [1e21]).warnings)
    right = fit("chinchilla", table, bootstrap=0, sensitivity=False)
    assert right.sizes["N"] == pytest.approx((table.N.min(), table.N.max()))
    assert codes(doubts(right, pd.DataFrame({"N": [1e9, 1e15], "D": [2e10, 1e12]}))) == {
        "extrapolated", "far_beyond", "tokens_per_parameter",
    }  # fmt: skip
    assert codes(allocate_fit(right, [1e21]).warnings) == set()


def test_isoflop_profiles_in_giga_flops_are_doubted(profiles):
    table = profiles(0)
    flops = 6 * table.N * table.D
    doubted = {"flops_not_6nd", "far_beyond", "tokens_per_parameter"}
    counted = allocate_runs(table.assign(flops=flops.round(-10)), [1e22], 2, bootstrap=20)
    assert not codes(counted.warnings) & doubted
    giga = allocate_runs(table.assign(flops=flops.round(-10) / 1e9), [1e22], 2, bootstrap=20)
    assert {"flops_not_6nd", "far_beyond"} <= codes(giga.warnings)


@pytest.mark.parametrize("law", ["hestness_size", "henighan_n_opt"])
def test_a_law_may_predict_a_size(law):
    """N is then the response, and only the other sizes are held against each other."""
    n = np.geomspace(1e6, 1e9, 12)
    fitted = solve(law, pd.DataFrame({"N": n, "D": 1e3 * n**0.8, "flops": 1e12 * n**0.7}))
    assert "N" not in fitted.problem.sizes and len(fitted.problem.sizes) == 1
