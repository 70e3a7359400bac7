"""The regressions of log gaps: slopes that are known, intervals that cover, groups that differ and that do not."""

import numpy as np
import pandas as pd
import pytest

from harness.fit.gap_law.surface import compare_groups, fit_surface, scatter_interval

GRID = pd.DataFrame([(n, d) for n in (1e4, 1e5, 1e6) for d in (4e3, 3e4, 2e5)], columns=["N", "D"])


def draw(rng, gap, error=0.05, scatter=0.0, rows=GRID):
    """Cells with this gap, a relative error, and a scatter beyond it."""
    noise = np.exp(scatter * rng.standard_normal(len(rows))) + error * rng.standard_normal(len(rows))
    return rows.assign(G=gap * noise, G_se=gap * error)


def test_exact_gaps_give_their_slopes_back():
    gap = 0.2 * GRID["N"] ** -0.31 * GRID["D"] ** 0.12
    surface = fit_surface(GRID.assign(G=gap, G_se=1e-6 * gap))
    assert surface is not None
    assert surface.slope(1)[0] == pytest.approx(-0.31, abs=1e-5)
    assert surface.slope(2)[0] == pytest.approx(0.12, abs=1e-5)


def test_gaps_that_are_not_above_zero_have_no_slopes():
    gap = np.full(len(GRID), 0.01)
    gap[4] = -0.004
    assert fit_surface(GRID.assign(G=gap, G_se=0.001)) is None
    gap[2:5] = 0.002
    assert fit_surface(GRID.assign(G=gap, G_se=0.001)) is None


def test_intervals_of_slopes_cover_the_truth():
    rng = np.random.default_rng(0)
    gap = 0.2 * GRID["N"].to_numpy() ** 0.3 * GRID["D"].to_numpy() ** -0.1
    hits = 0
    for _ in range(400):
        surface = fit_surface(draw(rng, gap, scatter=0.1))
        assert surface is not None
        value, se = surface.slope(1)
        hits += abs(value - 0.3) <= surface.half_width(se)
    assert 0.92 <= hits / 400 <= 0.98


def test_slopes_keep_their_intervals_where_some_gaps_are_hardly_above_their_errors():
    # A wide grid on which the smallest gaps are 1 and 2 standard errors: most tables have some that are not clear, and
    # some that are below zero.
    rows = pd.DataFrame([(n, d) for n in (1e4, 1e5, 1e6) for d in (1e3, 4e3, 3e4, 2e5)], columns=["N", "D"])
    gap = 0.02 * (rows["N"].to_numpy() / 1e4) ** 0.3 * (rows["D"].to_numpy() / 1e3) ** 0.1
    error = np.full(len(rows), 0.002)
    error[[0, 1]] = gap[0], gap[1] / 2
    rng, hits, values, unclear = np.random.default_rng(0), 0, [], 0
    for _ in range(600):
        drawn = gap * np.exp(0.1 * rng.standard_normal(len(rows))) + error * rng.standard_normal(len(rows))
        surface = fit_surface(rows.assign(G=drawn, G_se=error))
        assert surface is not None
        value, se = surface.slope(1)
        values.append(value)
        hits += abs(value - 0.3) <= surface.half_width(se)
        unclear += np.any(drawn < 3 * error)
    assert unclear > 500 and 0.92 <= hits / 600 <= 0.98
    # Gaps near the limit of what is clear bias the slope by 0.15 of its error; the mean is known to 0.04 of it.
    assert abs(np.mean(values) - 0.3) < 0.25 * np.std(values)


def test_groups_with_one_exponent_differ_by_chance_whatever_the_form_of_the_gap():
    """The level of every point is free: a kinked law does not make groups look different."""
    rng = np.random.default_rng(0)
    shape = np.minimum(GRID["D"].to_numpy() / GRID["N"].to_numpy() ** 0.74, 1.0) ** -0.4
    values = []
    for _ in range(300):
        groups = [draw(rng, factor * shape).assign(kind=name) for name, factor in (("a", 1), ("b", 1.6), ("c", 0.7))]
        surface = compare_groups(pd.concat(groups, ignore_index=True), "kind")
        assert surface is not None
        values.append(surface.equality([1, 2]))
    # A scatter is never below zero, which makes the test careful.
    assert np.mean(np.asarray(values) <= 0.05) <= 0.05 and np.mean(np.asarray(values) <= 0.5) >= 0.2


def test_a_group_with_another_exponent_is_found_and_its_level_too():
    rng = np.random.default_rng(0)
    base = 0.1 * GRID["N"].to_numpy() ** 0.2
    other = 1.5 * base * (GRID["N"].to_numpy() / 1e5) ** 0.3
    both = pd.concat([draw(rng, base, 0.02).assign(kind="a"), draw(rng, other, 0.02).assign(kind="b")])
    surface = compare_groups(both, "kind", "b")
    assert surface is not None and surface.groups == ("b", "a")
    value, se = surface.difference(1, 1, 0)
    assert abs(value + 0.3) < 4 * se and se < 0.02 and surface.equality([1]) < 1e-3
    level, error = surface.difference(0, 1, 0)
    assert abs(level + np.log(1.5)) < 4 * error


def test_groups_without_common_points_are_not_compared():
    rng = np.random.default_rng(0)
    first, second = (draw(rng, np.full(9, 0.1)).assign(kind=name) for name in "ab")
    both = pd.concat([first, second.iloc[:7]])
    assert compare_groups(both, "kind") is None


def test_errors_that_cells_share_widen_the_mean_and_not_the_slope():
    rng = np.random.default_rng(0)
    gap = np.full(len(GRID), 0.1)
    alone = draw(rng, gap, 0.1)
    shared = alone.assign(G_shared=[(0.0099,)] * len(GRID))
    first, second = fit_surface(alone), fit_surface(shared)
    assert first is not None and second is not None
    assert second.covariance[0, 0] > 5 * first.covariance[0, 0]
    assert second.slope(1)[1] <= first.slope(1)[1] * 1.001


def test_the_interval_of_the_scatter_covers_it():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        error = np.full(30, 0.05)
        residual = np.hypot(0.08, error) * rng.standard_normal(30)
        _, low, high = scatter_interval(residual, error, 30)
        hits += high is not None and low <= 0.08 <= high
    assert 0.92 <= hits / 400 <= 0.98
    assert scatter_interval(np.zeros(10), np.full(10, 0.1), 10) == (0.0, 0.0, None)
