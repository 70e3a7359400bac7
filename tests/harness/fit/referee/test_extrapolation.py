from dataclasses import replace

import numpy as np
import pytest

from harness.fit.compare import compare
from harness.fit.fitting import fit, solve
from harness.fit.laws.registry import get_law
from harness.fit.problem.centred import centre
from harness.fit.referee.extrapolation import WINDOWS, extrapolate, scale_of, windows_of


def test_windows_grow_with_scale_and_keep_clusters_whole(losses):
    table = losses(1).assign(cluster=np.arange(120) // 3)
    problem = centre(get_law("chinchilla"), table)
    scale, seen = scale_of(problem.law, problem.raw_columns), np.zeros(120, int)
    for train, test in windows_of(problem):
        assert not np.any(train & test)
        largest = {c: scale[problem.cluster == c].max() for c in np.unique(problem.cluster)}
        assert max(largest[c] for c in problem.cluster[train]) < min(largest[c] for c in problem.cluster[test])
        assert not set(problem.cluster[train]) & set(problem.cluster[test])
        seen += test
    assert len(windows_of(problem)) == WINDOWS
    assert seen.max() == 1 and 50 <= seen.sum() <= 62


def test_rows_held_out_by_the_user_are_in_no_window(losses):
    problem = centre(get_law("chinchilla"), losses(2), holdout="N > 3e8")
    for train, test in windows_of(problem):
        assert not np.any((train | test) & ~problem.fitted)


def test_the_law_itself_extrapolates_without_error(losses):
    found = solve("chinchilla", losses(3, scatter=0.0))
    beyond = extrapolate(found.problem, found.solutions)
    assert beyond is not None and beyond.relative.max() < 1e-3 and beyond.reach > 1.5
    one = replace(found.problem, columns={name: np.ones(120) for name in found.problem.columns})
    assert windows_of(one) == []


@pytest.mark.slow
def test_the_true_law_meets_larger_runs_best(losses):
    """A law without a floor bends away from losses that have one: it is last, and the resamplings agree."""
    ranked = compare(["kaplan", "compute_only", "chinchilla"], losses(4))
    assert ranked[0].law == "chinchilla" and ranked[0].p_best is not None and ranked[0].p_best > 0.95
    scores = [row.heldout_score for row in ranked]
    assert all(score is not None for score in scores) and scores == sorted(scores, key=lambda s: -(s or 0.0))
    assert ranked[0].heldout_error is not None and ranked[0].heldout_error < 0.01


@pytest.mark.slow
def test_rows_the_user_holds_out_rank_instead_of_windows(losses):
    table = losses(5)
    ranked = compare(["tied", "chinchilla"], table, holdout="N > 2e8")
    result = fit("chinchilla", table, holdout="N > 2e8", bootstrap=0, sensitivity=False)
    ours = next(row for row in ranked if row.law == "chinchilla")
    assert ours.heldout_error == pytest.approx(result.holdout.mean_abs_relative_error, rel=1e-6)
    scale = table.N * table.D
    assert ours.reach == pytest.approx(scale[table.N > 2e8].max() / scale[table.N <= 2e8].max())


@pytest.mark.slow
def test_a_fit_reports_how_it_extrapolates(losses):
    told = fit("chinchilla", losses(6), bootstrap=0).extrapolation
    assert told is not None and told.rows > 40 and 0 < (told.mean_abs_relative_error or 0) < 0.01
