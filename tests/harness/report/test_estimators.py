import dataclasses

import numpy as np
import pytest

from harness.report.estimators import EXPECTED_BEYOND, estimator_figure, placebo_figure, placebo_scores


def test_two_standard_errors_are_passed_by_one_in_twenty_two():
    """P(|z| > 2) = 0.0455 (tables of the normal distribution)."""
    assert pytest.approx(0.0455, abs=5e-5) == EXPECTED_BEYOND


def test_placebos_without_an_error_have_no_score(material):
    placebo, se = np.asarray([0.2, -0.3, np.nan, 0.1]), np.asarray([0.1, 0.1, 0.1, np.nan])
    marks = dataclasses.replace(material.marks, placebo=placebo, placebo_se=se)
    assert placebo_scores(marks).tolist() == pytest.approx([2.0, -3.0])


def test_normal_scores_lie_on_the_line():
    scores = np.random.default_rng(3).standard_normal(2000)
    points = placebo_figure(scores).data[1]
    inner = np.abs(points.x) < 2
    np.testing.assert_allclose(points.y[inner], points.x[inner], atol=0.15)


def test_equal_estimators_lie_on_the_line(material):
    marks = dataclasses.replace(material.marks, online=material.marks.probe)
    line, points = estimator_figure(marks).data
    np.testing.assert_allclose(points.x, points.y)
    np.testing.assert_allclose(line.x, line.y)
