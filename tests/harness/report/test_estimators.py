import numpy as np
import pandas as pd
import pytest

from harness.report.estimators import EXPECTED, estimator_figure, placebo_figure, placebo_scores


def test_two_standard_errors_are_passed_by_one_in_twenty_two():
    """P(|z| > 2) = 0.0455 (tables of the normal distribution)."""
    assert pytest.approx(0.0455, abs=5e-5) == EXPECTED


def test_placebos_without_an_error_have_no_score():
    rows = pd.DataFrame({"placebo": [0.2, -0.3, None, 0.1], "placebo_se": [0.1, 0.1, 0.1, None]}, dtype=object)
    assert placebo_scores(rows).tolist() == pytest.approx([2.0, -3.0])


def test_normal_scores_lie_on_the_line():
    scores = np.random.default_rng(3).standard_normal(2000)
    points = placebo_figure(scores).data[1]
    inner = np.abs(points.x) < 2
    np.testing.assert_allclose(points.y[inner], points.x[inner], atol=0.15)


def test_equal_estimators_lie_on_the_line(material):
    rows = material.rows.assign(gap_online=material.rows["gap_probe"])
    line, points = estimator_figure(rows).data
    np.testing.assert_allclose(points.x, points.y)
    np.testing.assert_allclose(line.x, line.y)
