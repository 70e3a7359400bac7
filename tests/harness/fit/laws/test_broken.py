"""Broken power laws and M4: scipy on the same rows, the equation that M4 solves, and what their limits are."""

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq, curve_fit

from harness.fit.fitting import solve
from harness.fit.laws.registry import get_law
from harness.fit.problem.raw_units import raw_point

pytestmark = pytest.mark.slow

BREAK = {"E": 0.3, "b": 40.0, "c_0": 0.15, "c_1": 0.35, "d_1": 3e6, "f_1": 0.3}


def one_break(x, e, b, c_0, c_1, d_1, f_1):
    return e + b * x**-c_0 * (1 + (x / d_1) ** (1 / f_1)) ** (-c_1 * f_1)


def estimates(law, table, **choices):
    """The best fit in raw units."""
    fitted = solve(law, table, **choices)
    return raw_point(fitted.problem, fitted.identified.theta)


def test_one_break_is_where_scipy_finds_it():
    rng = np.random.default_rng(0)
    x = np.geomspace(1e4, 1e9, 60)
    table = pd.DataFrame({"x": x, "y": one_break(x, *BREAK.values()) * np.exp(0.003 * rng.standard_normal(60))})
    found = estimates("broken", table, objective="log_squares")
    # scipy takes the logs of b, d_1 and f_1, and begins at the truth.
    logs = ("b", "d_1", "f_1")
    start = [np.log(value) if name in logs else value for name, value in BREAK.items()]

    def direct(x, *p):
        return np.log(one_break(x, *(np.exp(v) if name in logs else v for name, v in zip(BREAK, p, strict=True))))

    best, _ = curve_fit(direct, x, np.log(table.y), start, xtol=1e-12)
    for (name, value), ours in zip(zip(BREAK, best, strict=True), found.values(), strict=True):
        assert ours == pytest.approx(np.exp(value) if name in logs else value, rel=0.02), name
    assert found["d_1"] == pytest.approx(3e6, rel=0.5) and found["c_1"] == pytest.approx(0.35, abs=0.1)


def test_a_sharp_break_is_a_kink_and_two_breaks_with_one_idle_are_one():
    x = {"x": np.geomspace(1e2, 1e10, 50)}
    with jax.enable_x64(True):
        sharp = np.asarray(get_law("broken").predict(BREAK | {"f_1": 0.01}, x))
        kink = 0.3 + 40 * x["x"] ** -0.15 * np.maximum(x["x"] / 3e6, 1) ** -0.35
        two = get_law("broken_twice").predict(BREAK | {"c_2": 0.0, "d_2": 1e8, "f_2": 0.2}, x)
        one = get_law("broken").predict(BREAK, x)
    np.testing.assert_allclose(sharp, kink, rtol=0.01)
    np.testing.assert_allclose(two, one, rtol=1e-12)


def test_two_breaks_are_recovered():
    rng = np.random.default_rng(1)
    x = np.geomspace(1e3, 1e10, 120)
    first = one_break(x, 0.0, 20.0, 0.0, 0.5, 1e5, 0.2)
    truth = 0.1 + first * (1 + (x / 1e8) ** (1 / 0.2)) ** (0.3 * 0.2)
    table = pd.DataFrame({"x": x, "y": truth * np.exp(0.003 * rng.standard_normal(120))})
    found = estimates("broken_twice", table)
    assert found["d_1"] == pytest.approx(1e5, rel=0.1) and found["d_2"] == pytest.approx(1e8, rel=0.3)
    assert found["c_1"] == pytest.approx(0.5, abs=0.03) and found["c_2"] == pytest.approx(-0.3, abs=0.1)


M4 = {"E": 0.2, "span": 1.9, "a": 0.6, "b": 300.0, "c": 0.4}


@pytest.mark.parametrize("a", [0.05, 0.6, 1.0, 3.0, 20.0])
def test_m4_solves_its_equation(a):
    """(y - E)/(y_0 - y)^a = b x^-c: the root that scipy's brentq finds, from the one end of the curve to the other."""
    values = M4 | {"a": a}
    x = np.geomspace(1e-8, 1e16, 60)
    with jax.enable_x64(True):
        predicted = np.asarray(get_law("m4").predict(values, {"x": x}))
    for size, y in zip(x, predicted, strict=True):
        right = np.log(300.0) - 0.4 * np.log(size) + (a - 1) * np.log(1.9)

        def surplus(v, right=right):  # of the logs, with y = E + span/(1 + exp(-v))
            return a * np.logaddexp(0, v) - np.logaddexp(0, -v) - right

        v = float(np.asarray(brentq(surplus, -1e4, 1e4, xtol=1e-12)))
        assert y == pytest.approx(0.2 + 1.9 * np.exp(-np.logaddexp(0, -v)), rel=1e-9)
    assert predicted[0] == pytest.approx(2.1, rel=1e-3) or a > 1
    assert np.all(np.diff(predicted) <= 0) and predicted.max() <= 2.1


def test_m4_is_recovered():
    rng = np.random.default_rng(0)
    x = np.geomspace(1e2, 1e9, 80)
    with jax.enable_x64(True):
        y = np.asarray(get_law("m4").predict(M4, {"x": x}))
    table = pd.DataFrame({"x": x, "y": y * np.exp(0.003 * rng.standard_normal(80))})
    found = estimates("m4", table)
    assert found["E"] == pytest.approx(0.2, abs=0.01) and found["span"] == pytest.approx(1.9, abs=0.05)
    assert found["c"] == pytest.approx(0.4, abs=0.03) and found["a"] == pytest.approx(0.6, abs=0.1)
