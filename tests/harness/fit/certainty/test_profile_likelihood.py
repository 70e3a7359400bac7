import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from harness.fit.certainty.profile_likelihood import limit_of, profile_intervals
from harness.fit.fitting import fit, solve


def power_law(seed: int, rows: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    tokens = 10 ** rng.uniform(6, 10, rows)
    return pd.DataFrame({"D": tokens, "G": 0.5 * tokens**-0.4 * (1 + 0.05 * rng.standard_normal(rows))})


def test_a_slope_in_logs_has_students_interval():
    """Where the law is a line in logs, the profile_intervals interval is the textbook's, slope +- t se."""
    table = power_law(0)
    fitted = solve("gap_n_free", table)
    low, high = profile_intervals(fitted.problem, fitted.identified, fitted.degrees)["b"]
    x, y = np.log(table.D), np.log(table.G)
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - slope * centred
    half = student.ppf(0.975, 57) * np.sqrt(residual @ residual / 58 / (centred @ centred))
    assert low is not None and high is not None
    assert (low, high) == (pytest.approx(-slope - half, abs=0.1 * half), pytest.approx(-slope + half, abs=0.1 * half))


def test_many_rows_ask_for_the_fall_of_chi_squared():
    assert limit_of(1e6, 5) == pytest.approx(3.8415, abs=1e-3)
    assert limit_of(12, 5) > 5.0


def test_what_the_rows_leave_open_has_no_end(ordinary):
    """Above the crossover alone A and z are not identified: they get no interval, beta gets one."""
    result = fit("gap", ordinary(1), bootstrap=0, sensitivity=False, profile=True)
    assert result.parameters["z"].profile_low is None
    beta = result.parameters["beta"]
    assert beta.profile_low is not None and beta.profile_high is not None
    assert beta.profile_low < 0.42 < beta.profile_high


def test_a_prefactor_is_profiled_in_raw_units(losses):
    result = fit("chinchilla", losses(1), bootstrap=0, sensitivity=False, profile=True)
    for name, truth in (("A", 482.01), ("B", 2085.43), ("E", 1.8172), ("alpha", 0.3478)):
        value = result.parameters[name]
        assert value.estimate is not None and value.profile_low is not None and value.profile_high is not None
        assert value.profile_low < value.estimate < value.profile_high
        assert value.profile_low * 0.97 < truth < value.profile_high * 1.03
