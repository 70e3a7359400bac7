"""Laws that are written as expressions: their fits are those of declared laws, of numpy and of scipy."""

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit

from harness.fit.compare import compare
from harness.fit.fitting import fit
from harness.fit.forecast import predict
from harness.fit.laws.registry import get_law, listed
from harness.fit.results.result import FitResult
from sweeps.errors import InputError

CHINCHILLA = "E + A/N**alpha + B/D**beta"


def constants(law):
    return {p.name: (p.transform, p.unit) for p in law.parameters}


@pytest.mark.public_data
def test_chinchilla_as_an_expression_has_the_objective_of_the_declared_law(public):
    table = public("chinchilla_epoch.csv").query("used_in_published_fit == 1")
    table = table.rename(columns={"params_N": "N", "tokens_D": "D", "loss": "L"}).reset_index(drop=True)
    result = fit(CHINCHILLA, table, bootstrap=0, sensitivity=False)
    assert result.objective.value == pytest.approx(1.018274e-3, abs=1e-9)
    assert result.objective.starts_within_1_percent == 1.0
    assert result.parameters["alpha"].estimate == pytest.approx(0.3473, abs=1e-3)


def test_units_are_those_of_the_declared_laws():
    written = get_law(CHINCHILLA)
    declared = {p.name: (p.transform, p.unit) for p in get_law("chinchilla").parameters}
    assert constants(written) == declared and written.linear == ("E", "A", "B")
    kaplan = constants(get_law("((N_c/N)**(alpha_N/alpha_D) + D_c/D)**alpha_D"))
    assert {name: set(unit.split()) for name, (_, unit) in kaplan.items()} == {
        "N_c": {"N", "L^1/alpha_N"}, "D_c": {"D", "L^1/alpha_D"}, "alpha_N": set(), "alpha_D": set(),
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        CHINCHILLA,
        "((N_c/N)**(alpha_N/alpha_D) + D_c/D)**alpha_D",
        "E + A*N**-a*(1 + D/K)**-b",
        "E + sqrt(A/N)*exp(-D/T) + B/(N*D)**b",
        "E + max(A/N, B/D)**c",
        "L = c*N**-a*D**(b - a) + k*(D/N)**2",
        "y = b + a/(1 + exp(-(N/K)))",
    ],
)
def test_units_make_the_expression_the_same_in_any_units(text):
    """predict(rescale(p, s), columns) = s[response] * predict(p, columns / s): what units are for."""
    law = get_law(text)
    assert law.centred
    columns = {"N": np.array([1e6, 3e7, 2e9]), "D": np.array([2e4, 5e8, 7e10])}
    scales = {"N": 4e7, "D": 9e8, "L": 2.5, "y": 0.3}
    values = {p.name: p.starts[-1] * 0.9 for p in law.parameters}
    with jax.enable_x64(True):
        raw = np.asarray(law.predict(law.rescale(values, scales), columns))
        centred = np.asarray(law.predict(values, {name: column / scales[name] for name, column in columns.items()}))
    np.testing.assert_allclose(raw, scales[law.response] * centred, rtol=1e-8)


def test_a_power_law_of_any_columns_is_a_straight_line_in_logs():
    """numpy's least squares on the logs of a made-up table of learning rates."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"tokens": 10 ** rng.uniform(8, 10, 48), "hidden_dim": rng.choice([512.0, 1024, 2048], 48)})
    table["batch"] = rng.choice([32.0, 128, 512], 48)
    table["lr"] = 3 * table.tokens**-0.15 * table.hidden_dim**-0.395 * np.sqrt(table.batch)
    table["lr"] *= np.exp(0.03 * rng.standard_normal(48))
    law = get_law("lr = c * tokens**a * hidden_dim**b * batch**g", table.columns)
    assert law.columns == ("tokens", "hidden_dim", "batch") and law.response == "lr"
    result = fit(law, table, objective="log_squares", bootstrap=0, sensitivity=False)
    logs = np.log(table[["tokens", "hidden_dim", "batch"]])
    line = np.linalg.lstsq(np.column_stack([np.ones(48), logs]), np.log(table.lr), rcond=None)[0]
    found = {name: result.parameters[name].estimate for name in ("c", "a", "b", "g")}
    assert found == pytest.approx({"c": np.exp(line[0]), "a": line[1], "b": line[2], "g": line[3]}, rel=1e-5)


@pytest.mark.slow
def test_an_expression_without_consistent_units_is_fitted_on_raw_columns():
    """A line in log10 N and a saturating curve: scipy's curve_fit on the same rows."""
    rng = np.random.default_rng(1)
    n = 10 ** rng.uniform(6, 9, 40)
    table = pd.DataFrame({"N": n, "L": 6.0 - 0.4 * np.log10(n) + 0.01 * rng.standard_normal(40)})
    line = fit("a - b*log10(N)", table, objective="squares", bootstrap=0, sensitivity=False)
    slope, height = np.polyfit(np.log10(n), table.L, 1)
    assert line.parameters["a"].estimate == pytest.approx(height, rel=1e-6)
    assert line.parameters["b"].estimate == pytest.approx(-slope, rel=1e-6)
    table["rate"] = 1 / (1 + (3e7 / n) ** 0.8) + 0.005 * rng.standard_normal(40)
    curve = fit("rate = 1/(1 + (K/N)**s)", table, objective="squares", bootstrap=0, sensitivity=False)
    direct, _ = curve_fit(lambda n, log_k, s: 1 / (1 + (np.exp(log_k) / n) ** s), n, table.rate, [17.0, 1.0])
    assert curve.parameters["K"].estimate == pytest.approx(np.exp(direct[0]), rel=1e-3)
    assert curve.parameters["s"].estimate == pytest.approx(direct[1], rel=1e-3)


