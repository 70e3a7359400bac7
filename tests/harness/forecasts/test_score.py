"""Scores of forecasts, against formulas by hand and published intervals; and their coverage in simulated worlds."""

import math

import numpy as np
import pandas as pd
import pytest

from harness.fit.fitting import fit
from harness.fit.referee.scores import interval_score
from harness.forecasts.register import register_fits
from harness.forecasts.registry_file import read_forecasts
from harness.forecasts.score import score_lines
from harness.source import open_runs
from sweeps.errors import InputError


def scores_of(forecasts, runs, **reading):
    return score_lines(forecasts, open_runs(pd.DataFrame(runs)), tell=lambda line: None, **reading)


def test_the_interval_score_is_width_and_forty_times_what_is_missed():
    # Gneiting and Raftery (2007), equation 43, with alpha 0.05: 2/alpha is 40.
    assert interval_score(1.0, 3.0, 2.0) == pytest.approx(2.0)
    assert interval_score(1.0, 3.0, 0.9) == pytest.approx(2.0 + 40 * 0.1)
    assert interval_score(1.0, 3.0, 3.5) == pytest.approx(2.0 + 40 * 0.5)
    assert interval_score(1.0, 3.0, 3.5, level=0.5) == pytest.approx(2.0 + 4 * 0.5)


def test_the_interval_score_is_least_at_the_true_quantiles():
    draws = np.random.default_rng(0).standard_normal(100_000)
    mean = {half: interval_score(-half, half, draws).mean() for half in (1.0, 1.5, 1.96, 2.5, 3.0)}
    assert min(mean, key=lambda half: mean[half]) == 1.96


def test_rows_within_two_percent_are_the_measurement(forecast_at):
    runs = {"N": [1.019e9, 1e9 / 1.019, 1.021e9, 1e9], "D": [2e10, 2e10, 2e10, 2.1e10], "L": [2.3, 2.1, 9.0, 9.0]}
    (found,) = scores_of([forecast_at()], runs).forecasts
    assert found.rows == (1, 2) and found.measured == pytest.approx(2.2)
    # The error of the mean of two is half their distance.
    assert found.measured_se == pytest.approx(0.1)
    assert found.low == pytest.approx(2.2 - math.hypot(0.2, 1.959964 * 0.1), abs=1e-6)
    assert found.high == pytest.approx(2.2 + math.hypot(0.2, 1.959964 * 0.1), abs=1e-6)


def test_what_a_law_does_not_read_tells_runs_apart_if_the_runs_have_it(forecast_at):
    runs = {"params": [1e9, 2e9], "D": [2e10, 2e10], "L": [2.1, 2.3]}
    by_d = forecast_at(law="hestness")
    for more in ({}, {"set": {"N": "params"}}):  # by its usual name, and as it is told
        assert scores_of([by_d, forecast_at()], runs, **more).laws[0].common == 1
        assert scores_of([by_d], runs, **more).forecasts[0].rows == (1,)
    nameless = {"D": runs["D"], "L": runs["L"]}
    assert scores_of([by_d], nameless).forecasts[0].rows == (1, 2)


def test_errors_of_the_rows_widen_the_interval(forecast_at):
    runs = {"N": [1e9], "D": [2e10], "L": [2.45]}
    (bare,) = scores_of([forecast_at()], runs).forecasts
    assert bare.covered is False and bare.measured_se is None and (bare.low, bare.high) == (2.0, 2.4)
    assert bare.error == pytest.approx(2.2 / 2.45 - 1) and bare.score == pytest.approx(0.4 + 40 * 0.05)
    (wide,) = scores_of([forecast_at()], runs | {"L_se": [0.1]}).forecasts
    assert wide.covered is True and wide.measured_se == pytest.approx(0.1)
    # Two rows that agree better than their errors say: the mean has the error sqrt(0.1^2 + 0.1^2)/2.
    two = {name: [value[0]] * 2 for name, value in (runs | {"L_se": [0.1]}).items()}
    assert scores_of([forecast_at()], two).forecasts[0].measured_se == pytest.approx(0.1 / math.sqrt(2))


def test_laws_are_ranked_at_the_points_that_all_of_them_forecast(forecast_at):
    runs = {"N": [1e9, 2e9], "D": [2e10, 2e10], "L": [2.2, 2.2]}
    forecasts = [
        forecast_at(1e9), forecast_at(2e9, run_low=1.0), forecast_at(4e9),
        forecast_at(1e9, law="tied", run_low=2.15, run_high=2.25),
    ]  # fmt: skip
    found = scores_of(forecasts, runs)
    tied, chinchilla = found.laws
    assert (tied.law, tied.rank, tied.common, tied.scored) == ("tied", 1, 1, 1)
    assert tied.interval_score == pytest.approx(0.1)
    # The wide interval at 2e9 is not counted: the other law has no forecast there.
    assert (chinchilla.rank, chinchilla.common, chinchilla.scored, chinchilla.missing) == (2, 1, 2, 1)
    assert chinchilla.interval_score == pytest.approx(0.4)
    assert [each.line for each in found.missing] == [3] and found.missing[0].point == {"N": 4e9, "D": 2e10}


