"""The page of a fit to anyone's table: its numbers are the fit's, and a section stands there if its input does."""

import base64
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness import fit, report
from harness.report.fit_rows import MOST_DRAWN, FittedRows
from harness.report.fit_sections import extrapolation_sentence
from harness.report.gather import read_any_table
from harness.report.table_page import headline
from sweeps.errors import InputError

pytestmark = pytest.mark.slow

# Chinchilla's law with a known optimum: N* = G (C/6)^(beta/(alpha + beta)), G = (alpha A/(beta B))^(1/(alpha + beta)).
E, A, B, ALPHA, BETA = 1.8, 480.0, 2085.0, 0.35, 0.37
BUDGETS = (1e18, 1e19, 1e20, 1e21, 1e22)
ROLES = {"N": "model_params", "D": "train_tokens", "L": "final_loss"}
OUTLIER = 21  # the row of the file whose loss is a tenth too high


def table_of(n: np.ndarray, d: np.ndarray) -> pd.DataFrame:
    loss = (E + A * n**-ALPHA + B * d**-BETA) * np.exp(0.002 * np.random.default_rng(4).standard_normal(len(n)))
    table = pd.DataFrame({"model_params": n, "train_tokens": d, "final_loss": loss})
    table.loc[OUTLIER - 1, "final_loss"] *= 1.1
    return table


def optimum(flops: float) -> float:
    return (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA)) * (flops / 6) ** (BETA / (ALPHA + BETA))


@pytest.fixture(scope="module")
def isoflop(tmp_path_factory):
    """Five budgets, nine sizes about the optimum of each; three rows first that a condition leaves out."""
    c = np.repeat(BUDGETS, 9)
    n = np.concatenate([optimum(flops) * np.geomspace(0.2, 5, 9) for flops in BUDGETS])
    table = table_of(np.concatenate([np.full(3, 1e3), n]), np.concatenate([np.full(3, 1e9), c / (6 * n)]))
    path = tmp_path_factory.mktemp("table") / "runs.csv"
    table.to_csv(path, index=False)
    written = report(path, "chinchilla", where="model_params > 1e4", holdout="train_tokens > 5e11")
    assert written == path.with_name("runs.html")
    fitted = fit(path, "chinchilla", set=ROLES, where="model_params > 1e4", holdout="train_tokens > 5e11")
    return table, written.read_text(), fitted


@pytest.fixture(scope="module")
def html(isoflop) -> str:
    return isoflop[1]


@pytest.fixture(scope="module")
def read(html, reader):
    return reader(html)


def test_the_page_is_one_file(html, read, assert_whole):
    assert_whole(html, read)


def test_every_number_among_the_constants_is_the_fits(read, isoflop):
    said = json.loads(isoflop[2].to_json())["parameters"]
    rows = {row[0]: row[1:] for row in read.rows["fit"]}
    for name, entry in said.items():
        estimate, interval, error = rows[name][:3]
        assert float(estimate) == pytest.approx(entry["estimate"], rel=1e-3)
        assert float(error) == pytest.approx(entry["se"], rel=1e-3)
        ends = [float(end) for end in interval.strip("[]").split(", ")]
        assert ends == pytest.approx([entry["ci_low"], entry["ci_high"]], rel=1e-3)


def test_the_row_farthest_from_the_law_has_its_number_in_the_file(read, isoflop):
    """Its residual is the log of the response less that of the law at the printed constants, over the scatter."""
    table, _, fitted = isoflop
    name, d, n, loss, law, off, deviations = read.rows["residuals"][1]
    assert name == f"row {OUTLIER}"
    n, d, observed = table.loc[OUTLIER - 1, ["model_params", "train_tokens", "final_loss"]]
    constants = {key: value.estimate for key, value in fitted.parameters.items()}
    expected = constants["E"] + constants["A"] * n ** -constants["alpha"] + constants["B"] * d ** -constants["beta"]
    assert float(law) == pytest.approx(expected, rel=1e-3) and float(loss) == pytest.approx(observed, rel=1e-3)
    assert float(off) == pytest.approx(100 * (observed / expected - 1), rel=1e-2)
    assert float(deviations) == pytest.approx(np.log(observed / expected) / fitted.scatter.log_residual_sd, rel=1e-2)


def test_what_was_read_is_told(read):
    rows = {row[0]: row[1:] for row in read.rows["read"][1:]}
    assert [rows[role][0] for role in ("N", "D", "L")] == ["model_params", "train_tokens", "final_loss"]
    assert "45 rows" in read.text and "N = model_params" in read.text and "train_tokens > 5e11" in read.text


def test_nothing_is_said_of_what_the_page_does_not_have(read):
    """The page shows no bootstrap, and nobody asked it for a budget; every search of these 45 rows ends."""
    assert "refits to resampled" not in read.text and "bootstrap intervals" not in read.text
    assert "times the largest budget" not in read.text
    answers = {row[0]: row[1] for row in read.rows["checklist"] if len(row) == 2}
    assert answers["bootstrap"] == "none" and answers["share of the starts that ended"] == "100%"


def test_the_optima_of_the_budgets_are_those_of_the_law(read):
    """To the spacing of the sizes, a factor of 1.5."""
    rows = [[float(cell.replace("−", "-").replace("–", "nan")) for cell in row] for row in read.rows["isoflop"][1:]]
    flops, best = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assert flops == pytest.approx(BUDGETS, rel=1e-3)
    assert best == pytest.approx([optimum(c) for c in BUDGETS], rel=0.5)


