"""The study of a crossing: its line's intervals, the measured place, and forecasts that nothing changes afterwards."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import linregress, t

from harness.forecasts.registry_file import read_forecasts
from harness.study.cells import read_study_runs
from harness.study.forecasts import register_of_paper
from harness.study.loss_worlds import design_runs, draw_runs
from harness.study.paper import get_paper
from harness.study.papers.recipes.crossing import CROSSING, _forecast, _measured_place, line_forecast
from harness.study.studies import load_study, studies_folder
from sweeps.errors import InputError
from sweeps.grid import load

DECLARED = load_study("crossing").forecasts[0]
FOLDER = studies_folder() / "crossing"


@pytest.fixture(scope="module")
def small():
    """The small runs of a world in which every difference is a line."""
    return draw_runs(CROSSING.worlds[0], design_runs([load("crossing")]), np.random.default_rng(3))


def half_width(x, y, at):
    """The half of the 95 % interval of a line, by scipy's least squares."""
    slope, intercept, *_ = linregress(x, y)
    left = y - intercept - slope * x
    variance = np.sum(left**2) / (len(x) - 2) * (1 / len(x) + (at - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    return intercept + slope * at, t.ppf(0.975, len(x) - 2) * math.sqrt(variance)


def test_a_line_is_that_of_scipy_and_its_zero_is_where_its_interval_holds_zero():
    rng = np.random.default_rng(0)
    x = np.repeat([20.0, 21.0, 22.5, 23.0], 6)
    y = 0.05 * (x - 24.0) + 0.03 * rng.standard_normal(len(x))
    zero, (told,) = line_forecast(x, y, [26.0])
    value, half = half_width(x, y, 26.0)
    assert told == pytest.approx((value, value - half, value + half))
    assert zero.low is not None and zero.high is not None
    assert half_width(x, y, zero.estimate)[0] == pytest.approx(0, abs=1e-12)
    below = brentq(lambda at: np.subtract(*np.abs(half_width(x, y, at))), 10.0, zero.estimate)
    above = brentq(lambda at: np.subtract(*np.abs(half_width(x, y, at))), zero.estimate, 200.0)
    assert (zero.low, zero.high) == pytest.approx((below, above))


def test_a_zero_has_no_ends_where_the_slope_may_be_zero():
    x = np.repeat([20.0, 21.0, 22.0], 4)
    zero, _ = line_forecast(x, np.random.default_rng(1).standard_normal(12) - 0.1, [])
    assert zero.estimate is not None and zero.low is None and zero.high is None


@pytest.mark.parametrize("bend", [0.0, -0.002])
def test_the_measured_place_is_the_zero_of_a_known_curve(bend):
    """In 60 tables with errors of 1 % the interval holds the truth in at least 51, which 95 % miss once in 10,000."""
    n = np.repeat([1500.0, 2400.0, 3500.0, 6200.0, 14000.0, 25000.0, 39000.0], 6)
    x, held = np.log(240 * n**2), 0
    truth = math.log(4e10)
    for seed in range(60):
        noise = 0.01 * np.random.default_rng(seed).standard_normal(len(n))
        effect = 0.03 * (x - truth) + bend * (x - truth) ** 2 + noise
        place = _measured_place(pd.DataFrame({"N": n, "C": np.exp(x), "effect": effect}))
        held += place.holds(truth)
    assert held >= 51


def test_recipes_that_do_not_cross_have_no_measured_place():
    n = np.repeat([1500.0, 2400.0, 3500.0, 6200.0, 14000.0], 6)
    effect = -0.05 + 0.01 * np.random.default_rng(0).standard_normal(len(n))
    place = _measured_place(pd.DataFrame({"N": n, "C": 240 * n**2, "effect": effect}))
    assert place == (None, None, None)


@pytest.mark.slow
def test_forecasts_are_written_once_and_never_anew(small, tmp_path):
    first = register_of_paper(CROSSING, DECLARED, small, tmp_path)
    lines = (tmp_path / DECLARED.file).read_bytes()
    assert len(first.added) == len(read_forecasts(tmp_path / DECLARED.file)) and {one.law for one in first.added} == {
        "line", "curves",
    }  # fmt: skip
    again = register_of_paper(CROSSING, DECLARED, small.iloc[: len(small) // 2], tmp_path)
    assert not again.added and (tmp_path / DECLARED.file).read_bytes() == lines
    with pytest.raises(InputError, match="forecasts"):
        register_of_paper(get_paper("crossover"), DECLARED, small, tmp_path / "other")


@pytest.mark.slow
def test_the_committed_forecasts_are_those_of_the_small_runs_and_those_that_were_judged():
    written = read_forecasts(FOLDER / DECLARED.file)
    runs = read_study_runs(FOLDER / "runs.parquet")
    small = runs.loc[runs["block"].isin(DECLARED.fitted_to)]
    again = {one.key: one for one in _forecast(small)}
    assert len(again) == len(written)
    for one in written:
        assert again[one.key].prediction == pytest.approx(one.prediction, rel=1e-3, abs=1e-5)
    judged = json.loads((FOLDER / "verdict.json").read_text())["tables"]["where the curves cross, FLOPs"]
    places = {(row["pair"], row["by"].removeprefix("forecast, ")): row["FLOPs"] for row in judged}
    words = {"line": "the line of paired differences", "curves": "a curve with a floor for each recipe"}
    for one in written:
        if one.response == "flops":
            assert places[one.group, words[one.law]] == pytest.approx(one.prediction, rel=1e-3)