def test_coverage_has_the_interval_of_clopper_and_pearson(forecast_at):
    sizes = 1e9 * 2.0 ** np.arange(10)
    runs = {"N": sizes, "D": np.full(10, 2e10), "L": [2.2] * 8 + [2.5, 2.1]}
    (law,) = scores_of([forecast_at(n) for n in sizes], runs).laws
    assert law.coverage == pytest.approx(0.9)
    # 9 of 10: 0.5550 and 0.9975 in the tables of Clopper and Pearson (1934).
    assert law.coverage_low == pytest.approx(0.5550, abs=1e-4) and law.coverage_high == pytest.approx(0.9975, abs=1e-4)
    assert law.largest_error == pytest.approx(1 - 2.2 / 2.5) and law.median_error == pytest.approx(0.0, abs=1e-9)


def test_a_forecast_of_a_run_that_had_ended_is_late(forecast_at):
    runs = {"N": [1e9, 2e9], "D": [2e10, 2e10], "L": [2.2, 2.2], "ended": ["2026-04-30T23:00", "2026-05-01T01:00Z"]}
    found = scores_of([forecast_at(1e9), forecast_at(2e9)], runs)
    assert [each.late for each in found.forecasts] == [True, False]
    (warning,) = found.warnings
    assert warning.code == "registered_late" and warning.message.endswith("line 1")
    # The same times in seconds since 1970.
    seconds = runs | {"ended": [1777590000, 1777597200]}
    assert [each.late for each in scores_of([forecast_at(1e9), forecast_at(2e9)], seconds).forecasts] == [True, False]


def test_forecasts_of_groups_are_scored_on_their_own_runs(forecast_at):
    runs = {"N": [1e9, 1e9], "D": [2e10, 2e10], "L": [2.2, 3.0], "corpus": ["web", "code"]}
    found = scores_of([forecast_at(by="corpus", group="code")], runs)
    assert found.forecasts[0].rows == (2,) and found.forecasts[0].point["corpus"] == "code"
    with pytest.raises(InputError, match="the column corpus of the forecasts"):
        scores_of([forecast_at(by="corpus", group="code")], {name: runs[name] for name in ("N", "D", "L")})


def test_a_response_that_the_runs_lack_is_not_measured_yet(forecast_at):
    told = []
    runs = pd.DataFrame({"N": [1e9], "D": [2e10], "L": [2.2]})
    forecasts = [forecast_at(), forecast_at(law="gap", response="G")]
    found = score_lines(forecasts, open_runs(runs), tell=told.append)
    assert [each.line for each in found.forecasts] == [1] and [each.line for each in found.missing] == [2]
    assert any(line.startswith("gap is not scored: ") for line in told)
    with pytest.raises(InputError, match="roles N, D"):
        scores_of(forecasts, {"L": [2.2]})


def tied(n, d):
    return 1.8 + 480 * n**-0.35 + 2000 * d**-0.35


@pytest.mark.slow
def test_registered_intervals_hold_what_is_measured_later(tmp_path):
    """Of 20 worlds 30 runs are fitted, and 20 more forecast, half of them measured with an error of one percent."""
    rng, covered = np.random.default_rng(0), []

    def sizes(count, beyond):
        return 10 ** rng.uniform(6, 9 + beyond, count), 10 ** rng.uniform(8, 11 + beyond, count)

    for world in range(20):
        n, d = sizes(30, 0.0)
        runs = pd.DataFrame({"N": n, "D": d, "L": tied(n, d) * np.exp(0.003 * rng.standard_normal(30))})
        result = fit("tied", runs, bootstrap=0, sensitivity=False)
        n, d = sizes(20, 0.5)
        file = tmp_path / f"{world}.jsonl"
        register_fits(file, {"": result}, pd.DataFrame({"N": n, "D": d}))
        error = np.where(np.arange(20) % 2, 0.03, 0.0)
        loss = tied(n, d) * np.exp(0.003 * rng.standard_normal(20)) + error * rng.standard_normal(20)
        found = scores_of(read_forecasts(file), {"N": n, "D": d, "L": loss, "L_se": error})
        covered.append([each.covered for each in found.forecasts])
    shares = np.mean(covered, axis=0)
    assert 0.90 <= shares[::2].mean() <= 0.99 and 0.90 <= shares[1::2].mean() <= 0.99