def test_windows_held_out_rows_and_choices_are_the_fits(read, html, isoflop, figures_of):
    fitted = isoflop[2]
    scored = next(t for f in figures_of(html) for t in f["data"] if t.get("meta") == "scored")
    assert len(scored["text"]) == fitted.extrapolation.rows
    assert f"{fitted.extrapolation.mean_abs_relative_error:.2%}" in read.text
    assert fitted.extrapolation.excess == 0.0 and "no more than the fits" in read.text
    poor = replace(fitted, extrapolation=replace(fitted.extrapolation, excess=0.0321))
    assert "by 0.0321 (root" in extrapolation_sentence(poor)
    held = read.rows["heldout"][1:]
    assert len(held) == fitted.holdout.rows == (isoflop[0].train_tokens > 5e11).sum()
    assert [row[0] for row in read.rows["sensitivity"][1:]] == [case.case for case in fitted.sensitivity]
    assert {row[0] for row in read.rows["checklist"]} >= set(fitted.checklist["runs"])


def test_the_curve_of_a_constant_ends_where_its_interval_does(read, html, isoflop, figures_of):
    """The drawn profile reaches the dashed line, the limit of the statistic, at the printed ends of the interval."""
    drawn = [figure for figure in figures_of(html) if figure["data"][0].get("meta") == "profile"]
    assert [figure["layout"]["xaxis"]["title"]["text"] for figure in drawn] == list(isoflop[2].parameters)
    for figure in drawn:
        (limit,) = {shape["y0"] for shape in figure["layout"]["shapes"] if shape["x0"] == 0}
        x, y = (np.frombuffer(base64.b64decode(figure["data"][0][axis]["bdata"])) for axis in "xy")
        entry = isoflop[2].parameters[figure["layout"]["xaxis"]["title"]["text"]]
        low, high = x[y <= 1.02 * limit][[0, -1]]
        assert (low, high) == pytest.approx((entry.ci_low, entry.ci_high), rel=0.02)
        assert y.min() == pytest.approx(0.0, abs=0.01) and y.max() > 0.9 * limit


def test_the_command_that_repeats_the_page_is_told(read):
    assert "--law chinchilla --where 'model_params > 1e4' --holdout 'train_tokens > 5e11'" in read.text


def test_a_table_without_budgets_and_held_out_rows_has_no_such_sections(tmp_path):
    rng = np.random.default_rng(1)
    table = table_of(10 ** rng.uniform(7, 9, 45), 10 ** rng.uniform(9, 11, 45))
    with pytest.raises(InputError, match="--to"):
        report(table, "chinchilla")
    html = report(table, "chinchilla", to=tmp_path / "page.html").read_text()
    for section in ("residuals", "extrapolation", "sensitivity", "checklist", "rows"):
        assert f'<section id="{section}"' in html
    for absent in ("isoflop", "heldout"):
        assert f'<section id="{absent}"' not in html


def test_a_table_in_which_nothing_is_known_has_a_page(tmp_path):
    """Gaps that are zero: no constant has a number, and nothing on the page may fail for that."""
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"N": 10 ** rng.uniform(6, 8, 40), "D": 10 ** rng.uniform(7, 9, 40)})
    table["G"] = 0.004 * rng.standard_normal(40)
    html = report(table, "gap", to=tmp_path / "page.html").read_text()
    assert "identify none of its constants" in html[: html.index("</h1>")] and "not shown to lie above zero" in html


def test_a_law_may_be_an_expression_of_the_tables_columns(isoflop):
    law = "E + A/model_params**alpha + B/train_tokens**beta with E=1.8"
    records = read_any_table(isoflop[0], law, set={"L": "final_loss"})
    assert records.law.columns == ("model_params", "train_tokens")
    assert [p.name for p in records.law.parameters] == ["A", "alpha", "B", "beta"]


def test_a_page_has_a_name_that_says_so(tmp_path):
    with pytest.raises(InputError, match="--to"):
        report(tmp_path / "absent.csv", "chinchilla", to=tmp_path / "runs.csv")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        report(tmp_path / "absent.csv", "chinchilla", to=tmp_path / "folder.html")


def test_of_many_rows_the_farthest_are_drawn():
    rows, count = np.arange(20_000), 20_000
    far = np.array([7, 1234, 19_998])
    residual = np.where(np.isin(rows, far), 50.0, 0.1)
    ones = np.ones(count)
    held = np.zeros(count, bool)
    drawn = FittedRows({"N": ones}, {"N": "N", "L": "L"}, "L", ones, ones, residual, "", held, rows.astype(str)).drawn()
    assert len(drawn.names) <= MOST_DRAWN and {"7", "1234", "19998"} <= set(drawn.names)


def test_the_headline_says_what_is_not_identified(isoflop):
    fitted = isoflop[2]
    assert "every constant" in headline(fitted) and f"{fitted.robustness.verdict} under" in headline(fitted)
    unknown = replace(fitted.parameters["E"], identified=False)
    undecided = replace(fitted.robustness, verdict="undecided")
    other = replace(fitted, parameters=fitted.parameters | {"E": unknown}, robustness=undecided)
    assert headline(other) == "The law chinchilla: these rows do not identify E."