@pytest.mark.slow
def test_an_expression_is_a_law_to_everyone_else(losses):
    """Through JSON and back, in a comparison, with a constant held, in a prediction."""
    table = losses(0)
    result = FitResult.from_dict(fit(CHINCHILLA, table, bootstrap=10, sensitivity=False).to_dict())
    predicted = predict(result, pd.DataFrame({"N": [1e9], "D": [1e10]}))["prediction"].to_list()
    assert predicted == pytest.approx([1.8172 + 482.01 * 1e9**-0.3478 + 2085.43 * 1e10**-0.3658], rel=0.01)
    ranked = compare([CHINCHILLA, "chinchilla", f"{CHINCHILLA} with E=1.8172"], table)
    by_law = {row.law: row for row in ranked}
    written, declared = by_law[f"L(N, D) = {CHINCHILLA}"], by_law["chinchilla"]
    assert written.log_likelihood == pytest.approx(declared.log_likelihood, abs=1e-3)
    assert by_law[f"L(N, D) = {CHINCHILLA} with E=1.8172"].degrees == declared.degrees - 1


def test_which_names_are_columns():
    table = ["N", "D", "B", "L"]
    assert get_law(CHINCHILLA).columns == ("N", "D")
    assert get_law(CHINCHILLA, table).columns == ("N", "B", "D")
    assert get_law(f"L(N, D) = {CHINCHILLA}", table).columns == ("N", "D")
    law = get_law("y = a*x^b", ["x"])
    assert get_law(law.id) is law  # the id says which names are columns
    assert listed("chinchilla,L(N, D) = A/N + B/min(D, N), tied") == [
        "chinchilla", "L(N, D) = A/N + B/min(D, N)", "tied"]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("E + A", "at least one column"),
        ("N + D", "at least one constant"),
        ("L = N = A", "one equals sign"),
        ("L = A*L/N", "L is one"),
        ("L(Q) = A/N", "columns in the brackets"),
        ("A/N +", "invalid syntax"),
        ("A.real/N", "Attribute"),
        ("A*N if N else A", "IfExp"),
        ("A*floor(N)", "not floor"),
        ("A*(N < 3)", "Compare"),
        ("__import__('os').system('true')", "Call"),
        ("A*open('x')", "open"),
        ("'A'*N", "Constant"),
    ],
)
def test_what_is_no_law_is_said_in_a_line(text, expected):
    with pytest.raises(InputError, match=expected) as refused:
        get_law(text)
    assert "\n" not in str(refused.value)


def random_expression(rng, depth: int) -> str:
    """An expression of the grammar of laws, and now and then of what the grammar lacks."""
    if depth == 0 or rng.random() < 0.2:
        return str(rng.choice(["A", "B", "a", "E", "N", "D", "2", "0.5", "1e-3"]))
    parts = [random_expression(rng, depth - 1) for _ in range(2)]
    if rng.random() < 0.2:
        name = rng.choice(["log", "exp", "sqrt", "abs", "log10", "min", "max", "floor", "missing"])
        return f"{name}({', '.join(parts if name in ('min', 'max') else parts[:1])})"
    return f"({parts[0]} {rng.choice(['+', '-', '*', '/', '**', '^', '**-', '%', '<', 'and'], p=WEIGHTS)} {parts[1]})"


WEIGHTS = np.array([6, 3, 6, 5, 3, 1, 2, 0.2, 0.2, 0.2]) / 26.6


def test_random_expressions_are_laws_or_refused():
    """A law gives a number per row and, where its constants have units, the same in any units; else one line."""
    rng = np.random.default_rng(0)
    columns = {"N": np.array([1e6, 1e9]), "D": np.array([1e8, 1e10])}
    scales = {"N": 3e7, "D": 2e9, "L": 2.5}
    small = {name: column / scales[name] for name, column in columns.items()}
    with_units = 0
    with jax.enable_x64(True), np.errstate(all="ignore"):
        for _ in range(400):
            text = random_expression(rng, 3)
            try:
                law = get_law(text)
            except InputError as refused:
                assert "\n" not in str(refused)
                continue
            values = {p.name: p.starts[0] for p in law.parameters}
            predicted = np.asarray(law.predict(values, small)) + np.zeros(2)
            assert predicted.shape == (2,)
            raw = np.asarray(law.predict(law.rescale(values, scales), columns))
            if law.centred and np.isfinite(raw).all() and np.isfinite(predicted).all():
                np.testing.assert_allclose(raw, scales["L"] * predicted, rtol=1e-6, atol=1e-12)
                with_units += 1
    assert with_units > 10
