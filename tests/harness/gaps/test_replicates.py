"""The mean gap of a cell and its error, against simulated cells whose truth is known."""

import numpy as np
import pytest
from scipy.stats import kstest

from harness.gaps.replicates import CellGap, Draws, cell_gaps, draws_for, prior_of
from sweeps.grid import FIRST_DRAWS


def cells_of(rng, *, cells: int, draws: int, ratio: float, varying: float = 0.0) -> tuple[list[Draws], np.ndarray]:
    """Cells with true gaps, whose draws scatter with `ratio` times the variance that they have from within.

    The ratio of a cell is `varying` times more or less, by a standard normal's exponential.
    """
    truth, errors = rng.uniform(0, 0.05, cells), 10 ** rng.uniform(-4, -2, cells)
    of_cell = ratio * np.exp(varying * rng.standard_normal(cells))
    made = []
    for gap, error, each in zip(truth, errors, of_cell, strict=True):
        noise = error * np.sqrt(each) * rng.standard_normal(draws)
        made.append(Draws(gap + noise, np.full(draws, error)))
    return made, truth


@pytest.mark.parametrize(("draws", "ratio", "varying"), [(2, 1.0, 0.0), (2, 3.0, 0.5), (4, 0.5, 1.0), (12, 2.0, 1.5)])
def test_intervals_cover_the_truth(draws, ratio, varying):
    rng, covered, widths = np.random.default_rng(draws), [], []
    for _ in range(60):
        cells, truth = cells_of(rng, cells=40, draws=draws, ratio=ratio, varying=varying)
        for cell, found, true in zip(cells, cell_gaps(cells), truth, strict=True):
            low, high = found.interval
            covered.append(low <= true <= high)
            widths.append(found.se / (np.std(cell.gaps, ddof=1) / np.sqrt(draws)))
    assert 0.93 <= np.mean(covered) <= 0.97
    assert np.quantile(widths, 0.9) < 20  # a pair of draws that happen to agree does not count as certain


def test_the_ratio_of_the_variances_and_its_spread_are_found():
    """The variance of a cell is ratio d / chi2_d, as the method assumes: both numbers are found from 4,000 cells."""
    rng, errors = np.random.default_rng(3), np.full(4000, 0.01)
    variance = 2.5 * 8 / rng.chisquare(8, 4000)
    cells = [
        Draws(0.01 * np.sqrt(each) * rng.standard_normal(5), np.full(5, error))
        for each, error in zip(variance, errors, strict=True)
    ]
    prior = prior_of(cells)
    assert prior.ratio == pytest.approx(2.5, rel=0.05) and prior.degrees == pytest.approx(8, rel=0.25)
    alike, _ = cells_of(rng, cells=4000, draws=5, ratio=2.5)
    assert prior_of(alike).ratio == pytest.approx(2.5, rel=0.03) and prior_of(alike).degrees > 100


def test_many_draws_speak_for_themselves_and_one_for_what_the_others_show():
    rng = np.random.default_rng(5)
    many = Draws(0.02 + 0.003 * rng.standard_normal(500), np.full(500, 0.001))
    (alone,) = cell_gaps([many])
    assert alone.se == pytest.approx(np.std(many.gaps, ddof=1) / np.sqrt(500)) and alone.degrees == 499
    (single,) = cell_gaps([Draws(np.array([0.03]), np.array([0.004]))])
    assert (single.gap, single.se, single.agreement) == (0.03, 0.004, None)
    assert single.interval == pytest.approx((0.03 - 1.96 * 0.004, 0.03 + 1.96 * 0.004), rel=1e-4)
    others, _ = cells_of(rng, cells=300, draws=6, ratio=4.0)
    *_, single = cell_gaps([*others, Draws(np.array([0.03]), np.array([0.004]))])
    assert single.se == pytest.approx(0.008, rel=0.1)
    (nothing,) = cell_gaps([Draws(np.array([]), np.array([]))])
    assert np.isnan(nothing.gap) and np.isinf(nothing.se)


def test_the_test_of_agreement_has_its_level_and_finds_what_errors_miss():
    rng = np.random.default_rng(7)
    right, _ = cells_of(rng, cells=1000, draws=5, ratio=1.0)
    assert kstest([found.agreement for found in cell_gaps(right)], "uniform").pvalue > 0.01
    wrong, _ = cells_of(rng, cells=1000, draws=5, ratio=9.0)
    assert np.mean(np.asarray([found.agreement for found in cell_gaps(wrong)], float) < 0.05) > 0.9


def of_draws(count: int, within: float) -> Draws:
    return Draws(np.zeros(count), np.full(count, within))


def test_draws_are_added_until_the_error_is_small_enough():
    found = CellGap(0.02, 0.005, 1e6, 0.01, 0.5)
    # 16 are needed, and the spread of 4 is known only roughly.
    assert draws_for(of_draws(4, 0.0), found, 0.0025, 100) == 8
    assert draws_for(of_draws(12, 0.0), found, 0.0025, 100) == 17
    assert draws_for(of_draws(12, 0.0), found, 0.0025, 14) == 14
    assert draws_for(of_draws(40, 0.0), found, 0.0025, 100) == 40
    assert draws_for(of_draws(12, 0.012), found, 0.0025, 100) == 24  # by the errors from within
    assert draws_for(of_draws(11, 0.0), found._replace(degrees=10.0), 0.0025, 100) == 20  # 1.2 times as many


@pytest.mark.parametrize(("cells", "needed"), [(1, 30), (3, 8), (12, 8), (12, 30)])
def test_the_wanted_error_is_reached(cells, needed):
    """Over 200 sweeps with as many draws as are asked for: the true error of a cell's mean, relative to the wanted."""
    reached = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        errors = 10 ** rng.uniform(-3, -2, cells)
        spread = errors * np.sqrt(2 * np.exp(0.5 * rng.standard_normal(cells)))
        gaps = spread[:, None] * rng.standard_normal((cells, 512))
        wanted, counts, before = float(np.median(spread) / np.sqrt(needed)), [FIRST_DRAWS] * cells, None
        while counts != before:
            before = counts
            draws = [
                Draws(own[:count], np.full(count, error))
                for own, count, error in zip(gaps, counts, errors, strict=True)
            ]
            pairs = zip(draws, cell_gaps(draws), strict=True)
            counts = [draws_for(cell, found, wanted, 512) for cell, found in pairs]
        more = np.asarray(counts) > FIRST_DRAWS  # a cell that needs fewer than it begins with is better than wanted
        reached += list((spread / np.sqrt(counts) / wanted)[more])
    assert 0.8 < np.sqrt(np.mean(np.square(reached))) < 1.1
    assert np.quantile(reached, 0.95) < 1.3
