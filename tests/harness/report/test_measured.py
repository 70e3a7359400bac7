"""Figures of the measurement show the numbers they were given."""

import dataclasses

import numpy as np
import pytest

from harness.record.columns import ESTIMATORS
from harness.report.measured import (
    EXPECTED_BEYOND,
    by_recency,
    estimator_figure,
    estimators_table,
    label,
    over_training,
    placebo_figure,
    placebo_scores,
    side_by_side,
)


def cell(epochs: float, twin: float | None = 0.2):
    row = {"domain": "web", "N_nonembedding": 150_000, "U": 100_000, "epochs": epochs, "minimum_detectable_gap": 0.01}
    row |= {f"gap_{name}": 0.1 * place for place, name in enumerate(ESTIMATORS)} | {"gap_twin": twin}
    row |= {f"gap_{name}_se": 0.01 * (1 + place) for place, name in enumerate(ESTIMATORS)}
    row |= {f"placebo_{name}_z": -0.5 for name in ESTIMATORS}
    row |= {"online_lag": 0.03, "document_sd": 0.4, "paired_sd": 0.07, "noise_scale": 1e4}
    points = [{"epochs": e, "gap_twin": 0.1 * e, "gap_twin_se": 0.01} for e in (0.5, 1.0, 2.0)]
    bins = [
        {"since_from": None, "since_to": None, "visits": 1, "gap_twin": 0.9, "gap_twin_se": 0.1},
        {"since_from": 1000, "since_to": 2000, "visits": None, "gap_twin": 0.3, "gap_twin_se": 0.02},
        {"since_from": 0, "since_to": 1000, "visits": None, "gap_twin": 0.4, "gap_twin_se": 0.02},
    ]
    return row, {"trajectory": points, "recency": bins}


@pytest.fixture
def cells():
    return [cell(1.0), cell(2.0)]


def test_every_estimator_of_every_cell_stands_beside_its_label(cells):
    rows = [row for row, _ in cells]
    figure = side_by_side(rows)
    assert [trace.name for trace in figure.data] == list(ESTIMATORS)
    for trace in figure.data:
        assert list(trace.x) == [row[f"gap_{trace.name}"] for row in rows]
        np.testing.assert_allclose(trace.error_x.array, [1.96 * row[f"gap_{trace.name}_se"] for row in rows])
    assert list(figure.to_dict()["layout"]["yaxis"]["ticktext"]) == [label(row) for row in rows]


def test_a_gap_that_does_not_exist_has_no_mark():
    figure = side_by_side([cell(1.0)[0], cell(2.0, twin=None)[0]])
    assert [len(trace.x) for trace in figure.data] == [2, 2, 2, 1]
    assert "–" in estimators_table([cell(2.0, twin=None)[0]])


def test_lines_over_training_and_by_recency(cells):
    rows, found = zip(*cells, strict=True)
    for trace in over_training(rows, found).data:
        assert list(trace.x) == [0.5, 1.0, 2.0] and list(trace.y) == pytest.approx([0.05, 0.1, 0.2])
    for trace in by_recency(rows, found).data:
        assert list(trace.x) == [1500, 500] and list(trace.y) == [0.3, 0.4]  # not that of a number of visits


def test_the_table_has_every_number(cells):
    text = estimators_table([row for row, _ in cells])
    for number in ("0.1 ± 0.02", "0.2 ± 0.04", "0.01", "0.03", "0.07"):
        assert number in text


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
