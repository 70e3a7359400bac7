import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import t as student

from harness.fit.allocation.allocation import allocate_fit
from harness.fit.certainty.likelihood_ratio import losses_at
from harness.fit.fitting import fit, solve, with_confidence_set
from harness.fit.forecast import at_points, predict


def power_law(seed: int, rows: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    tokens = 10 ** rng.uniform(6, 10, rows)
    return pd.DataFrame({"D": tokens, "G": 0.5 * tokens**-0.4 * (1 + 0.05 * rng.standard_normal(rows))})


def ladder(seed: int) -> pd.DataFrame:
    """Sixteen runs of a loss whose floor of 0.462 is weakly known: 4 sizes, 4 ratios of tokens to parameters."""
    n = np.repeat([1.9e8, 3.7e8, 7.6e8, 1.28e9], 4)
    d = n * np.tile([20.0, 40.0, 100.0, 200.0], 4)
    loss = 0.462 + 7.8875 * n**-0.17186 + 41.03 * d**-0.23688
    return pd.DataFrame({"N": n, "D": d, "L": loss * np.exp(0.004 * np.random.default_rng(seed).standard_normal(16))})


# One such table, whose best fit has no floor: N* ~ C^.5795 is true, and 1.61e10 parameters at 1e22 FLOPs.
FLOOR_DROPPED = [
    0.9806816,
    0.9483876,
    0.9097129,
    0.8847261,
    0.9145309,
    0.8841409,
    0.856654,
    0.8414531,
    0.8540461,
    0.8296011,
    0.8069274,
    0.7900371,
    0.8174906,
    0.7929185,
    0.7725268,
    0.7602003,
]


@pytest.mark.slow
def test_a_slope_in_logs_has_students_interval():
    """Where the law is a line in logs, the interval is the textbook's, slope +- t se."""
    table = power_law(0)
    slope = fit("gap_n_free", table, bootstrap=0, sensitivity=False).parameters["b"]
    x, y = np.log(table.D), np.log(table.G)
    centred = x - x.mean()
    line = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - line * centred
    half = student.ppf(0.975, 57) * np.sqrt(residual @ residual / 58 / (centred @ centred))
    expected = (pytest.approx(-line - half, abs=0.1 * half), pytest.approx(-line + half, abs=0.1 * half))
    assert (slope.ci_low, slope.ci_high) == expected


@pytest.mark.slow
def test_what_the_rows_leave_open_has_no_end(ordinary):
    """Above the crossover alone A and z are not identified: they have no limits, beta has both."""
    result = fit("gap", ordinary(1), bootstrap=0, sensitivity=False)
    z, beta = result.parameters["z"], result.parameters["beta"]
    assert not z.identified and (z.ci_low, z.ci_high) == (None, None)
    assert beta.identified and beta.ci_low is not None and beta.ci_high is not None
    assert beta.ci_low < 0.42 < beta.ci_high
    slope = result.combinations["alpha - z*beta"]
    assert slope.ci_low < 0.31 - 0.74 * 0.42 < slope.ci_high and slope.ci_high - slope.ci_low < 0.1


def test_a_prefactor_has_its_interval_in_raw_units(losses):
    result = fit("chinchilla", losses(1), bootstrap=0, sensitivity=False)
    for name, truth in (("A", 482.01), ("B", 2085.43), ("E", 1.8172), ("alpha", 0.3478)):
        value = result.parameters[name]
        assert value.estimate is not None and value.ci_low is not None and value.ci_high is not None
        assert value.ci_low < value.estimate < value.ci_high
        assert value.ci_low * 0.97 < truth < value.ci_high * 1.03


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_floor_that_may_be_zero_takes_nobody_elses_interval_with_it(seed):
    """The best fit has no floor (alpha .06); its floor may reach .46 all the same, and alpha .17, the true values."""
    result = fit("chinchilla", ladder(seed), bootstrap=0, sensitivity=False)
    floor, alpha = result.parameters["E"], result.parameters["alpha"]
    assert not floor.identified and floor.ci_low is None
    assert floor.ci_high is not None and 0.46 < floor.ci_high < 0.7
    assert alpha.ci_low is not None and alpha.ci_high is not None
    assert alpha.ci_low < 0.07 and 0.172 < alpha.ci_high < 0.3


@pytest.mark.slow
def test_an_allocation_is_not_conditional_on_a_floor_of_zero():
    result = fit("chinchilla", ladder(0).assign(L=FLOOR_DROPPED), bootstrap=0, sensitivity=False)
    allocated = allocate_fit(result, 1e22)
    exponent, row = allocated.exponents["N"], allocated.budgets.iloc[0]
    assert exponent.low is not None and exponent.high is not None and exponent.low < 0.5795 < exponent.high
    assert row.N_low < 1.61e10 < row.N_high
    assert "extrapolated" in {warning.code for warning in allocated.warnings}
    alpha = result.parameters["alpha"]
    assert alpha.ci_low is not None and alpha.ci_high is not None and alpha.ci_low < 0.17186 < alpha.ci_high


@pytest.mark.slow
def test_the_interval_of_a_prediction_is_that_of_constrained_optimisation():
    """Least squares on logs: SLSQP finds the extremes of the loss at a far point where F is below its limit."""
    table = ladder(5)
    result = fit("chinchilla", table, bootstrap=0, sensitivity=False, objective="log_squares")
    n, d, y = table.N.to_numpy(), table.D.to_numpy(), np.log(table.L.to_numpy())
    point = pd.DataFrame({"N": [6.89e9], "D": [3.95e12]})
    scales = n.mean(), d.mean()

    def predicted(x, n, d):
        return np.log(x[0] + np.exp(x[1]) * (n / scales[0]) ** -x[2] + np.exp(x[3]) * (d / scales[1]) ** -x[4])

    def squares(x):
        return float(np.sum((predicted(x, n, d) - y) ** 2))

    best = {name: values[0] for name, values in result.confidence_set.items()}
    start = [
        best["E"], np.log(best["A"] * scales[0] ** -best["alpha"]), best["alpha"],
        np.log(best["B"] * scales[1] ** -best["beta"]), best["beta"],
    ]  # fmt: skip
    least, spare = squares(start), len(y) - 5
    limit = {"type": "ineq", "fun": lambda x: student.ppf(0.975, spare) ** 2 - (squares(x) / least - 1.0) * spare}
    bounds = [(0.0, None), (None, None), (0.0, 4.0), (None, None), (0.0, 4.0)]
    logs = np.log(at_points(result, point, result.confidence_set)[:, 0])
    rng = np.random.default_rng(0)
    for sign, end in ((1.0, logs.min()), (-1.0, logs.max())):
        found = []
        for _ in range(12):
            tried = np.array(start) + rng.normal(0, [0.05, 0.1, 0.01, 0.1, 0.01])
            ended = minimize(
                lambda x, sign=sign: sign * predicted(x, 6.89e9, 3.95e12), tried, constraints=[limit], bounds=bounds,
                method="SLSQP", options={"maxiter": 500, "ftol": 1e-12},
            )  # fmt: skip
            found.append(ended.fun if limit["fun"](ended.x) > -1e-3 else np.inf)
        assert end - logs[0] == pytest.approx(sign * min(found) - logs[0], rel=0.06)


def test_every_point_of_the_set_is_below_the_limit_and_predicts_nearly_as_well():
    fitted, region = with_confidence_set(solve("chinchilla", ladder(1)))
    assert region is not None
    falls = fitted.identified.ratio.falls(region.thetas, losses_at(fitted.problem, region.thetas))
    assert falls.max() < 1.05 * region.limit and np.sum(falls > 0.9 * region.limit) > len(falls) / 2


@pytest.mark.slow
def test_a_new_run_is_less_certain_than_the_law_and_more_so_far_away():
    table = ladder(2)
    result = fit("chinchilla", table, bootstrap=0)
    at = predict(result, pd.DataFrame({"N": [5e8, 5e10], "D": [2e10, 2e12]}))
    assert np.all(at.run_low < at.low) and np.all(at.run_high > at.high)
    assert at.run_high[1] / at.run_low[1] > 2 * at.run_high[0] / at.run_low[0] - 1
    assert at.beyond.tolist() == pytest.approx([1e19 / 3.2768e20, 1e23 / 3.2768e20])
    values = at_points(result, pd.DataFrame({"N": [5e8], "D": [2e10]}), result.confidence_set)
    assert values.min() == pytest.approx(at.low[0]) and values.max() == pytest.approx(at.high[0])  # inside the data
