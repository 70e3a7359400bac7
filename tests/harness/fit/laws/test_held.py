"""Constants that are held at a value: the others are those of a smaller law, whatever the units of the table."""

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from harness.fit.allocation.allocation import allocate_fit
from harness.fit.fitting import fit
from harness.fit.forecast import predict
from harness.fit.laws.held import hold, parse_held, with_held
from harness.fit.laws.law import UNIT_OF
from harness.fit.laws.registry import get_law, law_ids
from harness.fit.results.result import FitResult
from sweeps.errors import InputError

THREE_POINTS = pd.DataFrame({"flops": [2e17, 2e18, 1e19], "L": [3.75, 3.4, 3.15]})


def test_two_constants_of_three_points_are_those_of_least_squares():
    """scipy's least squares on the logs, with E put into the formula by hand."""
    direct = least_squares(
        lambda p: np.log(1.6 + np.exp(p[0]) * THREE_POINTS.flops ** -p[1]) - np.log(THREE_POINTS.L),
        [4.0, 0.09], xtol=1e-15, ftol=1e-15,
    ).x  # fmt: skip
    result = fit("compute_power with E=1.6", THREE_POINTS, objective="log_squares", bootstrap=0, sensitivity=False)
    assert set(result.parameters) == {"A", "alpha"} and "E = 1.6" in result.formula
    assert result.parameters["A"].estimate == pytest.approx(np.exp(direct[0]), rel=1e-4)
    assert result.parameters["alpha"].estimate == pytest.approx(direct[1], rel=1e-5)
    assert result.degrees == 3  # A, alpha, and the scale of the residuals


@pytest.mark.parametrize("law_id", law_ids())
def test_a_held_constant_has_its_raw_value_whatever_the_columns_are_divided_by(law_id):
    """Each constant is held in turn: the law predicts the same on raw columns and on columns divided by scales."""
    law = get_law(law_id)
    columns = {name: np.array([1e6, 3e7, 2e9]) if name in ("N", "D", "U") else np.array([2.0, 3.0, 5.0])
               for name in law.columns}  # fmt: skip
    if law.vectors or law.labels or not law.centred:
        pytest.skip("several constants of a kind, or fitted on raw columns")
    scales = {name: 7.0 if name not in law.signed else 1.0 for name in law.columns} | {law.response: 1.7}
    values = {p.name: p.starts[len(p.starts) // 2] * 1.1 for p in law.parameters}
    derived = law.derive(columns) if law.derive else {}
    centred = {name: column / scales[name] for name, column in columns.items()} | derived
    centred |= {UNIT_OF + name: np.full(3, 1.0 / scale) for name, scale in scales.items()}
    with jax.enable_x64(True):
        raw = law.rescale(values, scales)
        expected = np.asarray(law.predict(raw, columns | derived))
        for p in law.parameters[: len(law.parameters) - 1]:
            try:
                held = hold(law, {p.name: float(raw[p.name])})
            except InputError:
                assert not p.low <= raw[p.name] <= p.high
                continue
            free = {name: value for name, value in values.items() if name != p.name}
            np.testing.assert_allclose(held.predict(held.rescale(free, scales), columns | derived), expected, rtol=1e-8)
            np.testing.assert_allclose(
                scales[law.response] * np.asarray(held.predict(free, centred)), expected, rtol=1e-8
            )


def numbers(result, field="estimate"):
    """A field of every constant of a fit."""
    return {name: float(getattr(value, field)) for name, value in result.parameters.items()}


@pytest.mark.slow
def test_a_held_fit_is_the_profile_of_the_free_one(losses):
    """Held at the free fit's E, all other constants and the minimum are the free fit's; held elsewhere it is higher."""
    table, chinchilla = losses(0), get_law("chinchilla")
    free = fit(chinchilla, table, bootstrap=0, sensitivity=False)
    e = numbers(free)["E"]
    held = fit(hold(chinchilla, {"E": e}), table, bootstrap=0, sensitivity=False)
    assert numbers(held) == pytest.approx({n: x for n, x in numbers(free).items() if n != "E"}, rel=1e-4)
    assert all(se < numbers(free, "se")[name] for name, se in numbers(held, "se").items())
    elsewhere = fit(hold(chinchilla, {"E": e + 0.1}), table, bootstrap=0, sensitivity=False)
    assert held.objective.value == pytest.approx(free.objective.value, rel=1e-6)
    assert held.objective.value < elsewhere.objective.value
    assert held.degrees == free.degrees - 1


@pytest.mark.slow
def test_a_held_exponent_holds_through_json_prediction_and_allocation(losses):
    """N* ~ C^(beta/(alpha + beta)) with alpha = beta is C^1/2 exactly, in every draw."""
    fitted = fit("chinchilla with alpha=0.35 and beta=0.35", losses(1), bootstrap=20, sensitivity=False)
    again = FitResult.from_dict(fitted.to_dict())
    optimum = allocate_fit(again, [1e21]).exponents["N"]
    assert (optimum.estimate, optimum.low, optimum.high) == pytest.approx((0.5, 0.5, 0.5), abs=1e-9)
    p = numbers(again)
    predicted = predict(again, pd.DataFrame({"N": [1e9], "D": [1e10]}))["prediction"].to_list()
    assert predicted == pytest.approx([p["E"] + p["A"] * 1e9**-0.35 + p["B"] * 1e10**-0.35], rel=1e-9)


def test_what_cannot_be_held_is_said_in_a_line():
    chinchilla = get_law("chinchilla")
    cases: list[tuple[dict[str, float], str]] = [
        ({"Q": 1.0}, "one of the constants"),
        ({"alpha": 9.0}, "from 0 to 4"),
        ({"E": 0.0}, "above zero"),
        ({"E": float("nan")}, "above zero"),
        ({"E": 0.5, "A": 0.5, "B": 0.5, "alpha": 0.5, "beta": 0.5}, "fewer than all 5"),
    ]
    for values, expected in cases:
        with pytest.raises(InputError, match=expected):
            hold(chinchilla, values)
    with pytest.raises(InputError, match="one for each"):
        hold(get_law("crossover"), {"E": 1.0})
    for settings, expected in ((["E"], "NAME=VALUE"), (["E=x"], "a number"), (["E=1", "E=2"], "one value of E")):
        with pytest.raises(InputError, match=expected):
            parse_held(settings)


def test_the_id_of_a_law_with_held_constants_names_it():
    law = get_law(with_held("chinchilla", {"E": 1.6, "alpha": 1 / 3}))
    assert get_law(law.id) is law
    assert law.held == {"E": 1.6, "alpha": 1 / 3}
    assert get_law(with_held(law.id, {"B": 5.0})).held == {"E": 1.6, "alpha": 1 / 3, "B": 5.0}
