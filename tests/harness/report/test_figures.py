import dataclasses

import numpy as np
import pytest

from harness import predict_gap
from harness.fit.gap_law.constants import estimated_constants
from harness.report import figures
from sweeps.published_gap import PUBLISHED_GAP, GapConstants


def constants_of(material) -> GapConstants:
    constants = estimated_constants(material.verdict.fit)
    assert constants is not None
    return constants


def range_of(figure):
    return figure.layout.yaxis.range


def runs_in(figure):
    return [trace for trace in figure.data if trace.meta == "runs"]


def test_where_the_law_holds_every_run_lies_on_the_published_curve(material):
    """With A N^-alpha f(u) as the gap, G N^alpha is A f(u) for every run."""
    exact = predict_gap(material.rows["N_nonembedding"], material.rows["D"])
    marks = dataclasses.replace(material.marks, gap=exact, se=np.zeros(len(exact)))
    figure = figures.collapse_figure(marks, PUBLISHED_GAP)
    curve = figure.data[0]
    for trace in runs_in(figure):
        expected = np.interp(np.log(trace.x), np.log(curve.x), curve.y)
        np.testing.assert_allclose(trace.y, expected, atol=0.01)


@pytest.mark.parametrize("published", [True, False])
def test_every_gap_is_drawn_also_the_negative_ones(material, published):
    figure = figures.collapse_figure(material.marks, PUBLISHED_GAP if published else constants_of(material))
    drawn = np.concatenate([trace.y for trace in runs_in(figure)])
    negative = int((material.rows["gap_probe"] < 0).sum())
    assert negative >= 2
    assert len(drawn) == len(material.rows) and int(np.sum(drawn < 0)) == negative
    low, high = range_of(figure)
    assert low < drawn.min() and drawn.max() < high


def test_gaps_below_what_is_detectable_are_hollow(material):
    rows = material.rows
    below = np.abs(rows["gap_probe"]) < rows["minimum_detectable_gap"]
    assert 0 < below.sum() < len(rows)
    symbols = [
        s for trace in runs_in(figures.gap_figure(material.marks, constants_of(material))) for s in trace.marker.symbol
    ]
    assert sum(symbol.endswith("-open") for symbol in symbols) == below.sum()


def test_without_constants_there_is_no_fitted_curve(material):
    figure = figures.gap_figure(material.marks, None)
    assert [trace for trace in figure.data if trace.mode == "lines"] == []
    assert len(runs_in(figure)) == 3


def test_residuals_are_the_gap_minus_the_law_over_its_spread(material):
    rows, constants, tau = material.rows, constants_of(material), material.verdict.fit.scatter.tau
    law = predict_gap(rows["N_nonembedding"], rows["D"], *constants)
    expected = (rows["gap_probe"] - law) / np.sqrt(rows["gap_probe_se"] ** 2 + (tau * law) ** 2)
    np.testing.assert_allclose(figures.standardized_residuals(material.marks, constants, tau), expected, rtol=1e-6)


def test_a_run_that_lies_far_off_is_still_in_the_figure(material):
    far = dataclasses.replace(material.marks, gap=material.marks.gap + 50 * material.marks.se)
    residual = figures.standardized_residuals(far, constants_of(material), material.verdict.fit.scatter.tau)
    figure = figures.residual_figures(far, residual)[0]
    drawn = np.concatenate([trace.y for trace in runs_in(figure)])
    low, high = range_of(figure)
    assert low < drawn.min() and drawn.max() < high


def test_coverage_marks_every_run_at_its_u_and_the_source_above_one(material):
    figure = figures.coverage_figure(material.records.runs)
    source, *marks = figure.data
    # (1e9 tokens, 1.3e10 parameters) and (4e12, 7e7): the corners of the source's ranges.
    assert source.x == pytest.approx((33.3, 6.25e6), rel=0.02)
    drawn = np.sort(np.concatenate([trace.x for trace in marks]))
    np.testing.assert_allclose(drawn, np.sort(material.runs["D"] / material.runs["N_nonembedding"] ** 0.74))
