"""Simulated series have the patterns that their kinds promise; real ones are those of the packages."""

import numpy as np
import pytest

from harness.data.world import parse_world
from harness.data.worlds.series import SIMULATED, quantised


def options_of(text: str):
    return parse_world(f"series:{text}")[1]


@pytest.mark.parametrize("bins", [16, 1000])
def test_bins_are_of_series_over_their_mean_size(bins):
    values = np.random.default_rng(0).normal(3, 2, 500)
    scaled = values / np.abs(values).mean()
    expected = np.digitize(scaled, np.linspace(-5, 5, bins + 1)) - 1
    assert (quantised(values, options_of(f"bins={bins}")) == np.clip(expected, 0, bins - 1)).all()
    # The scale of a series does not matter, and outliers are in the outermost bins.
    assert (quantised(8 * values, options_of(f"bins={bins}")) == quantised(values, options_of(f"bins={bins}"))).all()
    assert quantised(np.array([1e9, *np.ones(99)]), options_of(f"bins={bins}"))[0] == bins - 1
    assert (quantised(np.zeros(5), options_of(f"bins={bins}")) == bins // 2).all()


def test_standard_scaling_takes_the_level_away():
    values = np.random.default_rng(1).normal(0, 1, 400) + 1e6
    ids = quantised(values, options_of("scaling=standard,bins=200"))
    assert ids.mean() == pytest.approx(99.5, abs=0.5) and ids.std() == pytest.approx(20, rel=0.02)


def test_seasonal_series_repeat():
    values = SIMULATED["seasonal"](5, 200, 480)
    centred = values - values.mean(axis=1, keepdims=True)
    # Of the periods that there are, one has a correlation that is far from chance.
    best = np.max([np.mean(centred[:, :-p] * centred[:, p:], axis=1) for p in (4, 7, 12, 24, 48, 52, 96)], axis=0)
    assert np.mean(best / centred.var(axis=1) > 0.5) > 0.8


def test_trends_are_lines_with_two_bends():
    values = SIMULATED["trending"](5, 200, 480)
    time = np.linspace(0, 1, 480)
    powers = np.stack([time**k for k in range(6)])
    residual = values - np.linalg.lstsq(powers.T, values.T, rcond=None)[0].T @ powers
    assert np.median(residual.std(axis=1) / values.std(axis=1)) < 0.7
    assert np.abs(np.diff(residual.mean(axis=0))).max() < 0.2


def test_regimes_have_levels_and_last():
    values = SIMULATED["switching"](5, 200, 2000)
    calm = values[np.argsort(np.abs(np.diff(values, axis=1)).mean(axis=1))[:50]]
    # A calm series stays where it is and jumps now and then: at most one in twenty steps is larger than half its range.
    jumps = np.abs(np.diff(calm, axis=1)) > 0.25 * np.ptp(calm, axis=1)[:, None]
    assert 0.003 < jumps.mean() < 0.05


def test_walks_have_steps_that_do_not_depend_on_each_other():
    steps = np.diff(SIMULATED["walking"](5, 200, 2000), axis=1)
    steps -= steps.mean(axis=1, keepdims=True)
    memory = np.mean(steps[:, 1:] * steps[:, :-1], axis=1) / steps.var(axis=1)
    assert np.abs(memory).mean() < 2 / np.sqrt(2000)


def test_all_kinds_are_equally_frequent_sources():
    world, options = parse_world("series:series=2000,points=16")
    sources = [document.source for document in world.documents(options)]
    assert {name: sources.count(name) for name in SIMULATED} == dict.fromkeys(SIMULATED, 500)


def test_real_series_are_those_of_the_packages():
    datasets = pytest.importorskip("statsmodels.datasets")
    world, options = parse_world("series:part=real,points=300,bins=500")
    pieces: dict[str, list[np.ndarray]] = {}
    for document in world.documents(options):
        assert len(document.ids) <= 300 and document.group.startswith(f"{document.source}/")
        pieces.setdefault(document.group, []).append(document.ids)
    found = {group: np.concatenate(parts) for group, parts in pieces.items()}
    spots = datasets.sunspots.load_pandas().data["SUNACTIVITY"].to_numpy(float)
    assert (found["sunspots/SUNACTIVITY"] == np.floor((spots / spots.mean() + 5) * 50).clip(0, 499)).all()
    carbon = datasets.co2.load_pandas().data["co2"].dropna()
    assert len(found["co2/co2"]) == len(carbon)
    assert len(found) > 200 and 30_000 < sum(map(len, found.values())) < 50_000
